"""Every (support image, label) of a run once: what its attention map says of the object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.attention import cells
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.method_calls import plugin_call

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.methods.contract import Method, Support

FIGURES = ("pointing", "tolerant", "other", "share")  # the rows of Pair's arrays


@dataclass(frozen=True, eq=False)
class Pair:
    """One label on one image.

    Attributes
    ----------
    image_id, label: which; labels: how many labels of the part the image carries.
    area: share of the image that the object covers.
    grid: (h, w) of the map.
    found: float64 [4, 1 + heads]; FIGURES of the heads together (column 0) and of each head.
    cells: float64 [1 + heads]; over how many cells the weights spread (`effective_cells`), column 0
        the mean over heads.
    chance: float64 [4]; the same of attention that is equal everywhere.
    centre: float64 [4]; the same of attention that lies all in the middle of the image.
    """

    image_id: str
    label: str
    labels: int
    area: float
    grid: tuple[int, int]
    found: npt.NDArray[np.float64]
    cells: npt.NDArray[np.float64]
    chance: npt.NDArray[np.float64]
    centre: npt.NDArray[np.float64]


def measure_pair(
    image_id: str,
    label: str,
    labels: int,
    scores: npt.NDArray[np.float64],
    masks: dict[str, npt.NDArray[np.bool_]],
) -> Pair:
    """The figures of one map: scores before the softmax [heads, h, w], and the image's objects."""
    h, w = scores.shape[1:]
    mask = masks[label]
    covered = cells.coverage(mask, h, w)
    on = cells.centres(mask, h, w)
    others = [cells.centres(other, h, w) for name, other in masks.items() if name != label]
    hits = (on, cells.near(mask, h, w), np.any([np.zeros_like(on), *others], 0) & ~on)
    maps = np.concatenate([scores.sum(0, keepdims=True), scores])
    mu = cells.softmax(scores)
    shares, spread = (mu * covered).sum((1, 2)), cells.effective_cells(mu)
    middle = cells.middle(h, w)
    return Pair(
        image_id=image_id,
        label=label,
        labels=labels,
        area=float(covered.mean()),
        grid=(h, w),
        found=np.stack(
            [*(cells.at_the_top(maps, hit) for hit in hits), np.append(shares.mean(), shares)]
        ),
        cells=np.append(spread.mean(), spread),
        chance=np.array([value.mean() for value in (*hits, covered)]),
        centre=np.array([cells.at_the_top(middle, value) for value in (*hits, covered)]),
    )


def measure_pairs(
    method: Method, supports: Iterable[Support], dataset: Dataset
) -> tuple[list[Pair], int]:
    """(pairs in the order met, how many more have no known object).

    A pair that several supports have is measured in the first of them. Raises BenchError for a
    method without `attention_scores` and for scores that are not finite [m, heads, h, w].
    """
    scores_of = getattr(method, "attention_scores", None)
    if scores_of is None:
        raise no_attention(method.name)
    pairs: list[Pair] = []
    seen: set[str] = set()
    unknown = 0
    for support in supports:
        ids = support.images.ids
        carried = support.targets.cpu().numpy() > 0
        new = [row for row, image_id in enumerate(ids) if image_id not in seen]
        seen.update(ids)
        masks = {row: dataset.masks(ids[row]) for row in new}
        for column, label in enumerate(support.labels):
            carriers = np.flatnonzero(carried[:, column]).tolist()
            known = [row for row in carriers if row in masks and label in masks[row]]
            unknown += sum(row in masks for row in carriers) - len(known)
            if not known:
                continue
            with plugin_call(method.name, "while giving attention scores"):
                maps = scores_of(support, column).detach().double().cpu().numpy()
            _check(method.name, maps, len(carriers))
            for row in known:
                scores, count = maps[carriers.index(row)], int(carried[row].sum())
                pairs.append(measure_pair(ids[row], label, count, scores, masks[row]))
    return pairs, unknown


def no_attention(name: str) -> BenchError:
    """The error for a method that has no attention over places."""
    return BenchError(
        f"the method {name!r} has no attention to show",
        expected="a method with `attention_scores(support, label)`, as word-guided-attention",
        found="none",
        remedy="name a run of such a method",
    )


def _check(name: str, maps: npt.NDArray[np.float64], carriers: int) -> None:
    shaped = maps.ndim == 4 and len(maps) == carriers and 0 not in maps.shape
    if shaped and np.isfinite(maps).all():
        return
    raise BenchError(
        f"the method {name!r} gave attention scores that can't be measured",
        expected=f"finite scores [m, heads, h, w] of the {carriers} support images with the label",
        found="scores that are not finite" if shaped else f"the shape {list(maps.shape)}",
        remedy="correct the method's attention_scores",
    )
