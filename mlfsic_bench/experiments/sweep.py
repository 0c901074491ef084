"""Sweeps: a grid of runs in a short YAML file (docs/scale.md), what is there of it, its results.

Every point of the grid is one run, in a folder `OUT/runs/NAME` that is named after what was chosen,
as `reproduce` names it. Its key is that of the same run made in any other way.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from mlfsic_bench.data.registry import ROOT_VARIABLE
from mlfsic_bench.embeddings.joined import JOIN
from mlfsic_bench.episodes.protocol import find_protocol
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.embeddings import NO_FILES
from mlfsic_bench.evaluation.known_names import known_backbone, known_split, known_weights
from mlfsic_bench.evaluation.plan import FeatureMode, Precision, RunPlan, ScoredPart
from mlfsic_bench.experiments.plan import check_methods, method_of, points_of, run_of
from mlfsic_bench.experiments.run import counted
from mlfsic_bench.experiments.schema import Count, Grid, MethodName, Settings, text_of
from mlfsic_bench.launchers.runs import EXPLAINED, PlannedRun, status_of, unique, why_failed
from mlfsic_bench.launchers.slurm import PAGE, SlurmJobs
from mlfsic_bench.locks import is_held
from mlfsic_bench.schema import FileSchema, InnerPaths, Line, Name, Version, Word, load
from mlfsic_bench.text import for_terminal
from mlfsic_bench.yaml_files import read_yaml

if TYPE_CHECKING:
    from mlfsic_bench.methods.contract import Method

MOST_POINTS = 10_000
State = Literal[
    "done", "running", "queued", "failed", "part", "missing", "other version", "unreadable"
]
STATES: dict[str, str] = {
    **{str(status): words for status, words in EXPLAINED.items()},
    "running": "a process is doing it now",
    "queued": "in a SLURM job that waits for its turn, or for another run of the same job",
    "failed": "the last attempt ended with an error; the same command tries again",
}


def _split(name: str) -> str:
    return known_split(name, "--split")


def _backbone(name: str) -> str:
    return known_backbone(name, "--backbone")


def _weights(name: str) -> str:
    return known_weights(name, "none here: use mlfsic-bench run")


def _unsaid() -> list[Any]:
    return [None]


class SweepMethod(FileSchema):
    """A method of a sweep, with the parameters that vary (`grid`) and those that don't.

    method, preset, settings: as in `mlfsic-bench run`. grid: parameter -> values; every combination
    is a point. seeds: instead of the file's.
    """

    method: MethodName
    preset: Name | None = None
    settings: Settings = Field(default_factory=dict)
    grid: Grid = Field(default_factory=dict)
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _once(self) -> SweepMethod:
        both = sorted(set(self.settings) & set(self.grid))
        if both:
            raise ValueError(f"a parameter in settings or in grid; {both[0]!r} is in both")
        return self


class Sweep(FileSchema):
    """A sweep file; every list is an axis of the grid.

    Attributes
    ----------
    title: for people.
    methods: what is run. A method that does not train is run with the first seed only.
    splits, backbones: as in `mlfsic-bench run`; left out where --split or --backbone says them.
    embeddings: files below the data root, `backbone`, `random`, several of these as `A+B`, or null
        for the data set's own; for methods that use label embeddings.
    seeds: training seeds. shots: images for each label.
    weights, protocol, queries, episodes, part, features, precision, available_only, min_pool: one
        value for all points, as in `mlfsic-bench run`. `features` is of methods that train.
    slurm: what a job of the launcher slurm asks for.
    """

    schema_version: Version
    title: Line
    methods: Annotated[list[SweepMethod], Field(min_length=1)]
    splits: list[Annotated[Line, AfterValidator(_split)]] = Field(default_factory=list)
    backbones: list[Annotated[Line, AfterValidator(_backbone)]] = Field(default_factory=list)
    embeddings: Annotated[list[InnerPaths | None], Field(min_length=1)] = Field(
        default_factory=_unsaid
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [0]
    )
    shots: Annotated[list[Count | None], Field(min_length=1)] = Field(default_factory=_unsaid)
    weights: Annotated[Word, AfterValidator(_weights)] = "default"
    protocol: Word | None = None
    queries: Count | None = None
    episodes: Count | None = None
    part: ScoredPart = "novel"
    features: FeatureMode = "stored"
    precision: Precision = "fp32"
    available_only: bool = False
    min_pool: Count | None = None
    slurm: SlurmJobs = Field(default_factory=SlurmJobs)

    @model_validator(mode="after")
    def _told_apart(self) -> Sweep:
        files = dict.fromkeys(name for name in self.embeddings if name is not None)
        names = [JOIN.join(PurePosixPath(one).name for one in name.split(JOIN)) for name in files]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:  # a run's folder is named after the file: one would hide the other
            raise ValueError(f"two files of label embeddings are called {double!r}; rename one")
        return self


@dataclass(frozen=True)
class SweepOptions:
    """What the command line adds to a sweep file.

    Attributes
    ----------
    out: the folder of the sweep; None for `sweeps/NAME`, after the file.
    split, backbone: instead of the file's; they may be files.
    methods: what a name of the file stands for: name -> `path/to/file.py:Class`.
    dataset, data_root, device, cache: as in `RunPlan`.
    """

    out: Path | None = None
    split: str | None = None
    backbone: str | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    dataset: str | None = None
    data_root: Path | None = None
    device: str = "auto"
    cache: Path | None = None


@dataclass(frozen=True)
class PlannedSweep:
    """A sweep with its runs, in `out/runs`."""

    sweep: Sweep
    out: Path
    runs: tuple[PlannedRun, ...]


def read_sweep(path: Path) -> Sweep:
    """The sweep in a file; BenchError naming the first key that is wrong, and the nearest one."""
    remedy = f"correct the file ({PAGE} shows one)"
    value = read_yaml(path, "sweep file", remedy)
    return load(Sweep, value, str(path), page=PAGE, remedy="copy the file that the page shows")


def plan_sweep(path: Path, options: SweepOptions) -> PlannedSweep:
    """The runs of the sweep in a file, each once, in the order of the grid.

    Points of the same split and backbone lie beside each other, so that a worker opens little.
    Raises BenchError for a file that is wrong and for a method or parameter that does not exist.
    """
    sweep = read_sweep(path)
    check_methods({one.method for one in sweep.methods}, options.methods)
    out = options.out or Path("sweeps") / path.stem
    axes = {"split": sweep.splits, "backbone": sweep.backbones}
    for name, given in (("split", options.split), ("backbone", options.backbone)):
        axes[name] = axes[name] if given is None else [given]
        if not axes[name]:
            raise BenchError(
                f"nothing says which {name} the sweep is about",
                expected=f"{name}s: [NAME, ...] in {path}, or the option --{name}",
                found="neither",
                remedy=f"add {name}s to the file",
            )
    _refuse_many(sweep, len(axes["split"]) * len(axes["backbone"]), path)
    runs = []
    for split, backbone, one in product(axes["split"], axes["backbone"], sweep.methods):
        for plan, method in _points(sweep, one, split, backbone, options):
            runs.append(run_of(plan, method, out))
    return PlannedSweep(sweep, out, tuple(unique(runs)))


def _refuse_many(sweep: Sweep, pairs: int, path: Path) -> None:
    """BenchError for a grid with too many points, before any of them is made."""
    points = (
        len(one.seeds or sweep.seeds) * math.prod(map(len, one.grid.values()))
        for one in sweep.methods
    )
    number = pairs * len(sweep.embeddings) * len(sweep.shots) * sum(points)
    if number > MOST_POINTS:
        raise BenchError(
            f"{path} has too many points",
            expected=f"at most {MOST_POINTS:,} runs in a sweep",
            found=f"{number:,}",
            remedy="leave values out, or make several files",
        )


def _points(
    sweep: Sweep, one: SweepMethod, split: str, backbone: str, options: SweepOptions
) -> Iterator[tuple[RunPlan, Method]]:
    """Every point of one method, on one split with one backbone."""
    from mlfsic_bench.methods.registry import make_method

    spec = method_of(one.method, options.methods)
    fixed = {name: text_of(value) for name, value in one.settings.items()}
    for point in points_of(one.grid):
        settings = fixed | point
        method = make_method(spec, settings, one.preset)
        uses = method.needs_embeddings or method.uses_embeddings
        seeds = one.seeds or sweep.seeds
        for embeddings, shots, seed in product(
            sweep.embeddings if uses else [None],
            sweep.shots,
            seeds if method.trains else seeds[:1],
        ):
            protocol = None
            if sweep.protocol or sweep.queries or shots:
                protocol = find_protocol(sweep.protocol, shots=shots, queries=sweep.queries)
            plan = RunPlan(
                method=spec,
                split=split,
                backbone=backbone,
                weights=sweep.weights,
                data_root=options.data_root,
                dataset=options.dataset,
                embeddings=_embeddings(embeddings, options),
                available_only=sweep.available_only,
                min_pool=sweep.min_pool,
                preset=one.preset,
                settings=settings,
                seed=seed,
                part=sweep.part,
                protocol=protocol,
                episodes=sweep.episodes,
                features=sweep.features if method.trains else "stored",
                precision=sweep.precision,
                device=options.device,
                cache=options.cache,
            )
            yield plan, method


def _embeddings(name: str | None, options: SweepOptions) -> Path | None:
    """The label embeddings of that name: a word of `--embeddings`, or a file of the data root."""
    if name is None:
        return None
    root = options.data_root or os.environ.get(ROOT_VARIABLE)

    def place(one: Path) -> Path:
        if str(one) in NO_FILES:
            return one
        if not root:
            raise BenchError(
                f"nothing says where the label embeddings {one} are",
                expected=f"--data-root FOLDER, or the environment variable {ROOT_VARIABLE}",
                found="neither",
                remedy=f"name the folder that holds {one}",
            )
        return Path(root) / one

    return Path(JOIN.join(str(place(Path(one))) for one in name.split(JOIN)))


# -- what is there of it ------------------------------------------------------------------------


@dataclass(frozen=True)
class RunState:
    """A run of a sweep, what is there of it, and more words on that: a job, or why it failed."""

    run: PlannedRun
    state: State
    more: str = ""


def states_of(runs: Sequence[PlannedRun], queued: Mapping[str, tuple[str, str]]) -> list[RunState]:
    """What is there of each run; `queued` is what `Slurm.queued` says."""
    return [_state_of(run, queued.get(run.folder.name)) for run in runs]


def _state_of(run: PlannedRun, job: tuple[str, str] | None) -> RunState:
    status = status_of(run)
    if status == "done":
        return RunState(run, status)
    where = "" if job is None else f"job {job[0]}, {job[1]}"
    if is_held(run.folder):
        return RunState(run, "running", where)
    if job is not None:
        return RunState(run, "queued", where)
    why = why_failed(run)
    if why and status in ("missing", "part"):
        return RunState(run, "failed", why)
    return RunState(run, status)


def describe_states(states: Sequence[RunState], folder: Path) -> str:
    """A line for each run, then their number by state and what the states mean."""
    lines = []
    for one in states:
        more = f": {one.more.splitlines()[0]}" if one.more else ""
        lines.append(f"{one.state:13} {one.run.folder.name}{more}")
    return "\n".join(map(for_terminal, [*lines, "", *_counts(states, folder)])) + "\n"


def _counts(states: Sequence[RunState], folder: Path) -> list[str]:
    tally = Counter(one.state for one in states)
    shown = ", ".join(f"{n} {state}" for state, n in tally.items())
    lines = [f"{counted(len(states), 'run')} in {folder}: {shown}"]
    return lines + [f"  {state}: {STATES[state]}" for state in tally if state != "done"]
