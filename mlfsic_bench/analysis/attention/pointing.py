"""How often attention points at the object, and how much of it lies there (docs/attention.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.attention.maps import MEASURED, Pair, measure_pairs, no_attention
from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.intervals import clustered_interval
from mlfsic_bench.paths import resolved
from mlfsic_bench.results.reopen import RunPaths, reopen
from mlfsic_bench.results.table import Table, table, to_markdown, to_text
from mlfsic_bench.text import for_json

if TYPE_CHECKING:
    from mlfsic_bench.results.reopen import ReopenedRun

COLUMNS = ("pairs", "pointing", "chance", "15 px", "chance", "share", "chance")
# Groups of objects by their share of the image: a name and the upper end.
SIZES = (
    ("object < 1 %", 0.01),
    ("1 to 5 %", 0.05),
    ("5 to 20 %", 0.2),
    ("20 % and more", math.inf),
)
DIFFICULT_AREA = 0.25
MANY = 3  # labels in an image; as many and more are one group


@dataclass(frozen=True)
class Estimate:
    """One value over pairs, between 0 and 1; NaN where it is not defined.

    Attributes
    ----------
    mean, half_width: of the attention; the half width of its 95 % interval, clustered by image.
    chance: the mean of attention that is equal everywhere.
    centre: the mean of attention that lies all in the middle of the image.
    above, above_half_width: mean - chance, pair by pair, and its half width.
    """

    mean: float
    half_width: float
    chance: float
    centre: float
    above: float
    above_half_width: float


@dataclass(frozen=True)
class Line:
    """A group of pairs and its values.

    Attributes
    ----------
    name: of the group; pairs, images: how many; area: mean share of the image the objects cover.
    cells: over how many cells of the map the weights spread, exp of their entropy; h w is all.
    pointing: the centre of the highest cell is on the object.
    tolerant: the object is within 15 pixels of it (of 224).
    other: it is not on the object but on one of another label.
    share: of the attention on the object.
    """

    name: str
    pairs: int
    images: int
    area: float
    cells: float
    pointing: Estimate
    tolerant: Estimate
    other: Estimate
    share: Estimate


@dataclass(frozen=True)
class Pointing:
    """What a run's attention looks at, in numbers.

    Attributes
    ----------
    run: the folder's name; method, split, backbone, seed: of its record.
    subset: whether the split was limited to the images on disk.
    episodes: novel episodes whose supports were taken.
    images, pairs: distinct images and (image, label) pairs measured; unknown: pairs without.
    grid: (h, w) of the attention maps.
    summed: the heads together: scores summed over heads, weights averaged.
    heads: each head by itself, in the method's order.
    by_label, by_size, by_labels_in_image: groups of pairs, heads together.
    difficult: objects below a quarter of the image that share it with another label, or None.
    """

    run: str
    method: str
    split: str
    backbone: str
    seed: int
    subset: bool
    episodes: int
    images: int
    pairs: int
    unknown: int
    grid: tuple[int, int]
    summed: Line
    heads: tuple[Line, ...]
    by_label: tuple[Line, ...]
    by_size: tuple[Line, ...]
    by_labels_in_image: tuple[Line, ...]
    difficult: Line | None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values; NaN becomes None."""
        value: dict[str, Any] = _plain(asdict(self))
        return value


def measure(folder: Path, where: RunPaths, *, episodes: int | None = None) -> Pointing:
    """Compare the attention of the run in `folder` with the objects in its support images.

    Over the supports of all its novel episodes, or of the first `episodes`; each (image, label)
    counts once. Raises BenchError when the run can't be opened again (`reopen`), has no attention,
    or the dataset's annotations say of none of the images where its objects are.
    """
    run = reopen(folder, where)
    if not hasattr(run.inputs.method, "attention_scores"):
        raise no_attention(run.inputs.method.name)
    method, supports = run.supports(episodes)
    dataset = run.dataset()
    pairs, unknown = measure_pairs(method, supports, dataset)
    if not pairs:
        raise BenchError(
            f"the annotations of {dataset.name} have no boxes or masks of the {unknown} objects",
            expected="annotations that say where the objects are: the official "
            "instances_*2014.json of COCO, Annotations/*.xml of VOC, or the dataset scenes",
            found="labels only",
            remedy="put the official annotations below the data root; "
            "mlfsic-bench attention draws the maps without them",
        )
    return summarise(pairs, unknown, run, run.inputs.count if episodes is None else episodes)


def summarise(pairs: Sequence[Pair], unknown: int, run: ReopenedRun, episodes: int) -> Pointing:
    """The values of measured pairs, together and in groups."""
    heads = {pair.found.shape[1] - 1 for pair in pairs}
    if len(heads) != 1:
        raise BenchError(
            f"the method {run.record.method.name!r} changes its number of heads",
            expected="the same number of heads for each label",
            found=f"{sorted(heads)} heads",
            remedy="correct the method's attention_scores",
        )
    labels = run.inputs.split.novel.labels
    difficult = [p for p in pairs if p.area < DIFFICULT_AREA and p.labels > 1]
    return Pointing(
        run=resolved(run.folder).name,
        method=run.record.method.name,
        split=run.record.split.id,
        backbone=run.inputs.features.backbone,
        seed=run.record.method.seed,
        subset=run.record.subset is not None,
        episodes=episodes,
        images=len({pair.image_id for pair in pairs}),
        pairs=len(pairs),
        unknown=unknown,
        grid=pairs[0].grid,
        summed=line("all heads", pairs),
        heads=tuple(line(f"head {k}", pairs, k + 1) for k in range(heads.pop())),
        by_label=_groups(pairs, {label: label for label in labels}, lambda p: p.label),
        by_size=_groups(pairs, {name: name for name, _ in SIZES}, _size),
        by_labels_in_image=_groups(
            pairs,
            {k: _labels_name(k) for k in range(1, MANY + 1)},
            lambda p: min(p.labels, MANY),
        ),
        difficult=line("difficult pairs", difficult) if difficult else None,
    )


def line(name: str, pairs: Sequence[Pair], column: int = 0) -> Line:
    """The values of some pairs; `column` 0 takes the heads together, k + 1 head k."""
    images = [pair.image_id for pair in pairs]
    found = np.array([pair.found[:, column] for pair in pairs])
    chance = np.array([pair.chance for pair in pairs])
    centre = np.array([pair.centre for pair in pairs])
    values = [
        _estimate(found[:, k], chance[:, k], centre[:, k], images) for k in range(len(MEASURED))
    ]
    area = float(np.mean([pair.area for pair in pairs]))
    spread = float(np.mean([pair.cells[column] for pair in pairs]))
    return Line(name, len(pairs), len(set(images)), area, spread, *values)


def _estimate(
    found: npt.NDArray[np.float64],
    chance: npt.NDArray[np.float64],
    centre: npt.NDArray[np.float64],
    images: Sequence[str],
) -> Estimate:
    mean, half = clustered_interval(found, images)
    above, above_half = clustered_interval(found - chance, images)
    return Estimate(mean, half, float(chance.mean()), float(centre.mean()), above, above_half)


def _groups(
    pairs: Sequence[Pair], names: dict[Any, str], group: Callable[[Pair], Hashable]
) -> tuple[Line, ...]:
    members: dict[Hashable, list[Pair]] = {}
    for pair in pairs:
        members.setdefault(group(pair), []).append(pair)
    return tuple(line(name, members[key]) for key, name in names.items() if key in members)


def _size(pair: Pair) -> str:
    return next(name for name, end in SIZES if pair.area < end)


def _labels_name(count: int) -> str:
    return "1 label" if count == 1 else f"{count} labels" + (" or more" if count == MANY else "")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(result: Pointing) -> Table:
    """A row each for the heads together, each head and each group, with gaps between groups."""
    rows: list[list[str] | None] = []
    for section in _sections(result):
        rows += [[name, *cells] for name, cells in section]
        rows.append(None)
    return table(("", *COLUMNS), rows[:-1], caption=caption(result))


WRITERS: dict[str, Callable[[Pointing], str]] = {
    "text": lambda result: to_text([_table(result)]),
    "markdown": lambda result: to_markdown([_table(result)]),
    "json": lambda result: for_json(result.as_dict()) + "\n",
}


def caption(result: Pointing) -> list[str]:
    """What was measured on what, and how to read it."""
    h, w = result.grid
    subset = " (a subset: the images on disk)" if result.subset else ""
    unknown = f"; {result.unknown} more have no known object" if result.unknown else ""
    other = result.summed.other
    texts = [
        f"{result.method}, training seed {result.seed}, {result.backbone}, {result.split}{subset}",
        f"{result.pairs} pairs of an image and a label on {result.images} support images of "
        f"{result.episodes} novel episodes{unknown}",
        "pointing: % of pairs whose highest cell has its centre on the object (scores before the "
        "softmax, summed over heads); 15 px: the same within 15 pixels of a 224 x 224 image",
        "share: % of the attention (after a softmax within the image, mean over heads) that lies "
        "on the object",
        f"mean over labels instead of pairs: pointing {_over_labels(result, 'pointing')}, "
        f"15 px {_over_labels(result, 'tolerant')}, share {_over_labels(result, 'share')}",
        f"maps of {h} x {w} cells; the weights of a head spread as over "
        f"{result.summed.cells:.1f} of the {h * w}",
        "± is a 95 % interval clustered by image; chance is attention that is equal everywhere, "
        "centre attention that lies in the middle of the image",
        f"the highest cell is on the object of another label in {_with_interval(other)} % of pairs "
        f"(chance {_percent(other.chance)})",
    ]
    if result.difficult:
        texts.append(
            f"difficult pairs: the object covers below {100 * DIFFICULT_AREA:.0f} % of an image "
            "that carries another label of the split"
        )
    return texts


def _over_labels(result: Pointing, figure: str) -> str:
    means = [getattr(line, figure).mean for line in result.by_label]
    return _percent(sum(means) / len(means))


def _sections(result: Pointing) -> Iterator[list[tuple[str, list[str]]]]:
    summed = result.summed
    figures = (summed.pointing, summed.tolerant, summed.share)
    centre = [cell for figure in figures for cell in (_percent(figure.centre), "")]
    yield [_row(summed), ("centre", [str(summed.pairs), *centre])]
    difficult = (result.difficult,) if result.difficult else ()
    heads = result.heads if len(result.heads) > 1 else ()
    groups = (*result.by_labels_in_image, *difficult)
    for lines in (heads, result.by_size, groups, result.by_label):
        if lines:
            yield [_row(line) for line in lines]


def _row(line: Line) -> tuple[str, list[str]]:
    cells = [str(line.pairs)]
    for figure in (line.pointing, line.tolerant, line.share):
        cells += [_with_interval(figure), _percent(figure.chance)]
    return line.name, cells


def _with_interval(figure: Estimate) -> str:
    half = "" if math.isnan(figure.half_width) else f" ± {100 * figure.half_width:.1f}"
    return _percent(figure.mean) + half


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
