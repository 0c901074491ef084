"""A learning curve as text, in Markdown and in CSV."""

from __future__ import annotations

import math

from mlfsic_bench.analysis.curve import Curve, Point
from mlfsic_bench.analysis.slope import check_metric, sentences
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.captions import SUBSET
from mlfsic_bench.results.table import Table, table, to_markdown, to_text
from mlfsic_bench.text import csv_text


def title(curve: Curve, metric: str) -> str:
    """What a picture says above itself; a subset and a part of the episodes are marked."""
    marks = ["SUBSET of the split's images"] if curve.subset else []
    if curve.episodes < curve.of_episodes:
        marks.append(f"first {curve.episodes} of {curve.of_episodes} episodes")
    told = "".join(f" ({mark})" for mark in marks)
    return f"Novel {METRICS[metric].text} on {curve.split}{told}"


def caption(curve: Curve) -> list[str]:
    """Sentences that belong under the table and the picture."""
    lines = [
        f"Split {curve.split} ({curve.split_hash[:12]}): {curve.labels}, "
        f"{curve.base_images:,} base images; {curve.episodes} episodes; backbone {curve.backbone}; "
        f"label embeddings {curve.embeddings}.",
        "Every point is scored on the same novel episodes, and what trains selects on the same val "
        "episodes; a smaller number's base images are among those of a larger one.",
        "Mean over training seeds in per cent, the lowest to the highest seed, and ± the half "
        "width of a 95 % Student-t interval over episodes of the mean over seeds.",
        "Chance (random ranking): "
        + ", ".join(f"{METRICS[m].text} {value:.2f}" for m, value in curve.chance.items())
        + ".",
    ]
    trained = [point for line in curve.lines for point in line.points]
    if any(point.labels not in (None, curve.base_labels) for point in trained):
        lines.append(
            f"Labels: of the {curve.base_labels} base labels, those with images enough for a "
            "training episode; the others sat out, and with them the images that no other label is "
            "left of. Used: the base images that remain."
        )
    if any(point.used is None for point in trained):
        lines.append("Used is empty where the split's images are not at hand.")
    if curve.levels:
        lines.append("Methods that do not train have one value for every number of base images.")
    if any(p.images < curve.base_images for line in curve.lines for p in line.points):
        lines.append("Points with fewer than all base images are not comparable to full runs.")
    if curve.subset:
        lines.append(SUBSET)
    if curve.episodes < curve.of_episodes:
        lines.append(f"Only the first {curve.episodes} of {curve.of_episodes} episodes were run.")
    return lines + list(curve.notes)


def render_text(curve: Curve, metric: str = "macro_ap", at: int | None = None) -> str:
    """The table of `render_markdown` for the terminal."""
    return to_text([_table(curve, metric, at)])


def render_markdown(curve: Curve, metric: str = "macro_ap", at: int | None = None) -> str:
    """The table with its caption and a sentence on each slope (`slope.sentences`)."""
    return to_markdown([_table(curve, metric, at)])


def _table(curve: Curve, metric: str, at: int | None) -> Table:
    check_metric(curve, metric)
    metrics = (metric, *(name for name in curve.metrics if name != metric))
    heads = ["Method", "Base images", "Used", "Labels", "Seeds"]
    for name in metrics:
        heads += [METRICS[name].text, "seeds"]
    rows = []
    for name, images, point in _rows(curve):
        cells = [name, f"{images:,}" if images else "any"]
        cells += ["" if point.used is None else f"{point.used:,}"]
        cells += ["" if point.labels is None else str(point.labels), str(len(point.seeds))]
        for each in metrics:
            cells += [_value(point, each), _spread(point, each)]
        rows.append(cells)
    return table(heads, rows, caption=caption(curve) + sentences(curve, metric, at))


def render_csv(curve: Curve) -> str:
    """A line for each method, number of base images and seed, and `mean` lines; per cent.

    Columns: method, trains, base_images (empty where the method does not train), of_base_images,
    seed (`mean` for the mean over seeds), then each metric and, on `mean` lines, its half width
    over episodes; split, subset and episodes, so that a line says what it is when it is alone;
    base_images_used and labels_used, those that the method trained on, empty where not known.
    """
    columns = [column for m in curve.metrics for column in (m, f"{m}_half_width")]
    head = ["method", "trains", "base_images", "of_base_images", "seed", *columns]
    lines: list[list[object]] = [
        [*head, "split", "subset", "episodes", "base_images_used", "labels_used"]
    ]
    for name, images, point in _rows(curve):
        subset = str(curve.subset).lower()
        tail = [curve.split, subset, curve.episodes, point.used, point.labels]
        start = [name, "true" if images else "false", images or None, curve.base_images]
        for i, seed in enumerate(point.seeds):
            cells = [c for m in curve.metrics for c in (_number(point.values[m][i]), "")]
            lines.append([*start, seed, *cells, *tail])
        means = [x for m in curve.metrics for x in (point.mean(m), point.half_width[m])]
        lines.append([*start, "mean", *map(_number, means), *tail])
    return csv_text(lines)


def _rows(curve: Curve) -> list[tuple[str, int, Point]]:
    rows = [(line.name, point.images, point) for line in curve.lines for point in line.points]
    return rows + [(level.name, 0, level.point) for level in curve.levels]


def _value(point: Point, metric: str) -> str:
    half = point.half_width[metric]
    return f"{point.mean(metric):.2f}" + ("" if math.isnan(half) else f" ± {half:.2f}")


def _spread(point: Point, metric: str) -> str:
    if len(point.seeds) == 1:
        return "-"
    return f"{point.low(metric):.2f} to {point.high(metric):.2f}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
