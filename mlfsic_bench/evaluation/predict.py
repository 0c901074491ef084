"""Adapt to every novel episode and score its queries, in chunks that survive a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.episodes.protocol import Episode
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.method_calls import adapt_all, score
from mlfsic_bench.paths import exists
from mlfsic_bench.progress import progress

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.parts import PartView
    from mlfsic_bench.methods.contract import Images, Method, Predictor, Support

CHUNK = 20  # episodes adapted together; fixed, so a resumed run adapts in the same company
BLOCK = 1024  # query images scored together; local features of all of val2014 would fill a memory
Chunk = tuple[npt.NDArray[np.float32], "npt.NDArray[np.bool_] | None"]


def evaluate(
    method: Method,
    view: PartView,
    episodes: tuple[Episode, ...],
    folder: Path,
    key: str,
    log: Callable[[str], None],
) -> Chunk:
    """Scores float32 [E, Q, L] of all episodes, and decisions bool [E, Q, L] or None.

    Chunks that an earlier process of the same run (`key`) left in `folder` are kept.
    """
    chunks: list[Chunk] = []
    with progress("scoring", len(episodes), log, "episodes") as advance:
        for first in range(0, len(episodes), CHUNK):
            batch = episodes[first : first + CHUNK]
            path = folder / f"{first:05d}.npz"
            shape = (len(batch), len(batch[0].query), len(view.part.labels))
            chunk = _read(path, key, shape, log)
            if chunk is None:
                chunk = _chunk(method, view, first, batch)
                _write(path, key, chunk)
            chunks.append(chunk)
            advance(len(batch))
    scores = np.concatenate([chunk[0] for chunk in chunks])
    return scores, _joined(method.name, [chunk[1] for chunk in chunks])


def discard(folder: Path) -> None:
    """Remove the chunks, once the scores hold them."""
    shutil.rmtree(folder, ignore_errors=True)


def _chunk(method: Method, view: PartView, first: int, batch: tuple[Episode, ...]) -> Chunk:
    supports = [view.support(first + i, episode) for i, episode in enumerate(batch)]
    predictors = adapt_all(method, supports, first)
    scores, decided = [], []
    for i, (predictor, episode) in enumerate(zip(predictors, batch, strict=True)):
        query = view.query(episode)
        given, own = _in_blocks(method.name, first + i, predictor, supports[i], query)
        place = {image_id: row for row, image_id in enumerate(query.ids)}
        back = [place[image_id] for image_id in episode.query]  # into the episode's own order
        scores.append(given[back])
        decided.append(None if own is None else own[back][None])
    return np.stack(scores), _joined(method.name, decided)


def _in_blocks(
    method: str, episode: int, predictor: Predictor, support: Support, query: Images
) -> Chunk:
    """(scores [q, L], decisions [q, L] or None); an image's score depends on no other query."""
    blocks = [
        score(
            method,
            episode,
            predictor,
            support.images,
            query.subset(range(start, min(start + BLOCK, len(query)))),
            len(support.labels),
        )
        for start in range(0, len(query), BLOCK)
    ]
    return np.concatenate([block[0] for block in blocks]), _joined(
        method, [block[1] for block in blocks]
    )


def _joined(
    method: str, decisions: list[npt.NDArray[np.bool_] | None]
) -> npt.NDArray[np.bool_] | None:
    given = [one for one in decisions if one is not None]
    if not given:
        return None
    if len(given) < len(decisions):
        raise BenchError(
            f"the method {method!r} decides in some episodes and not in others",
            expected="`decide` on every predictor, or on none",
            found=f"{len(given)} of {len(decisions)} with decisions",
            remedy="give every predictor of the method a `decide`",
        )
    return np.concatenate(given)


def _write(path: Path, key: str, chunk: Chunk) -> None:
    arrays = {"scores": chunk[0], "key": np.array(key)}
    write_arrays(path, arrays if chunk[1] is None else {**arrays, "decisions": chunk[1]})


def _read(
    path: Path, key: str, shape: tuple[int, int, int], log: Callable[[str], None]
) -> Chunk | None:
    if not exists(path):
        return None
    try:
        arrays = read_arrays(
            path, kind="chunk of scores", required=("scores", "key"), optional=("decisions",)
        )
    except BenchError as error:
        log(f"{error.what}; scoring these episodes again")
        return None
    scores, decisions = arrays["scores"], arrays.get("decisions")
    sound = arrays["key"].shape == () and str(arrays["key"]) == key and scores.shape == shape
    sound = sound and scores.dtype == np.float32 and bool(np.isfinite(scores).all())
    if decisions is not None:
        sound = sound and decisions.dtype == np.bool_ and decisions.shape == shape
    if not sound:
        log(f"{path} belongs to another run; scoring these episodes again")
        return None
    return scores, decisions
