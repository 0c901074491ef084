"""Learning curves: novel AP against the number of base images, from finished runs.

A trained method is a line, with a point for each number of base images and in it a value for each
training seed. A method that does not train is a level: base images change nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import base_order, largest_base_labels
from mlfsic_bench.evaluation.record import Record
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.registry import chance_levels, check_names
from mlfsic_bench.results.captions import count_labels, off_defaults
from mlfsic_bench.results.conditions import check_comparable
from mlfsic_bench.results.result import Result, Targets
from mlfsic_bench.results.targets import SplitPlace, can_rebuild, targets_of
from mlfsic_bench.splits.names import unofficial
from mlfsic_bench.splits.split import Split

ALWAYS = ("macro_ap", "micro_ap")  # in every curve, whatever else is asked for


@dataclass(frozen=True)
class Point:
    """A method trained on so many base images, with one or more training seeds.

    Attributes
    ----------
    images: the number of base images, N; 0 for a method that does not train.
    seeds: the training seeds, rising.
    values: metric -> the mean over episodes for each seed, in per cent.
    half_width: metric -> half width of the 95 % Student-t interval over episodes, of the mean over
        seeds in each episode; NaN where there is one episode only.
    labels: base labels trained with; the others had too few of these images. None for a method that
        does not train.
    used: base images trained on, those with one of these labels; None where that is not known.
    """

    images: int
    seeds: tuple[int, ...]
    values: dict[str, tuple[float, ...]]
    half_width: dict[str, float]
    labels: int | None = None
    used: int | None = None

    def mean(self, metric: str) -> float:
        """The mean over seeds."""
        return float(np.mean(self.values[metric]))

    def low(self, metric: str) -> float:
        """The lowest seed's value."""
        return min(self.values[metric])

    def high(self, metric: str) -> float:
        """The highest seed's value."""
        return max(self.values[metric])


@dataclass(frozen=True)
class Line:
    """A trained method: its points, N rising."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Level:
    """A method that does not train: one value, whatever the number of base images."""

    name: str
    point: Point


@dataclass(frozen=True)
class Curve:
    """Everything that a table or a picture of learning curves shows.

    Attributes
    ----------
    split, split_hash, subset: the split; whether it is limited to part of its images.
    episodes, of_episodes: how many novel episodes were run, of how many.
    labels: how many novel labels there are, and which, where some have left.
    backbone, embeddings: names; "none" where there are none.
    base_images, base_labels: base images and base labels of the whole split.
    chance: metric -> what a random ranking is expected to have, in per cent, where known.
    lines, levels: the methods, in the order in which they were first named.
    largest: the numbers of base labels that lines were cut to, those with the most images.
    notes: a sentence where the split is unofficial, and for each method with parameters that are
        not at its defaults.
    """

    split: str
    split_hash: str
    subset: bool
    episodes: int
    of_episodes: int
    labels: str
    backbone: str
    embeddings: str
    base_images: int
    chance: dict[str, float]
    lines: tuple[Line, ...]
    levels: tuple[Level, ...]
    base_labels: int = 0
    largest: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that its points have."""
        points = [point for line in self.lines for point in line.points]
        points += [level.point for level in self.levels]
        return tuple(points[0].values)


def curve(
    results: Sequence[Result],
    splits: Sequence[Split] = (),
    metric: str = ALWAYS[0],
    place: SplitPlace | None = None,
) -> Curve:
    """The learning curves of these runs.

    A run without `base_images` of a method that trains is the point of all base images. The same
    method with other parameters or another number of base labels is a line of its own. `splits`:
    splits at hand, to count the base images that were trained on; without, that is known where a
    split needs no data. `metric`: what the points have beside `ALWAYS`.

    Raises BenchError for runs that differ in split, episodes, backbone or label embeddings, for a
    point named twice, and without a line.
    """
    metrics = check_names(tuple(dict.fromkeys((*ALWAYS, metric))))
    _check_same(results)
    total = _base_images(results)
    at_hand = _splits_of(results, splits)
    targets = targets_of(results, place)
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(_settings_of(result), []).append(result)
    names = _names([group[0] for group in groups.values()])
    lines, levels = [], []
    for name, group in zip(names, groups.values(), strict=True):
        if group[0].method.trains:
            lines.append(_line(name, group, total, at_hand, metrics, targets))
        else:
            levels.append(Level(name, _point(name, group, 0, metrics, targets)))
    record = _record(results[0])
    micro, macro = chance_levels(targets.targets)
    return Curve(
        split=record.split.id,
        split_hash=record.split.hash,
        subset=record.split.subset,
        episodes=record.episodes.count,
        of_episodes=record.episodes.total,
        labels=count_labels(
            record.split.id,
            results[0].meta.labels,
            subset=record.split.subset,
            of_record=record.subset,
            noun="novel labels",
            part=record.episodes.part,
        ),
        backbone=record.features.backbone if record.features else "none",
        embeddings=next((name for r in results if (name := _embeddings(r)[0])), "none"),
        base_images=total,
        chance={"macro_ap": 100 * macro, "micro_ap": 100 * micro},
        lines=tuple(lines),
        levels=tuple(levels),
        base_labels=len(record.labels["base"]),
        largest=tuple(sorted({r.base_images.labels or 0 for r in results if r.base_images} - {0})),
        notes=(
            *unofficial(record.split.id, record.split.differs_from_official),
            *off_defaults((r.method.name, r.changed) for r in results),
        ),
    )


def _record(result: Result) -> Record:
    """The record; a learning curve is made of runs alone."""
    if result.record is None:
        raise BenchError(
            f"{result.path} is no run's folder",
            expected="runs, whose records say how many base images they had",
            found="a scores file without its record",
            remedy="name the folder of the run",
        )
    return result.record


def _line(
    name: str,
    results: Sequence[Result],
    total: int,
    splits: Mapping[str, Split],
    metrics: tuple[str, ...],
    targets: Targets,
) -> Line:
    points: dict[int, list[Result]] = {}
    for result in results:
        cut = result.base_images
        points.setdefault(cut.used if cut else total, []).append(result)
    found = []
    for images in sorted(points):
        record = _record(points[images][0])
        used = images_used(record, total, splits.get(record.split.hash))
        point = _point(name, points[images], images, metrics, targets)
        found.append(replace(point, labels=labels_used(record), used=used))
    return Line(name, tuple(found))


def _point(
    name: str,
    results: Sequence[Result],
    images: int,
    metrics: tuple[str, ...],
    targets: Targets,
) -> Point:
    ordered = sorted(results, key=lambda result: result.seed)
    seeds = tuple(result.seed for result in ordered)
    for one, two in pairwise(ordered):
        if one.seed == two.seed:
            raise BenchError(
                f"{two.path} is a second run of the same point of the curve",
                expected=f"one run of {name} for each number of base images and training seed",
                found=f"seed {two.seed} also in {one.path}",
                remedy="name one of the two",
            )
    values = [result.values(metrics, targets) for result in ordered]
    each = {metric: np.stack([value[metric] for value in values]) for metric in metrics}
    return Point(
        images=images,
        seeds=seeds,
        values={m: tuple(100 * float(t_interval(row)[0]) for row in each[m]) for m in metrics},
        half_width={m: 100 * t_interval(each[m].mean(axis=0))[1] for m in metrics},
    )


def _settings_of(result: Result) -> str:
    """What makes a line: method, version, parameters, base labels, but not seed or base images."""
    name = name_of(_record(result))
    return hash_json([name, result.version, result.method.parameters])


def name_of(record: Record) -> str:
    """The name of a run's line: its method, and how many base labels where these were cut."""
    labels = record.base_images.labels if record.base_images else None
    return record.method.name + (f", base_labels={labels}" if labels else "")


def _names(results: Sequence[Result]) -> list[str]:
    """A name for each line (`name_of`), with the parameters in which lines of it differ."""
    names = [name_of(_record(result)) for result in results]
    named = []
    for result, name in zip(results, names, strict=True):
        rest = [r.method.parameters for r, n in zip(results, names, strict=True) if n == name]
        own = result.method.parameters
        keys = [key for key in own if any(other.get(key) != own[key] for other in rest)]
        named.append(f"{name} ({', '.join(f'{k}={own[k]}' for k in keys)})" if keys else name)
    # The same parameters in another version of the method: numbered in the order they stand in.
    return [
        name if named.count(name) == 1 else f"{name} #{named[: i + 1].count(name)}"
        for i, name in enumerate(named)
    ]


def _embeddings(result: Result) -> tuple[str, str]:
    """Name and hash of the label embeddings, of a method that reads them; empty otherwise."""
    found = _record(result).words
    return (found.name, found.hash) if found and result.method.uses_words else ("", "")


def _base_images(results: Sequence[Result]) -> int:
    found = {result.base_images.of for result in results if result.base_images}
    if not any(result.method.trains for result in results) or not found:
        raise BenchError(
            "these runs make no learning curve",
            expected="at least one run of a method that trains, made with --base-images",
            found=f"{len(results)} runs, none of them with --base-images",
            remedy="run a method with --base-images 200, 1000, ... and name those runs",
        )
    return max(found)


def _check_same(results: Sequence[Result]) -> None:
    """BenchError unless nothing but method, base images and training seed differs."""
    check_comparable(results)
    first: dict[str, tuple[Result, str]] = {}
    for result in results:
        features, (embeddings, words_hash) = _record(result).features, _embeddings(result)
        made_with = {}
        if features:
            weights = f"{features.weights_hash[:12]} {features.precision}"
            made_with["backbone"] = f"{features.backbone} {weights}"
            made_with["features"] = "end-to-end" if features.mode == "end-to-end" else "frozen"
        if words_hash:
            made_with["label embeddings"] = f"{embeddings} {words_hash[:12]}"
        for kind, value in made_with.items():
            other, expected = first.setdefault(kind, (result, value))
            if value != expected:
                raise BenchError(
                    f"{result.path} and {other.path} differ in their {kind}",
                    expected=f"{kind} {expected} in every run of a curve",
                    found=value,
                    remedy="draw a curve for each",
                )


def labels_used(record: Record) -> int:
    """How many base labels the run trained with: not cut, and with images enough."""
    cut = record.base_images.labels if record.base_images else None
    return (cut or len(record.labels["base"])) - len(record.excluded_labels.get("base", []))


def images_used(record: Record, total: int, split: Split | None) -> int | None:
    """How many base images the run trained on, of `total` in the split.

    With a label that is excluded go the images that no other label is left of (docs/methodology.md,
    M48). `split` is only read when labels are excluded; None when it is needed and not there.
    """
    given = record.base_images.used if record.base_images else total
    out = set(record.excluded_labels.get("base", []))
    if not out:
        return given
    if split is None:
        return None
    labels = record.base_images.labels if record.base_images else None
    base = largest_base_labels(split, labels) if labels else split.base
    kept = [i for i, label in enumerate(base.labels) if label not in out]
    chosen = set(base_order(split.hash, base.image_ids)[:given])
    rows = [i for i, image in enumerate(base.image_ids) if image in chosen]
    return int(np.count_nonzero(base.targets[np.ix_(rows, kept)].any(axis=1)))


def _splits_of(results: Sequence[Result], known: Sequence[Split]) -> dict[str, Split]:
    """The split of these runs by its hash: from `known`, or made anew where that needs no data."""
    from mlfsic_bench.evaluation.recall import recall_split
    from mlfsic_bench.splits.resolve import resolve_split

    found = {split.hash: split for split in known}
    for result in results:
        named = result.meta.split
        needed = result.method.trains and _record(result).excluded_labels.get("base")
        if not needed or named.hash in found:
            continue
        try:
            split = (
                resolve_split(named.id, data_root=None)
                if can_rebuild(result.meta)
                else recall_split(named.hash)
            )
        except BenchError:
            continue
        if split is not None:
            found[named.hash] = split
    return found
