"""Where the attention looks: support images with a heat map for each of their labels (Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.attention.maps import (
    Entropy,
    at_the_top,
    centres,
    entropy_of,
    no_attention,
)
from mlfsic_bench.analysis.plots.frame import FORMS, drawing, form_of, plain
from mlfsic_bench.errors import unknown_name
from mlfsic_bench.files import write_bytes
from mlfsic_bench.results.reopen import RunPaths, reopen
from mlfsic_bench.text import lines_for_terminal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.methods.contract import Method, Support

PANEL = 1.75  # inches
DPI = 96  # noise does not compress, so a finer picture is large
STRIPS = 2  # support images side by side
LONGEST = 18  # characters of an image's name above it
WIDE = 6  # panels; longer strips have a row to themselves


@dataclass(frozen=True, eq=False)
class Panel:
    """One map of a label on a support image.

    Attributes
    ----------
    label: what stands above it, the label's name or the head's number.
    scores: float64 [h, w]; scores before the softmax, summed over heads, or of one head.
    outline: bool [H, W] where the label's object is, or None when the dataset does not know.
    """

    label: str
    scores: npt.NDArray[np.float64]
    outline: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Strip:
    """A support image, uint8 [H, W, 3], and the panels of the labels it carries."""

    image_id: str
    pixels: npt.NDArray[np.uint8]
    panels: tuple[Panel, ...]


def draw_attention(
    folder: Path,
    where: RunPaths,
    out: Path,
    *,
    episode: int = 0,
    labels: tuple[str, ...] = (),
    images: int = 6,
    heads: bool = False,
    whose: str = "",
    entropy: bool = False,
) -> str:
    """Write the picture of one novel episode of the run in `folder` to `out`; a sentence on it.

    The ending of `out` says the format: .png, .svg or .pdf. At most `images` support images are
    drawn, those with most labels; with `heads` every head of every label has a map beside the sum.
    `whose` stands above the picture in place of the method's name. Where objects are known the
    sentence says how often the highest cell lies on the object, over the whole support. With
    `entropy` a second line says how evenly the weights lie over the places, in all episodes of the
    run (`entropy_of`). Raises BenchError when the run can't be opened again (`reopen`) or has no
    attention.
    """
    form = form_of(out)
    run = reopen(folder, where)
    method, support = run.episode(episode)
    dataset = run.dataset()
    strips = strips_of(method, support, dataset, labels)
    wide = strips_of(method, support, dataset, labels, heads=True) if heads else strips
    first = list(dict.fromkeys(strip.image_id for strip in strips))[:images]
    shown = [strip for strip in wide if strip.image_id in first]
    outlined = any(panel.outline is not None for strip in shown for panel in strip.panels)
    title = (
        f"{whose or method.name} on {run.inputs.split.id}, support of novel episode {episode}\n"
        "bright: high attention score, "
        + ("all heads summed and each alone" if heads else "summed over heads")
        + ("; white line: the object" if outlined else "")
    )
    write_bytes(out, draw(shown, title, form))
    found, total, chance = hits(strips)
    line = f"wrote {out}"
    if total:
        line += (
            f"; the highest cell lies on the object in {found:g} of {total} maps "
            f"(by chance: {chance:.1f})"
        )
    return line + ("\n" + evenness(entropy_of(*run.supports())) if entropy else "")


def evenness(found: Entropy) -> str:
    """An entropy in words."""
    (low, lowest), (high, highest) = (
        (label, f"{100 * share:.1f}") for label, share in (found.lowest, found.highest)
    )
    return (
        f"entropy of the attention weights: {100 * found.share:.1f} % of log(places), where 100 is "
        f"a plain mean ({found.episodes} episodes, {found.maps} maps; labels from {low} "
        f"{lowest} to {high} {highest})"
    )


def strips_of(
    method: Method,
    support: Support,
    dataset: Dataset,
    labels: Sequence[str] = (),
    *,
    heads: bool = False,
) -> list[Strip]:
    """The support images that carry one of `labels` (none named: any label of the episode).

    Images with more of these labels come first, then the support's order: what an attention does
    shows where it has to choose. With `heads` there is a strip for each label of an image: the sum
    over heads, then every head. Raises BenchError for a method without `attention_scores` and for
    a label that the episode does not have.
    """
    scores_of = getattr(method, "attention_scores", None)
    if scores_of is None:
        raise no_attention(method.name)
    for label in labels:
        if label not in support.labels:
            raise unknown_name("label of the episode", label, support.labels)
    wanted = [i for i, name in enumerate(support.labels) if not labels or name in labels]
    panels: dict[int, list[tuple[Panel, ...]]] = {}
    masks: dict[int, dict[str, npt.NDArray[np.bool_]]] = {}
    for column in wanted:
        name = support.labels[column]
        carriers = (support.targets[:, column] > 0).nonzero()[:, 0].tolist()
        maps = scores_of(support, column).double().cpu().numpy()
        for row, scores in zip(carriers, maps, strict=True):
            if row not in masks:
                masks[row] = dataset.masks(support.images.ids[row])
            outline = masks[row].get(name)
            summed = Panel(name, scores.sum(0), outline)
            each = [Panel(f"head {k}", scores[k], outline) for k in range(len(scores))]
            panels.setdefault(row, []).append((summed, *(each if heads else ())))
    strips = []
    for row in sorted(panels, key=lambda row: (-len(panels[row]), row)):
        image_id = support.images.ids[row]
        pixels = np.asarray(dataset.open_image(image_id))
        # Without heads the labels of an image stand in one strip.
        groups = panels[row] if heads else [tuple(panel for (panel,) in panels[row])]
        strips += [Strip(image_id, pixels, group) for group in groups]
    return strips


def heat_of(scores: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float64]:
    """float64 [height, width] in [0, 1]: the panel's scores, lowest 0 and highest 1.

    Between the centres of the cells it is interpolated linearly. Scores that are all equal give 0.
    """
    low, high = float(scores.min()), float(scores.max())
    unit = (scores - low) / (high - low) if high > low else np.zeros_like(scores)
    rows, columns = _between(scores.shape[0], height), _between(scores.shape[1], width)
    heat: npt.NDArray[np.float64] = rows @ unit @ columns.T
    return heat


def _between(cells: int, pixels: int) -> npt.NDArray[np.float64]:
    # [pixels, cells]: the weights of linear interpolation, constant beyond the outermost centres.
    at = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    low = np.minimum(np.floor(at).astype(np.int64), cells - 1)
    weight = at - low
    matrix = np.zeros((pixels, cells))
    matrix[np.arange(pixels), low] = 1 - weight
    matrix[np.arange(pixels), np.minimum(low + 1, cells - 1)] += weight
    return matrix


@drawing()
def draw(strips: Sequence[Strip], title: str, form: str = "png") -> bytes:
    """The picture as the bytes of a file: a strip is the image, then a heat map per label.

    `form` is one of FORMS. The same picture always gives the same bytes.
    """
    from matplotlib.figure import Figure

    across = 1 + max(len(strip.panels) for strip in strips)
    side = min(STRIPS if across <= WIDE else 1, len(strips))
    down = -(-len(strips) // side)
    figure = Figure(figsize=(PANEL * across * side + 0.3, (PANEL + 0.26) * down + 0.75), dpi=DPI)
    title = lines_for_terminal(title)
    figure.suptitle(title, fontsize=9.5, y=1 - 0.12 / figure.get_figheight(), va="top")
    # An empty, narrow column keeps the strips apart.
    widths = [w for _ in range(side) for w in (*[1.0] * across, 0.12)][:-1]
    grid = figure.add_gridspec(
        down,
        len(widths),
        width_ratios=widths,
        left=0.01,
        right=0.99,
        bottom=0.12 / figure.get_figheight(),
        top=1 - 0.7 / figure.get_figheight(),
        wspace=0.05,
        hspace=0.26 / PANEL,
    )
    for i, strip in enumerate(strips):
        row, first = i // side, (i % side) * (across + 1)
        axes = _axes(figure.add_subplot(grid[row, first]), _short(strip.image_id))
        axes.imshow(strip.pixels)
        for k, panel in enumerate(strip.panels, 1):
            _draw_panel(_axes(figure.add_subplot(grid[row, first + k]), panel.label), strip, panel)
    stream = BytesIO()
    figure.savefig(stream, format=form, metadata={FORMS[form]: None})
    return stream.getvalue()


def _short(image_id: str) -> str:
    # COCO_val2014_000000006720 is wider than a panel.
    name = image_id.rsplit("/", 1)[-1]
    return plain(name if len(name) <= LONGEST else name.rsplit("_", 1)[-1], LONGEST)


def _axes(axes: Axes, title: str) -> Axes:
    axes.set_axis_off()
    axes.set_title(plain(title, 32), fontsize=8.5, pad=3)
    return axes


def _draw_panel(axes: Axes, strip: Strip, panel: Panel) -> None:
    from matplotlib import colormaps

    height, width = strip.pixels.shape[:2]
    heat = heat_of(panel.scores, height, width)
    grey = strip.pixels.astype(np.float64).mean(2, keepdims=True) / 255
    colour = colormaps["inferno"](heat)[..., :3]
    axes.imshow(np.clip(0.45 * grey + 0.65 * colour, 0, 1))
    if panel.outline is not None and panel.outline.any():
        axes.contour(panel.outline, levels=[0.5], colors="black", linewidths=2.2)
        axes.contour(panel.outline, levels=[0.5], colors="white", linewidths=1.1)


def hits(strips: Sequence[Strip]) -> tuple[float, int, float]:
    """(hits, panels, expected by chance) over the panels whose object is outlined.

    A hit is a panel whose highest cell has its centre on the object; by chance a panel hits with
    the share of its cells whose centres do. Cells that share the highest score count in parts.
    """
    found, total, chance = 0.0, 0, 0.0
    for strip in strips:
        for panel in strip.panels:
            if panel.outline is None:
                continue
            on = centres(panel.outline, *panel.scores.shape)
            found += float(at_the_top(panel.scores, on))
            chance += float(on.mean())
            total += 1
    return found, total, chance
