"""From an experiment, a profile and a user's options to the runs of every row."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from mlfsic_bench.data.registry import ROOT_VARIABLE, data_root, needs_root
from mlfsic_bench.embeddings.joined import JOIN, name_of
from mlfsic_bench.embeddings.label_embeddings import RANDOM
from mlfsic_bench.episodes.protocol import find_protocol
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.evaluation.known_names import known_method
from mlfsic_bench.evaluation.plan import FeatureMode, RunPlan
from mlfsic_bench.experiments.schema import (
    METHOD_OPTION,
    Experiment,
    Grid,
    Profile,
    RowSpec,
    embeddings_files,
    embeddings_names,
    grid_of,
    text_of,
)
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.launchers.runs import PlannedRun
from mlfsic_bench.paths import is_file

if TYPE_CHECKING:
    from mlfsic_bench.methods.contract import Method

PAPERS_BACKBONE = "resnet50"


@dataclass(frozen=True)
class Options:
    """What a user says on the command line.

    Attributes
    ----------
    dataset: the profile's name.
    out: the folder that all reproductions share.
    only: names of the rows to run; empty for all. The others show what is there already.
    seeds: training seeds of every method that trains; None for the profile's number. Rows that
        `only` leaves out show those that are there.
    backbone: stands for the paper's ResNet-50, instead of the profile's substitute.
    weights: of the network that stands for ResNet-50.
    methods: what an unregistered name of a method stands for: name -> `path/to/file.py:Class`.
    features: of methods that train, instead of the profile's.
    data_root, device, cache: as in `RunPlan`.
    """

    dataset: str
    out: Path = Path("reproduce")
    only: tuple[str, ...] = ()
    seeds: int | None = None
    backbone: str | None = None
    weights: str = "default"
    methods: dict[str, str] = field(default_factory=dict)
    features: FeatureMode | None = None
    data_root: Path | None = None
    device: str = "auto"
    cache: Path | None = None

    @property
    def folder(self) -> Path:
        """Where tables and runs of this dataset lie."""
        return self.out / self.dataset


@dataclass(frozen=True)
class PlannedTrial:
    """A point of a row's grid, tried on val with training seed 0.

    Attributes
    ----------
    settings: the grid's parameters at this point, as text; empty where there is no grid.
    run: on the val episodes.
    """

    settings: Mapping[str, str]
    run: PlannedRun


Chooses = Callable[[Mapping[str, str]], "tuple[Method, tuple[PlannedRun, ...]]"]


@dataclass(frozen=True)
class PlannedRow:
    """A row with its runs, or the reason why there are none.

    Attributes
    ----------
    spec: the row of the experiment file.
    method: a method with the row's parameters.
    runs: one for each training seed (and, in a curve, for each number of base images).
    not_run: why there are no runs; empty when there are.
    left_out: whether --only names other rows.
    trials: what is tried on val before there are `runs`, of a tuned experiment.
    chosen: the number of the trial whose settings the runs have; None before that is known.
    chooses: gives the method and the runs of a trial's settings.
    """

    spec: RowSpec
    method: Method
    runs: tuple[PlannedRun, ...] = ()
    not_run: str = ""
    left_out: bool = False
    trials: tuple[PlannedTrial, ...] = ()
    chosen: int | None = None
    chooses: Chooses | None = None

    def choose(self, number: int) -> PlannedRow:
        """The row with the runs that the trial of this number asks for."""
        assert self.chooses is not None
        method, runs = self.chooses(self.trials[number].settings)
        return replace(self, method=method, runs=runs, chosen=number)


def plan_rows(experiment: Experiment, profile: Profile, options: Options) -> list[PlannedRow]:
    """Every row of the experiment, in its order.

    Raises BenchError where the experiment makes no sense on this profile, for unknown names in
    `only` and in the experiment, and for a method or parameter that does not exist.
    """
    check_methods({row.method for row in experiment.rows}, options.methods)
    if options.dataset in experiment.not_on:
        raise BenchError(
            f"{experiment.title} can't be reproduced on {options.dataset}",
            expected="a dataset that the experiment is about",
            found=f"{options.dataset}: {experiment.not_on[options.dataset]}",
            remedy="choose another --dataset, or another experiment",
        )
    if experiment.kind == "curve" and options.dataset not in experiment.base_images:
        raise unknown_name("dataset of this curve", options.dataset, experiment.base_images)
    names = [row.name for row in experiment.rows]
    for name in options.only:
        if name not in names:
            raise unknown_name("row", name, names)
    return [_row(row, experiment, profile, options) for row in experiment.rows]


def check_methods(methods: Collection[str], given: Mapping[str, str]) -> None:
    """BenchError unless --method says what file each name of a file's `methods` stands for."""
    from mlfsic_bench.methods.registry import method_names
    from mlfsic_bench.plugins.files import names_a_file

    for name, spec in given.items():
        if name not in methods:
            raise unknown_name("method of the file, in --method,", name, methods)
        if name in method_names() or not names_a_file(spec):
            raise BenchError(
                f"--method {name}={spec} can't be used",
                expected=f"{METHOD_OPTION}, with a name under which no method is registered",
                found=f"{name!r} is registered" if name in method_names() else f"{spec!r}",
                remedy="call the method otherwise, in the file too, or correct the option",
            )


def method_of(name: str, given: Mapping[str, str]) -> str:
    """What a run is given as the method that a file names; `given` is what --method says."""
    return given.get(name) or known_method(name, METHOD_OPTION)


def check_data_root(split: str, root: Path | None) -> None:
    """BenchError when the images of a split need a data root and there is none."""
    from mlfsic_bench.splits.resolve import split_file

    name = split_file(split).dataset
    if needs_root(name):
        data_root(name, root)


def _row(spec: RowSpec, experiment: Experiment, profile: Profile, options: Options) -> PlannedRow:
    from mlfsic_bench.methods.registry import make_method

    settings = settings_of(spec, profile, options, chosen=experiment.tuned)
    named = method_of(spec.method, options.methods)
    method = make_method(named, settings, spec.preset)
    row = PlannedRow(
        spec,
        method,
        left_out=bool(options.only) and spec.name not in options.only,
    )
    backbone, missing = _backbone(spec, experiment, profile, options)
    if missing:
        return replace(row, not_run=f"no weights at hand in place of {missing}")
    embeddings, looked_for = _embeddings(spec, method, profile, options)
    if looked_for:
        return replace(row, not_run=f"no file for {looked_for}")
    plan = RunPlan(
        method=named,
        split=experiment.splits.get(options.dataset, profile.split),
        backbone=backbone,
        weights=_weights(spec, backbone, options),
        data_root=options.data_root,
        embeddings=embeddings,
        available_only=profile.available_only,
        min_pool=profile.min_pool,
        preset=spec.preset,
        settings=settings,
        part=experiment.part,
        protocol=None
        if experiment.part == "val"
        else find_protocol(spec.protocol, shots=spec.shots, queries=spec.queries),
        base_images=spec.base_images,
        base_labels=spec.base_labels,
        episodes=spec.episodes or profile.episodes.get(method.name),
        features=_features(spec, method, profile, options),
        device=options.device,
        cache=options.cache,
    )
    sizes: list[int | None] = [spec.base_images]
    if experiment.kind == "curve" and method.trains:
        numbers = dict.fromkeys(experiment.base_images[options.dataset])
        sizes = [None if number == "all" else number for number in numbers]

    def made(point: Mapping[str, str]) -> tuple[Method, tuple[PlannedRun, ...]]:
        own = settings | dict(point)
        method = make_method(named, own, spec.preset)
        base, runs = replace(plan, settings=own), []
        for size in sizes:
            for seed in range(_seeds(spec, method, profile, options, row.left_out)):
                one = replace(base, seed=seed, base_images=size)
                runs.append(run_of(one, method, options.folder))
        return method, tuple(runs)

    if not experiment.tuned or profile.no_val:
        return replace(row, runs=made({})[1])
    trials = []
    for point in _points(spec, method):
        own = settings | point
        one = replace(plan, settings=own, part="val", protocol=None, episodes=None)
        tried = make_method(named, own, spec.preset)
        trials.append(PlannedTrial(point, run_of(one, tried, options.folder)))
    return replace(row, trials=tuple(trials), chooses=made)


def run_of(plan: RunPlan, method: Method, out: Path) -> PlannedRun:
    """The run of a plan, in a folder below `OUT/runs` that is named after what was chosen."""
    folder = out / "runs" / slug_of(plan, method)
    return PlannedRun(replace(plan, out=folder), folder)


def _points(spec: RowSpec, method: Method) -> list[dict[str, str]]:
    """The points of a row's grid; one without settings where it has none or is literal."""
    grid = {} if spec.literal else grid_of(method.name)
    return points_of({name: values for name, values in grid.items() if name not in spec.settings})


def points_of(grid: Grid) -> list[dict[str, str]]:
    """The points of a grid, each parameter -> text; one without parameters where it is empty."""
    values = ([text_of(value) for value in each] for each in grid.values())
    return [dict(zip(grid, point, strict=True)) for point in product(*values)]


def settings_of(
    spec: RowSpec, profile: Profile, options: Options, *, chosen: bool = False
) -> dict[str, str]:
    """The row's settings: the profile's for the method, overridden by the row's own.

    chosen: take over what another profile chose, where this one can't choose.
    """
    from mlfsic_bench.methods.registry import find_method

    name = find_method(method_of(spec.method, options.methods)).name
    values = dict(profile.settings.get(name, {}))
    if (spec.features or options.features or profile.features) == "end-to-end":
        values |= profile.end_to_end.get(name, {})
    if chosen and not spec.literal:
        values |= profile.chosen.get(name, {})
    return {key: text_of(value) for key, value in (values | spec.settings).items()}


def _features(spec: RowSpec, method: Method, profile: Profile, options: Options) -> FeatureMode:
    if not method.trains:
        return "stored"
    return spec.features or options.features or profile.features


def _seeds(
    spec: RowSpec, method: Method, profile: Profile, options: Options, left_out: bool
) -> int:
    """How many training seeds; of a row that is left out as many as may be there."""
    seeds = profile.seeds
    if not method.trains:
        return seeds.untrained
    number = seeds.methods.get(method.name, seeds.trained)
    return max(number, options.seeds or 0) if left_out else options.seeds or number


def _backbone(
    spec: RowSpec, experiment: Experiment, profile: Profile, options: Options
) -> tuple[str, str]:
    """(the network that is used, "") or ("", the paper's network that nothing stands for)."""
    stands = profile.backbones | experiment.backbones.get(options.dataset, {})
    if options.backbone is not None:
        stands[PAPERS_BACKBONE] = options.backbone
    parts = spec.backbone.split("+")
    for part in parts:
        if part not in stands:
            return "", part
    return "+".join(stands[part] for part in parts), ""


def _weights(spec: RowSpec, backbone: str, options: Options) -> str:
    """--weights for the network in ResNet-50's place, the default for every other one."""
    parts = spec.backbone.split("+")
    each = [options.weights if part == PAPERS_BACKBONE else "default" for part in parts]
    return each[0] if set(each) == {each[0]} else "+".join(each)


def _embeddings(
    spec: RowSpec, method: Method, profile: Profile, options: Options
) -> tuple[Path | None, str]:
    """(file, "") or (None, name of the vectors that no file was found for)."""
    wanted = method.needs_embeddings or (method.uses_embeddings and spec.embeddings is not None)
    if wanted and spec.embeddings == RANDOM:
        return Path(RANDOM), ""
    if not wanted or profile.own_embeddings or method.needs_text_side:
        return None, ""
    if spec.embeddings is None:
        raise BenchError(
            f"the row {spec.name!r} names no label embeddings",
            expected=f"embeddings: NAME in the row, because {method.name} needs them",
            found="no embeddings",
            remedy=f"name one of: {', '.join(embeddings_names())}",
        )
    root = options.data_root or os.environ.get(ROOT_VARIABLE)
    found: list[str] = []
    for one in spec.embeddings.split(JOIN):
        files = [Path(str(root)) / name for name in embeddings_files(one)] if root else []
        file = next(filter(is_file, files), None)
        if file is None:
            return None, one
        found.append(str(file))
    return Path(JOIN.join(found)), ""


def slug_of(plan: RunPlan, method: Method) -> str:
    """Readable beginning, then 8 digits of a hash over all that a user chose about the run.

    Parameters are taken as `method` has them, so a default that one table spells out and another
    leaves out makes one run. A run's key still decides whether a folder holds the run in question.
    """
    protocol = plan.protocol or find_protocol()
    public = {
        "method": plan.method,
        "parameters": method.params.model_dump(mode="json"),
        "split": plan.split,
        "available_only": plan.available_only,
        "min_pool": plan.min_pool,
        "backbone": plan.backbone,
        "weights": plan.weights,
        "words": _words(plan) or None,
        "features": plan.features,
        "precision": plan.precision,
        "protocol": protocol.name,
        **{"shots": None, **protocol.choices},
        "episodes": plan.episodes,
        "base_images": plan.base_images,
        "seed": plan.seed,
        # Keys of their own, so that what was run before there were such options keeps its name.
        **({} if plan.part == "novel" else {"part": plan.part}),
        **({} if plan.base_labels is None else {"base_labels": plan.base_labels}),
    }
    parts = [method.name, plan.network]
    if plan.embeddings:
        names = _words(plan).split(JOIN)
        parts.append(JOIN.join(one.removesuffix(".txt").removesuffix(".labels") for one in names))
    if protocol.tag:
        parts.append(protocol.tag.replace("-", ""))
    if plan.base_labels:
        parts.append(f"{plan.base_labels}labels")
    if plan.base_images:
        parts.append(f"{plan.base_images}images")
    if plan.part != "novel":
        parts.append(plan.part)
    parts += [f"seed{plan.seed}", hash_json(public)[:8]]
    return "-".join(map(slug, parts))


def _words(plan: RunPlan) -> str:
    """What the label embeddings of a plan are called; empty without any."""
    given = plan.embeddings
    return name_of(given) if isinstance(given, Path) else given.name if given else ""


def slug(text: str) -> str:
    """`text` as a part of a file's name.

    >>> slug("timm:resnet18.a1")
    'timm_resnet18.a1'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "_", text)
