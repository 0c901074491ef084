"""The figures of `pointing` for the terminal, in Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from mlfsic_bench.analysis.attention.pointing import DIFFICULT_AREA, Estimate, Line, Pointing
from mlfsic_bench.results.table import Table, table, to_markdown, to_text
from mlfsic_bench.text import for_json

COLUMNS = ("pairs", "pointing", "chance", "15 px", "chance", "share", "chance")


def _table(result: Pointing) -> Table:
    """A row each for the heads together, each head and each group, with gaps between groups."""
    rows: list[list[str] | None] = []
    for section in _sections(result):
        rows += [[name, *cells] for name, cells in section]
        rows.append(None)
    return table(("", *COLUMNS), rows[:-1], caption=caption(result))


def render_json(result: Pointing) -> str:
    """All figures unrounded; fields as in `Pointing`, null where not defined."""
    return for_json(result.as_dict()) + "\n"


RENDERERS: dict[str, Callable[[Pointing], str]] = {
    "text": lambda result: to_text([_table(result)]),
    "markdown": lambda result: to_markdown([_table(result)]),
    "json": render_json,
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
