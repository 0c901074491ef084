"""`evaluate`: runs of methods from Python, by the functions that the command line calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlfsic_bench.api.loading import (
    Features,
    LoadedSplit,
    PathLike,
    check_episodes,
    loaded,
    path_or_none,
)
from mlfsic_bench.api.results import Results
from mlfsic_bench.episodes.files import find_episodes
from mlfsic_bench.episodes.protocol import EpisodeSet
from mlfsic_bench.errors import BenchError, described
from mlfsic_bench.evaluation.audit.audit import failure_of
from mlfsic_bench.evaluation.identity import identity, run_key
from mlfsic_bench.evaluation.inputs import Inputs, open_inputs
from mlfsic_bench.evaluation.plan import (
    UNVERSIONED,
    FeatureMode,
    Precision,
    RunPlan,
    ScoredPart,
    settings_of,
)
from mlfsic_bench.evaluation.recall import remember_run
from mlfsic_bench.evaluation.runner import execute, folder_of
from mlfsic_bench.features.store.manifest import default_cache
from mlfsic_bench.features.training_options import PLAIN, Training
from mlfsic_bench.files import make_folder, write_bytes
from mlfsic_bench.paths import exists
from mlfsic_bench.progress import LOG
from mlfsic_bench.results.result import Result, open_result
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.embeddings.label_embeddings import LabelEmbeddings
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.methods.contract import Method
    from mlfsic_bench.splits.split import Split


def evaluate(
    method: str | type[Method] | Method | Sequence[str | type[Method] | Method],
    *,
    split: Split | PathLike,
    episodes: EpisodeSet | int | PathLike | None = None,
    features: Features | FeatureMode | PathLike = "stored",
    backbone: str | Backbone | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    part: ScoredPart = "novel",
    settings: Mapping[str, object] | None = None,
    preset: str | None = None,
    weights: str = "default",
    embeddings: LabelEmbeddings | PathLike | None = None,
    templates: Sequence[str] = (),
    base_images: int | None = None,
    base_labels: int | None = None,
    data_root: PathLike | None = None,
    dataset: str | Dataset | None = None,
    available_only: bool = False,
    min_pool: int | None = None,
    precision: Precision = "fp32",
    training: Training | None = None,
    device: str = "auto",
    cache: PathLike | None = None,
    out: PathLike | None = None,
    log: Callable[[str], None] | None = None,
) -> Results:
    """Fit methods on the base part and score the novel episodes: a run for each method and seed.

    A run is what `mlfsic-bench run` makes: the same key, the same scores, the same files. Runs are
    kept, so that the same call again returns at once; `Results.save` copies them to where they
    should stay.

    Parameters
    ----------
    method: a name of `mlfsic-bench methods list`, `path/to/file.py:Class`, a class that derives
        from `mlfsic_bench.Method`, or an object of one; or a list of them, which share what is
        opened. A class without a file, such as one of a notebook, runs as unversioned: each call
        runs it anew, no audit is made, and it can't enter the leaderboard.
    split: as `load_split` gives it, or what that takes.
    episodes: as `load_episodes` gives them, an episode file, or a number for the first so many of
        the split's own; None for all of those.
    features: as `load_features` gives them; or `stored`, `live` or `end-to-end`, with a `backbone`;
        or the file of a feature pack or the folder of an imported store, which need none.
    backbone, weights, precision, device: what makes the features, where `features` does not say so.
    training: `mb.Training(...)`, how a live network is computed and trained (docs/scale.md).
    seeds: the training seeds, each a run.
    part: `val` scores the val episodes: a trial, to choose parameters by.
    settings, preset: the parameters of the method, by name; not for an object, which has them. Of
        several methods `name` is for all, and `METHOD.name` for one.
    embeddings: a file of label embeddings; `backbone` for those of the backbone's text side; the
        folder of a sentence encoder; `random` for a control; `A+B` for several of these; or
        LabelEmbeddings of all labels of the split.
    templates: texts that labels are written into, such as `a photo of a {}.`, for an encoder.
    base_images, base_labels: train on the first so many base images, or on the so many base labels
        with the most images only.
    data_root, dataset, available_only, min_pool: as for `load_split`, for a split that is named.
    cache: where features and runs are kept; None for MLFSIC_CACHE, else ~/.cache/mlfsic-bench.
    out: a folder to make the runs in, as the command line does in `runs`; None for the cache.
    log: gets a line for each run and lines of progress, as in `log=print`; None for the logger
        `mlfsic_bench`, which says nothing unless asked.

    Raises BenchError for bad input, and when a method fails. A run whose audit fails is a warning,
    and marked in every table.

    >>> import mlfsic_bench as mb
    >>> split = mb.load_split("scenes-12-6-6-v1")
    >>> features = mb.load_features(split, "scenes-small")
    >>> results = mb.evaluate("protonet", split=split, episodes=5, features=features, seeds=[0])
    >>> results.to_dataframe(["macro_ap"]).shape  # a row for each episode
    (5, 6)
    """
    own = loaded(
        split,
        data_root=path_or_none(data_root),
        dataset=dataset,
        available_only=available_only,
        min_pool=min_pool,
    )
    made = _features(features, backbone, own, weights=weights, precision=precision, device=device)
    made["cache"] = path_or_none(cache) or made.get("cache")
    kept = made["cache"] or default_cache()
    plan = replace(
        own.plan,
        settings=_settings(settings),
        preset=preset,
        part=part,
        embeddings=_embeddings(embeddings),
        templates=(templates,) if isinstance(templates, str) else tuple(templates),
        base_images=base_images,
        base_labels=base_labels,
        training=training or PLAIN,
        **_episodes(episodes, own, kept),
        **made,
    )
    methods = _listed("method", method)
    names = [one if isinstance(one, str) else getattr(one, "name", "") for one in methods]
    opened = []
    for one, name in zip(methods, names, strict=True):
        chosen = settings_of(name, names, plan.settings)
        opened += _opened(replace(plan, method=one, settings=chosen), _seeds(seeds), own)
    found = [_run(inputs, plan, kept, path_or_none(out), log or LOG.info) for inputs in opened]
    return Results(tuple(found))


def _opened(plan: RunPlan, seeds: Sequence[int], split: LoadedSplit) -> list[Inputs]:
    """The inputs of one method with each seed."""
    found = [open_inputs(replace(plan, seed=seed), split.opened) for seed in seeds]
    if found[0].method_source.startswith(UNVERSIONED):
        # The seeds of one call are of one class, whose code can't change meanwhile.
        found = [replace(one, method_source=found[0].method_source) for one in found]
    return found


def _run(
    inputs: Inputs, plan: RunPlan, kept: Path, out: Path | None, log: Callable[[str], None]
) -> Result:
    key = run_key(identity(inputs))
    folder = kept / "evaluated" / key if out is None else out / folder_of(inputs).name
    execute(inputs, folder, log)
    if inputs.plan is None:  # what it was made with is remembered all the same
        remember_run(key, plan)
    result = open_result(folder)
    record = result.record
    assert record is not None
    ap = record.metrics["macro_ap"]
    value = "" if ap.mean is None else f": macro-AP {100 * ap.mean:.2f}"
    log(for_terminal(f"{inputs.method.name}, seed {inputs.seed}{value}"))
    failure = failure_of(record, folder)
    if failure is not None:
        warnings.warn(str(failure), stacklevel=3)
    return result


def _features(
    features: object, backbone: object, split: LoadedSplit, **options: Any
) -> dict[str, Any]:
    """The fields of a plan that say what the features are."""
    if isinstance(features, Features):
        if features.dataset != split.dataset or backbone is not None:
            raise BenchError(
                "these features can't be used here",
                expected=f"features of the dataset {split.dataset!r}, without a backbone beside "
                "them",
                found=f"features of {features.dataset!r}"
                + ("" if backbone is None else f", and backbone={described(backbone)}"),
                remedy="load them for this split: mb.load_features(split, backbone)",
            )
        names = (
            "backbone",
            "weights",
            "features_pack",
            "precision",
            "device",
            "cache",
            "batch_size",
            "workers",
        )
        return {name: getattr(features.plan, name) for name in names}
    if isinstance(features, (str, Path)) and features not in get_args(FeatureMode):
        return {"features_pack": Path(features), "backbone": backbone or "", **options}
    if not isinstance(features, str):
        raise BenchError(
            "these are no features",
            expected="what mb.load_features gave, a feature pack, or one of: "
            + ", ".join(get_args(FeatureMode)),
            found=described(features),
            remedy="load them: features = mb.load_features(split, backbone)",
        )
    if backbone is None and split.plan.features_pack is not None:
        return {"backbone": "", **options}
    if backbone is None:
        raise BenchError(
            "nothing says what makes the features",
            expected="backbone=NAME, or features=mb.load_features(split, NAME)",
            found="neither",
            remedy="name a backbone, such as 'resnet50', or 'scenes-small' for scenes",
        )
    return {"features": features, "backbone": backbone, **options}


def _settings(given: object) -> dict[str, object]:
    """The parameters of a method, by name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise BenchError(
            "these are no settings",
            expected="parameters by name, such as {'centre': True}",
            found=described(given),
            remedy="correct settings; `mlfsic-bench methods show NAME` lists a method's parameters",
        )
    return dict(given)


def _embeddings(given: object) -> LabelEmbeddings | Path | None:
    from mlfsic_bench.embeddings.label_embeddings import LabelEmbeddings

    if isinstance(given, str):
        return Path(given)
    if given is None or isinstance(given, (Path, LabelEmbeddings)):
        return given
    raise BenchError(
        "these are no label embeddings",
        expected="a file, the folder of a sentence encoder, `backbone`, or LabelEmbeddings",
        found=described(given),
        remedy="correct embeddings",
    )


def _episodes(given: object, split: LoadedSplit, cache: Path) -> dict[str, Any]:
    """The fields of a plan that say what the episodes are."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return {"episodes": given}
    if isinstance(given, (str, Path)):
        return {"episodes_file": Path(given)}
    check_episodes(given, split)
    assert isinstance(given, EpisodeSet)
    if given.part != "novel":
        raise BenchError(
            "a run scores novel episodes",
            expected="episodes of the part novel",
            found=f"episodes of the part {given.part}",
            remedy="load those: mb.load_episodes(split)",
        )
    if find_episodes(given.protocol, split).hash == given.hash:
        return {"protocol": given.protocol}
    # Others are kept in a file, as the command line names them.
    file = cache / "evaluated" / "episodes" / f"{given.hash}.json"
    if not exists(file):
        make_folder(file.parent)
        write_bytes(file, given.format())
    return {"protocol": given.protocol, "episodes_file": file}


def _seeds(given: object) -> list[int]:
    seeds = _listed("seed", given)
    if any(type(one) is not int or one < 0 for one in seeds) or len(set(seeds)) < len(seeds):
        raise BenchError(
            "these are no training seeds",
            expected="different whole numbers of at least 0, such as [0, 1, 2]",
            found=repr(seeds)[:80],
            remedy="correct seeds",
        )
    return seeds


def _listed(kind: Literal["method", "seed"], given: Any) -> list[Any]:
    """One or several as a list; at least one."""
    several = list(given) if isinstance(given, (list, tuple, range)) else [given]
    if not several:
        raise BenchError(
            f"there is no {kind} to run",
            expected=f"a {kind}, or a list of them",
            found="an empty list",
            remedy=f"name a {kind}",
        )
    return several
