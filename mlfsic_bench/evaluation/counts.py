"""Label counts of query images, made once for a split and a backbone and used for every method.

The rule `count` of docs/metrics.md takes the k highest-scored labels of each query image. The k
come from a label-count head (`baselines/label_count.py`), which is fitted on the same base and val
parts as a method that trains and knows no method. `counts.npz` holds them with what made them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import EpisodesMeta, FeaturesMeta, SplitMeta
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.scores import LIMIT, meta_of, text_of
from mlfsic_bench.methods.contract import Method, Predictor, Support
from mlfsic_bench.schema import FileSchema, Version

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.evaluation.inputs import Inputs
    from mlfsic_bench.evaluation.resources import ResourceCache

PAGE = "docs/results-format.md"
REMEDY = "write it with mlfsic-bench counts"
HEAD_VERSION = 1
"""Raised when the counts change for the same split, episodes and features."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class ValQuality(FileSchema):
    """On the query images of the val episodes; those of `label_count.CountQuality`."""

    log_likelihood: Annotated[float, Field(le=0)]
    accuracy: Share
    error: Annotated[float, Field(ge=0)]
    accuracy_of_one: Share
    error_of_one: Annotated[float, Field(ge=0)]


class CountsMeta(FileSchema):
    """The `meta` of a counts file.

    `base_images` is how many support images the shares of the base part are worth; null: the
    support is not looked at. `val` is null where there is no val part.
    """

    schema_version: Version = 1
    kind: Literal["mlfsic-bench counts"] = "mlfsic-bench counts"
    head_version: Annotated[int, Field(ge=1)] = HEAD_VERSION
    split: SplitMeta
    episodes: EpisodesMeta
    features: FeaturesMeta
    penalty: Positive
    base_images: Positive | None
    val: ValQuality | None


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How many labels each query image is predicted to show.

    Attributes
    ----------
    counts: int64 [E, Q], at least 1, in the order of the episodes.
    meta: what made them.
    """

    counts: npt.NDArray[np.int64]
    meta: CountsMeta


class _NoMethod(Method):
    """Stands in a plan for counts, which have no method; it trains, so base and val are opened."""

    name = "label-count"
    trains = True

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing."""

    def adapt(self, support: Support) -> Predictor:
        """Nobody asks."""
        raise NotImplementedError


def label_counts(
    plan: RunPlan,
    log: Callable[[str], None] = lambda line: None,
    opened: ResourceCache | None = None,
) -> LabelCounts:
    """The counts for the episodes of a plan, whose method, seed and embeddings do not matter.

    What `opened` holds already is not opened again. Raises BenchError for bad input.
    """
    if plan.features == "end-to-end":
        raise BenchError(
            "label counts are made from a frozen backbone",
            expected="stored or live features",
            found="end-to-end",
            remedy="leave --features out",
        )
    from mlfsic_bench.evaluation.inputs import open_inputs  # reading counts needs no torch

    bare = replace(plan, method=_NoMethod, preset=None, settings={}, seed=0, embeddings=None)
    return counts_of(open_inputs(bare, opened), log)


def counts_of(inputs: Inputs, log: Callable[[str], None] = lambda line: None) -> LabelCounts:
    """`label_counts` with inputs that are open, of a method that trains."""
    from mlfsic_baselines.label_count import LabelCountHead, ValCounts, assess

    from mlfsic_bench.evaluation.fit import training_parts
    from mlfsic_bench.methods.limited import limited_to

    base, val = training_parts(inputs, log)
    with limited_to(*(part.images for part in (base, val) if part is not None)):
        head = LabelCountHead.fitted(base, val)
        quality = assess(head, ValCounts.of(val)) if val is not None else None
    episodes = inputs.episodes.episodes[: inputs.count]
    ids = sorted({i for e in episodes for i in (*e.support, *e.query)})
    view = inputs.scored(inputs.open_source(ids, (), log))
    rows = []
    for index, episode in enumerate(episodes):
        query = view.query(episode)
        found = head.counts(query, view.support(index, episode)).tolist()
        place = dict(zip(query.ids, found, strict=True))
        rows.append([place[image_id] for image_id in episode.query])
    base_images = float(head.base_images)
    meta = CountsMeta(
        split=SplitMeta.of(inputs.split),
        episodes=EpisodesMeta.of(inputs.episodes, inputs.count),
        features=inputs.features,
        penalty=float(head.penalty),
        base_images=None if math.isinf(base_images) else base_images,
        val=None if quality is None else ValQuality(**asdict(quality)),
    )
    return LabelCounts(np.array(rows, np.int64), meta)


def write_counts(path: Path, counts: LabelCounts) -> None:
    """Write a counts file atomically; equal counts give equal bytes."""
    _check(path, counts)
    arrays: dict[str, npt.NDArray[Any]] = {
        "counts": counts.counts.astype("<i8", copy=False),
        "meta": text_of(counts.meta),
    }
    write_arrays(path, arrays)


def read_counts(path: Path) -> LabelCounts:
    """The counts in `path`, checked: types, shapes, range, members, schema; else BenchError."""
    arrays = read_arrays(path, kind="counts file", required=("counts", "meta"), limit=LIMIT)
    meta = meta_of(path, arrays["meta"], CountsMeta, page=PAGE, remedy=REMEDY)
    counts = LabelCounts(arrays["counts"], meta)
    _check(path, counts)
    return counts


def _check(path: Path, counts: LabelCounts) -> None:
    array, episodes = counts.counts, counts.meta.episodes.count
    whole = array.dtype == np.dtype("<i8") and array.ndim == 2 and 0 not in array.shape
    if not whole or len(array) != episodes or array.min() < 1:
        raise BenchError(
            f"{path} is not a valid file of label counts",
            expected=f"int64 counts [{episodes}, Q], at least 1",
            found=f"{array.dtype} {list(array.shape)}" + (f" from {array.min()}" if whole else ""),
            remedy=f"{REMEDY} ({PAGE})",
        )
