"""Learning curves: novel AP against the number of base images, from finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from mlfsic_bench.analysis.curve_base import images_used, labels_used, splits_of
from mlfsic_bench.analysis.curve_points import ALWAYS, Curve, Level, Line, Point
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import method_version
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.metrics.registry import check_names
from mlfsic_bench.results.marks import changed, off_defaults
from mlfsic_bench.results.runs import FinishedRun
from mlfsic_bench.results.table import chance_level, labels_of
from mlfsic_bench.splits.split import Split


def curve(
    runs: Sequence[FinishedRun], splits: Sequence[Split] = (), metric: str = ALWAYS[0]
) -> Curve:
    """The learning curves of these runs.

    A run without `base_images` of a method that trains is the point of all base images. The same
    method with other parameters is a line of its own. `splits`: splits at hand, to count the base
    images that were trained on; without, that is known where a split needs no data. `metric`: what
    the points have beside `ALWAYS`.

    Raises BenchError for runs that differ in split, episodes, backbone or label vectors, for a
    point named twice, and without a line.
    """
    metrics = check_names(tuple(dict.fromkeys((*ALWAYS, metric))))
    _check_same(runs)
    total = _base_images(runs)
    at_hand = splits_of(runs, splits)
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(_settings_of(run), []).append(run)
    names = _names([group[0] for group in groups.values()])
    lines, levels = [], []
    for name, group in zip(names, groups.values(), strict=True):
        if group[0].record.method.trains:
            lines.append(_line(name, group, total, at_hand, metrics))
        else:
            levels.append(Level(name, _point(name, group, 0, metrics)))
    first = runs[0]
    micro, macro = chance_level(first)
    record = first.record
    return Curve(
        split=record.split.id,
        split_hash=record.split.hash,
        subset=record.split.subset,
        episodes=record.episodes.count,
        of_episodes=record.episodes.total,
        labels=labels_of(first, "novel labels"),
        backbone=record.features.backbone if record.features else "none",
        words=next((name for run in runs if (name := _words(run)[0])), "none"),
        base_images=total,
        chance={"macro_ap": 100 * macro, "micro_ap": 100 * micro},
        lines=tuple(lines),
        levels=tuple(levels),
        base_labels=len(record.labels["base"]),
        notes=tuple(off_defaults(_changed(run) for run in runs)),
    )


def _changed(run: FinishedRun) -> tuple[str, dict[str, Any]]:
    card = run.record.method
    return card.name, changed(card)


def _line(
    name: str,
    runs: Sequence[FinishedRun],
    total: int,
    splits: Mapping[str, Split],
    metrics: tuple[str, ...],
) -> Line:
    points: dict[int, list[FinishedRun]] = {}
    for run in runs:
        cut = run.record.base_images
        points.setdefault(cut.used if cut else total, []).append(run)
    found = []
    for images in sorted(points):
        run = points[images][0]
        used = images_used(run, total, splits.get(run.record.split.hash))
        point = _point(name, points[images], images, metrics)
        found.append(replace(point, labels=labels_used(run), used=used))
    return Line(name, tuple(found))


def _point(name: str, runs: Sequence[FinishedRun], images: int, metrics: tuple[str, ...]) -> Point:
    from mlfsic_bench.metrics.intervals import t_interval

    ordered = sorted(runs, key=lambda run: run.record.method.seed)
    seeds = tuple(run.record.method.seed for run in ordered)
    for one, two in pairwise(ordered):
        if one.record.method.seed == two.record.method.seed:
            raise BenchError(
                f"{two.folder} is a second run of the same point of the curve",
                expected=f"one run of {name} for each number of base images and training seed",
                found=f"seed {two.record.method.seed} also in {one.folder}",
                remedy="name one of the two",
            )
    values = [run.values(metrics) for run in ordered]
    each = {metric: np.stack([value[metric] for value in values]) for metric in metrics}
    return Point(
        images=images,
        seeds=seeds,
        values={m: tuple(100 * float(t_interval(row)[0]) for row in each[m]) for m in metrics},
        half_width={m: 100 * t_interval(each[m].mean(axis=0))[1] for m in metrics},
    )


def _settings_of(run: FinishedRun) -> str:
    """What makes a line: the method, its version and parameters, but not the training seed."""
    version = method_version(run.record.identity)
    return hash_json([run.record.method.name, version, run.record.method.parameters])


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """A name for each line: the method's, with the parameters it is told apart by."""
    names = [run.record.method.name for run in runs]
    told = []
    for run, name in zip(runs, names, strict=True):
        rest = [r.record.method.parameters for r in runs if r.record.method.name == name]
        own = run.record.method.parameters
        keys = [key for key in own if any(other.get(key) != own[key] for other in rest)]
        told.append(f"{name} ({', '.join(f'{k}={own[k]}' for k in keys)})" if keys else name)
    # The same parameters in another version of the method: numbered in the order they stand in.
    return [
        name if told.count(name) == 1 else f"{name} #{told[: i + 1].count(name)}"
        for i, name in enumerate(told)
    ]


def _words(run: FinishedRun) -> tuple[str, str]:
    """Name and hash of the label vectors, of a method that reads them; empty otherwise."""
    words = run.record.words
    return (words.name, words.hash) if words and run.record.method.uses_words else ("", "")


def _base_images(runs: Sequence[FinishedRun]) -> int:
    found = {run.record.base_images.of for run in runs if run.record.base_images}
    if not any(run.record.method.trains for run in runs) or not found:
        raise BenchError(
            "these runs make no learning curve",
            expected="at least one run of a method that trains, made with --base-images",
            found=f"{len(runs)} runs, none of them with --base-images",
            remedy="run a method with --base-images 200, 1000, ... and name those runs",
        )
    return max(found)


def _check_same(runs: Sequence[FinishedRun]) -> None:
    """BenchError unless nothing but method, base images and training seed differs."""
    told: list[tuple[FinishedRun, dict[str, Any]]] = []
    for run in runs:
        record = run.record
        traits: dict[str, Any] = {
            "split": record.split.hash[:12],
            "episodes": f"{record.episodes.count} of {record.episodes.hash[:12]}",
        }
        if record.features:
            card = record.features
            traits["backbone"] = f"{card.backbone} {card.weights_hash[:12]} {card.precision}"
            traits["features"] = "end-to-end" if card.mode == "end-to-end" else "frozen"
        if _words(run)[1]:
            traits["label vectors"] = " ".join(_words(run)[:1]) + " " + _words(run)[1][:12]
        told.append((run, traits))
    first: dict[str, tuple[FinishedRun, str]] = {}
    for run, traits in told:
        for kind, value in traits.items():
            other, expected = first.setdefault(kind, (run, value))
            if value != expected:
                raise BenchError(
                    f"{run.folder} and {other.folder} differ in their {kind}",
                    expected=f"{kind} {expected} in every run of a curve",
                    found=value,
                    remedy="draw a curve for each",
                )
