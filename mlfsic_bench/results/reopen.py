"""A run's method, sources and episodes, opened again from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import differences, identity, meaning, run_key
from mlfsic_bench.evaluation.inputs import Inputs, open_inputs
from mlfsic_bench.evaluation.known_names import (
    known_backbone,
    known_method,
    known_split,
    known_weights,
)
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.recall import PATHS, recall_run
from mlfsic_bench.evaluation.record import METHOD, Record, read_record
from mlfsic_bench.features.training_options import PLAIN
from mlfsic_bench.paths import exists, is_file

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.embeddings.formats import Form
    from mlfsic_bench.evaluation.parts import PartView
    from mlfsic_bench.methods.contract import Method, Support


@dataclass(frozen=True)
class RunPaths:
    """What a record does not hold because no score depends on it: where things lie.

    Each is as in `RunPlan`. None takes what this machine remembers of the run, else the name in the
    record, which must be a known one (`evaluation.known_names`), and, for data, MLFSIC_DATA.
    """

    method: str | None = None
    split: str | None = None
    data_root: Path | None = None
    dataset: str | None = None
    embeddings: Path | None = None
    embeddings_format: Form = "auto"
    weights: str | None = None
    episodes_file: Path | None = None
    cache: Path | None = None
    features_pack: Path | None = None


@dataclass(frozen=True, eq=False)
class ReopenedRun:
    """A run's folder, its record, and its inputs as they were when it ran."""

    folder: Path
    record: Record
    inputs: Inputs
    where: RunPaths = RunPaths()

    def dataset(self) -> Dataset:
        """The dataset of the run's split, for its images and objects."""
        from mlfsic_bench.data.registry import dataset_of

        return dataset_of(self.inputs.split.dataset, self.where.data_root, self.where.dataset)

    def episode(self, index: int) -> tuple[Method, Support]:
        """The method as it was after `fit`, and the support set of novel episode `index`.

        Only the features of that support set are made. Raises BenchError for an episode the run
        did not have, and for a run without a saved method.
        """
        inputs = self.inputs
        if not 0 <= index < inputs.count:
            raise BenchError(
                f"the run in {self.folder} has no episode {index}",
                expected=f"a number from 0 to {inputs.count - 1}",
                found=str(index),
                remedy="correct --episode",
            )
        method, view = self._open(range(index, index + 1))
        return method, view.support(index, inputs.episodes.episodes[index])

    def supports(self, count: int | None = None) -> tuple[Method, Iterator[Support]]:
        """The method, and the support sets of the first `count` novel episodes (None: of all).

        Features are made of these support images only. Raises BenchError as `episode`.
        """
        inputs = self.inputs
        count = inputs.count if count is None else count
        if not 1 <= count <= inputs.count:
            raise BenchError(
                f"the run in {self.folder} has no {count} episodes",
                expected=f"a number from 1 to {inputs.count}",
                found=str(count),
                remedy="correct --episodes",
            )
        method, view = self._open(range(count))
        episodes = enumerate(inputs.episodes.episodes[:count])
        return method, (view.support(index, episode) for index, episode in episodes)

    def _open(self, indices: Sequence[int]) -> tuple[Method, PartView]:
        from mlfsic_bench.evaluation.fit import fitted_method

        inputs = self.inputs
        if not exists(self.folder / METHOD):
            raise BenchError(
                f"the run in {self.folder} has no saved method",
                expected=f"a file {METHOD} in the run's folder",
                found=f"status {self.record.status}, no {METHOD}",
                remedy="run the same command again to finish it",
            )
        episodes = inputs.episodes.episodes
        images = tuple(dict.fromkeys(i for k in indices for i in episodes[k].support))
        method, source = fitted_method(
            inputs, images, self.folder, self.record.key, lambda line: None
        )
        return method, inputs.scored(source)


def reopen(folder: Path, where: RunPaths) -> ReopenedRun:
    """The run in `folder`, with the inputs its record names.

    Raises BenchError for a name that is not known here, and when what is found under those names is
    not what the run had: the key made of all hashes must be the record's.
    """
    record = read_record(folder)
    where = _completed(where, record)
    subset = record.subset or {}
    features = record.features
    if features is None:
        raise BenchError(
            f"the run in {folder} had no features",
            expected="a run with a backbone",
            found="a record without features",
            remedy="name another run",
        )
    card = record.method
    source = _source_of(record)
    if where.method is None and source.startswith("sha256:"):
        raise BenchError(
            f"the method {card.name!r} of the run in {folder} is in a file",
            expected="the option --method FILE.py:Class, as the run was given it",
            found="no --method",
            remedy="name the file that the run was made with: --method path/to/file.py:Class",
        )
    given = features.source is not None
    if given and where.features_pack is None:
        raise BenchError(
            f"the features of the run in {folder} were made elsewhere",
            expected="the option --features-pack FILE, as the run was given it",
            found="no --features-pack",
            remedy="name the feature pack or the imported store that the run was made with",
        )
    packed = given and where.features_pack is not None and is_file(where.features_pack)
    plan = RunPlan(
        features_pack=where.features_pack if given else None,
        method=where.method or known_method(card.name, "--method FILE.py:Class"),
        split=where.split or ("" if packed else known_split(record.split.id, "--split FILE")),
        backbone="" if given else known_backbone(features.backbone),
        weights="default"
        if given
        else where.weights or known_weights(features.weights, "--weights FILE"),
        data_root=where.data_root,
        dataset=where.dataset,
        embeddings=where.embeddings,
        embeddings_format=where.embeddings_format,
        available_only=not packed and bool(subset.get("available_only", False)),
        min_pool=None if packed else subset.get("min_pool"),
        base_images=record.base_images.used if record.base_images else None,
        base_labels=record.base_images.labels if record.base_images else None,
        settings={name: _text(value) for name, value in card.parameters.items()},
        seed=card.seed,
        part="val" if record.episodes.part == "val" else "novel",
        protocol=None if record.episodes.part == "val" else record.episodes.drawn_by,
        episodes=None if record.episodes.count == record.episodes.total else record.episodes.count,
        episodes_file=where.episodes_file,
        features=features.mode,
        precision="fp32" if given else features.precision,
        training=features.training.options if features.training else PLAIN,
        device="cpu",
        cache=where.cache,
    )
    inputs = open_inputs(plan)
    wrong = differences(meaning(record.identity), identity(inputs))
    if run_key(record.identity) != record.key:
        wrong.append("a key that is not the hash of the identity in the record")
    if wrong:
        raise BenchError(
            f"what the run in {folder} was made with is not what is here now",
            expected=f"the inputs of the run with key {record.key[:12]}",
            found="; ".join(wrong),
            remedy="name the run's own files (--split, --data-root, --embeddings, --weights, ...)",
        )
    return ReopenedRun(folder, record, inputs, where)


def _completed(where: RunPaths, record: Record) -> RunPaths:
    """What was not named, where it lay when the run was made on this machine."""
    from mlfsic_bench.data.registry import file_of
    from mlfsic_bench.embeddings.joined import sources
    from mlfsic_bench.evaluation.embeddings import NO_FILES

    known: dict[str, Any] = {}
    for name, value in recall_run(record.key).items():
        asked = getattr(where, name)
        if name == "embeddings":
            named = sources(Path(value))
            if asked is None and all(str(one) in NO_FILES or exists(one) for one in named):
                known[name] = Path(value)
            continue
        if name == "dataset":
            file = file_of(value)
        elif name in PATHS or ":" in value or Path(value).is_absolute():
            file = Path(value.rpartition(":")[0] if name == "method" else value)
        else:
            file = None
        if asked is None and file is not None and exists(file):
            known[name] = Path(value) if name in PATHS else value
    return replace(where, **known)


def _source_of(record: Record) -> str:
    method = record.identity.get("method")
    return str(method.get("source", "")) if isinstance(method, dict) else ""


def _text(value: object) -> str:
    # As `--set name=value` would have said it.
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)
