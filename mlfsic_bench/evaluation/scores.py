"""The Scores noun: raw float32 scores of every episode in one file that names what made them.

An archive may keep the order of the scores in each episode in place of the scores (`order_of`): a
third of the size, and all that AP and decisions at 0 follow from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import STATED, ScoresMeta, TargetsMeta
from mlfsic_bench.files import parse_json
from mlfsic_bench.hashing import canonical_json
from mlfsic_bench.schema import FileSchema, load

PAGE = "docs/scores-format.md"
REMEDY = "write it with mlfsic-bench run"
META_LIMIT = 1 << 20  # characters of the description; those of runs have about 1,000
QUERY_LIMIT = 1 << 25  # bytes of query ids; in memory they take four times as much
LIMIT = 1 << 28  # bytes of all arrays together; 200 episodes of 64 queries, 16 labels: 0.8 MB


@dataclass(frozen=True, eq=False)
class Scores:
    """Raw scores of one run.

    Attributes
    ----------
    scores: float32 [E, Q, L], finite; higher means more likely. Never after a sigmoid.
    decisions: bool [E, Q, L], the method's own decisions, or None (then: score > 0).
    meta: what made them.
    """

    scores: npt.NDArray[np.float32]
    decisions: npt.NDArray[np.bool_] | None
    meta: ScoresMeta

    @property
    def only_order(self) -> bool:
        """Whether the numbers are places in the order of their episode (`order_of`)."""
        return self.meta.order_of is not None


def order_of(scores: Scores, sha256: str) -> Scores:
    """The order of these scores in place of them; `sha256` is that of their file.

    Each score becomes a whole number: scores of an episode compare as before, equal ones stay
    equal, and a number is above 0 where its score is. Not comparable between episodes.
    """
    places = np.empty(scores.scores.shape, np.float32)
    for place, own in zip(places, scores.scores, strict=True):
        levels, number = np.unique(own, return_inverse=True)
        place[:] = number.reshape(own.shape) + 1 - np.searchsorted(levels, 0.0, side="right")
    meta = scores.meta.model_copy(update={"order_of": sha256})
    return Scores(places, scores.decisions, meta)


@dataclass(frozen=True, eq=False)
class StoredTargets:
    """The targets of the query images, which no method ever sees.

    Attributes
    ----------
    targets: uint8 [E, Q, L] of 0 and 1.
    query: text [E, Q], the ids of the query images.
    meta: the split and the episodes they belong to.
    """

    targets: npt.NDArray[np.uint8]
    query: npt.NDArray[np.str_]
    meta: TargetsMeta


def write_scores(path: Path, scores: Scores) -> None:
    """Write a scores file atomically; equal scores give equal bytes."""
    _check_scores(path, scores)
    arrays: dict[str, npt.NDArray[Any]] = {"meta": text_of(scores.meta)}
    if scores.only_order:
        most = max(abs(float(scores.scores.min())), float(scores.scores.max()))
        arrays["order"] = scores.scores.astype("<i2" if most < 1 << 15 else "<i4")
    else:
        arrays["scores"] = scores.scores.astype("<f4", copy=False)
    if scores.decisions is not None:
        arrays["decisions"] = scores.decisions
    write_arrays(path, arrays)


def read_scores(path: Path) -> Scores:
    """The scores in `path`, checked: types, shapes, no NaN, members, schema; else BenchError.

    Of a file with their order, the places in that order (`order_of`).
    """
    arrays = read_arrays(
        path,
        kind="scores file",
        required=("scores", "meta"),
        optional=("decisions",),
        limit=LIMIT,
        instead={"scores": "order"},
    )
    meta = meta_of(path, arrays["meta"], ScoresMeta)
    own = "scores" if meta.order_of is None else "order"
    if own not in arrays:
        raise _bad(path, f"an array called {own}", ", ".join(sorted(arrays)))
    array = arrays[own]
    if own == "order":
        if array.dtype not in (np.dtype("<i2"), np.dtype("<i4")) or (np.abs(array) >> 24).any():
            raise _bad(path, "an order as int16 or int32, below 2^24", f"{array.dtype}")
        array = array.astype(np.float32)
    scores = Scores(array, arrays.get("decisions"), meta)
    _check_scores(path, scores)
    return scores


def write_targets(path: Path, stored: StoredTargets) -> None:
    """Write a targets file atomically; equal targets give equal bytes."""
    _check_targets(path, stored)
    targets, text = stored.targets, stored.query
    if len(text) > 1 and (text == text[:1]).all() and (targets == targets[:1]).all():
        targets, text = targets[:1], text[:1]  # one query for all: 1 / E of the size
    query = np.char.encode(text, "utf-8")  # a quarter of the size of NumPy's own text
    write_arrays(path, {"targets": targets, "query": query, "meta": text_of(stored.meta)})


def read_targets(path: Path) -> StoredTargets:
    """The targets in `path`, checked like `read_scores`; files of earlier versions, too."""
    required = ("targets", "query", "meta")
    arrays = read_arrays(path, kind="targets file", required=required, limit=LIMIT)
    meta = meta_of(path, arrays["meta"], TargetsMeta)
    query = arrays["query"]
    if query.dtype.kind != "S" or query.nbytes > QUERY_LIMIT:
        raise _bad(path, "query ids as UTF-8 bytes [E, Q]", f"{query.dtype} {query.shape}")
    try:
        plain = query.tobytes().isascii()  # then NumPy's own cast is ten times as fast
        ids = query.astype("U") if plain else np.char.decode(query, "utf-8")
    except UnicodeDecodeError as error:
        raise _bad(path, "query ids as UTF-8 bytes [E, Q]", str(error)) from error
    targets = arrays["targets"]
    if targets.ndim == 3 and ids.ndim == 2 and len(targets) == len(ids) == 1:
        if meta.episodes.count * targets.size > LIMIT:
            raise _bad(path, f"at most {LIMIT} targets", f"{meta.episodes.count} x {targets.size}")
        # what stands once in the file is that of every episode
        targets = np.broadcast_to(targets, (meta.episodes.count, *targets.shape[1:]))
        ids = np.broadcast_to(ids, (meta.episodes.count, *ids.shape[1:]))
    stored = StoredTargets(targets, ids, meta)
    _check_targets(path, stored)
    return stored


def text_of(meta: FileSchema) -> npt.NDArray[np.str_]:
    """A description as it stands in a file of arrays."""
    text = canonical_json(meta.model_dump(mode="json")).decode()
    return np.array(text, dtype=f"<U{len(text)}")


M = TypeVar("M", bound=FileSchema)


def meta_of(
    path: Path, text: npt.NDArray[Any], model: type[M], page: str = PAGE, remedy: str = REMEDY
) -> M:
    """The description in a file of arrays, checked; BenchError naming the key that is wrong."""
    if text.dtype.kind != "U" or text.shape != ():
        raise _bad(path, "one text called `meta`", f"{text.dtype} of shape {text.shape}")
    try:
        if text.dtype.itemsize > 4 * META_LIMIT:
            raise ValueError(f"{text.dtype.itemsize // 4} characters, more than {META_LIMIT}")
        value = parse_json(str(text[()]))
    except (ValueError, RecursionError) as error:
        found = _short(f"{type(error).__name__}: {error}")
        raise _bad(path, "a description in JSON", found) from error
    meta = load(model, value, f"the description in {path}", page=page, remedy=remedy)
    for key in STATED:
        if key not in value:
            raise _bad(path, f"the key {key!r} in the description", "no such key")
    return meta


def _check_scores(path: Path, scores: Scores) -> None:
    array, decisions, meta = scores.scores, scores.decisions, scores.meta
    if array.dtype != np.dtype("<f4") or array.ndim != 3:
        raise _bad(path, "float32 scores [E, Q, L]", f"{array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise _bad(path, "finite scores", f"{bad} scores that are NaN or infinite")
    _check_size(path, array.shape, meta)
    if decisions is not None and (decisions.dtype != np.bool_ or decisions.shape != array.shape):
        found = f"{decisions.dtype} of shape {decisions.shape}"
        raise _bad(path, f"bool decisions of shape {array.shape}", found)


def _check_targets(path: Path, stored: StoredTargets) -> None:
    targets, query = stored.targets, stored.query
    if targets.dtype != np.uint8 or targets.ndim != 3 or (targets > 1).any():
        raise _bad(path, "uint8 targets [E, Q, L] of 0 and 1", f"{targets.dtype} {targets.shape}")
    if query.dtype.kind != "U" or query.shape != targets.shape[:2]:
        raise _bad(path, f"query ids of shape {targets.shape[:2]}", f"{query.dtype} {query.shape}")
    _check_size(path, targets.shape, stored.meta)


def _check_size(path: Path, shape: tuple[int, ...], meta: ScoresMeta | TargetsMeta) -> None:
    episodes, labels = meta.episodes, meta.labels
    if shape[0] != episodes.count or shape[2] != len(labels) or 0 in shape:
        raise _bad(
            path,
            f"{episodes.count} episodes and {len(labels)} labels, as its description says",
            f"an array of shape {shape}",
        )
    if not 0 < episodes.count <= episodes.total or len(set(labels)) != len(labels):
        raise _bad(
            path,
            "distinct labels, and at most as many episodes as the set has",
            f"{episodes.count} of {episodes.total} episodes, {len(set(labels))} distinct labels",
        )


def _bad(path: Path, expected: str, found: str) -> BenchError:
    return BenchError(
        f"{path} is not a valid file of scores, targets or counts",
        expected=expected,
        found=found,
        remedy=f"{REMEDY}, or correct what made it ({PAGE})",
    )


def _short(text: str) -> str:
    return text if len(text) <= 300 else text[:297] + "..."
