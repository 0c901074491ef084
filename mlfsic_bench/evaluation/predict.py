"""Adapt to every novel episode and score its queries, in chunks that survive a kill.

What a method's code returns is checked here, and its errors name the episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from mlfsic_bench import distributed
from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.episodes.protocol import Episode
from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.calls import (
    MethodFailedError,
    adapting,
    decides_nothing,
    method_call,
    predictor_of,
)
from mlfsic_bench.methods.limited import LimitedFeatures, limited_to
from mlfsic_bench.paths import exists
from mlfsic_bench.progress import progress
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.evaluation.parts import PartView
    from mlfsic_bench.features.sources import FeatureSource
    from mlfsic_bench.methods.contract import Images, Method, Predictor, Support

CHUNK = 20  # episodes adapted together; fixed, so a resumed run adapts the same ones together
BLOCK = 1024  # query images scored together; local features of all of val2014 would fill a memory
MOST_TOGETHER = 8192  # query images of a transductive method, whose graph has their number squared
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

    Chunks that an earlier process of the same run (`key`) left in `folder` are kept. Of several
    processes each makes some (`evaluate_chunks`); this one then reads those of the others.
    """
    chunks = evaluate_chunks(method, view, episodes, folder, key, log)
    ordered = [chunks[first] for first in sorted(chunks)]
    scores = np.concatenate([chunk[0] for chunk in ordered])
    return scores, _joined(method.name, [chunk[1] for chunk in ordered])


def evaluate_chunks(
    method: Method,
    view: PartView,
    episodes: tuple[Episode, ...],
    folder: Path,
    key: str,
    log: Callable[[str], None],
) -> dict[int, Chunk]:
    """The chunks by their first episode: in process 0 all, in the others those it made."""
    refuse_large_query(method, episodes)
    chunks: dict[int, Chunk] = {}
    starts = range(0, len(episodes), CHUNK)
    with progress("scoring", len(episodes), log, "episodes") as advance:
        for first in (starts[number] for number in _shared(len(starts))):
            batch = episodes[first : first + CHUNK]
            path = folder / f"{first:05d}.npz"
            shape = (len(batch), len(batch[0].query), len(view.part.labels))
            chunk = _read(path, key, shape, log)
            if chunk is None:
                chunk = _chunk(method, view, first, batch)
                _write(path, key, chunk)
            chunks[first] = chunk
            advance(len(batch))
    return chunks


def _shared(total: int) -> Iterator[int]:
    """The chunks of this process; in process 0 then those of the others, once they are made."""
    own = []
    for number in distributed.claims(total):
        own.append(number)
        yield number
    if distributed.number() == 0:
        distributed.all_followed()
        yield from sorted(set(range(total)) - set(own))


def _chunk(method: Method, view: PartView, first: int, batch: tuple[Episode, ...]) -> Chunk:
    supports = [view.support(first + i, episode) for i, episode in enumerate(batch)]
    predictors = adapt_all(method, supports, first)
    size = block_size(method.transductive)
    scores, decided = [], []
    for i, (predictor, episode) in enumerate(zip(predictors, batch, strict=True)):
        query = view.query(episode)
        given, own = _in_blocks(method.name, first + i, predictor, supports[i], query, size)
        place = {image_id: row for row, image_id in enumerate(query.ids)}
        back = [place[image_id] for image_id in episode.query]  # into the episode's own order
        scores.append(given[back])
        decided.append(None if own is None else own[back][None])
    return np.stack(scores), _joined(method.name, decided)


def block_size(transductive: bool) -> int:
    """How many query images are scored together: all of them where that may matter."""
    return MOST_TOGETHER if transductive else BLOCK


def refuse_large_query(method: Method, episodes: tuple[Episode, ...]) -> None:
    """BenchError where a transductive method would be given more images at once than it may be."""
    most = max(len(episode.query) for episode in episodes)
    if method.transductive and most > MOST_TOGETHER:
        raise BenchError(
            f"the query is too large for the transductive method {method.name!r}",
            expected=f"at most {MOST_TOGETHER:,} query images an episode, which are scored at once",
            found=f"{most:,}",
            remedy="use a protocol with smaller queries, or a method that is not transductive",
        )


def _in_blocks(
    method: str, episode: int, predictor: Predictor, support: Support, query: Images, size: int
) -> Chunk:
    """(scores [q, L], decisions [q, L] or None), from blocks of `size` query images."""
    blocks = [
        score(
            method,
            episode,
            predictor,
            support.images,
            query.subset(range(start, min(start + size, len(query)))),
            len(support.labels),
        )
        for start in range(0, len(query), size)
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


# -- one call into the method ------------------------------------------------------------------


def adapt(method: Method, support: Support, episode: int) -> Predictor:
    """The method's predictor for one episode; errors name the episode."""
    with method_call(method.name, f"while adapting to episode {episode}"):
        with adapting(method, [support]):
            predictor = method.adapt(support)
        return predictor_of(method, predictor)


def adapt_all(method: Method, supports: list[Support], first: int) -> list[Predictor]:
    """The method's predictors for episodes `first`, `first + 1`, ...; errors name the episode."""
    last = first + len(supports) - 1
    try:
        with (
            method_call(method.name, f"while adapting to episodes {first} to {last}"),
            adapting(method, supports),
        ):
            predictors = method.adapt_all(supports)
    except MethodFailedError:
        # Which of them was it? The contract lets every episode be adapted alone.
        for index, support in enumerate(supports, first):
            adapt(method, support, index)
        raise
    if not isinstance(predictors, list) or len(predictors) != len(supports):
        found = f"{len(predictors)}" if isinstance(predictors, list) else type(predictors).__name__
        raise _wrong(
            method.name,
            f"`adapt_all` of episodes {first} to {last}",
            f"a list of {len(supports)} predictors",
            found,
        )
    return [predictor_of(method, predictor) for predictor in predictors]


def score(
    method: str, episode: int, predictor: Predictor, support: Images, query: Images, n_labels: int
) -> Chunk:
    """(float32 [q, L] scores, bool [q, L] decisions or None) of one episode, checked.

    The `support` images are looked at only to find out whose fault scores are that are not finite.
    """
    import numpy as np
    import torch

    shape = (len(query), n_labels)

    def called(doing: str, function: Callable[[Images], Tensor]) -> Tensor:
        with (
            method_call(method, f"while {doing} episode {episode}"),
            torch.no_grad(),
            limited_to(query, and_ids=support.ids),
        ):
            return function(query)

    def reading(value: object, what: str) -> AbstractContextManager[None]:
        if type(value) is torch.Tensor and value.device.type == "cpu":
            return nullcontext()  # no code of the method runs when it is read
        return method_call(method, f"while its {what} of episode {episode} were read")

    scores = called("scoring", predictor)
    where = f"the scores of episode {episode}"
    with reading(scores, "scores"):
        _check(method, where, scores, shape, (torch.float32, torch.float64))
        # a copy: what comes next may change the method's own tensor
        array = scores.detach().to("cpu", torch.float32, copy=True).numpy()
    finite = np.isfinite(array)
    if not finite.all():
        _refuse_bad_features(support, query, episode)
        found = f"{int((~finite).sum())} of {array.size} are NaN or infinite"
        raise _wrong(method, where, "one finite float32 number per query image and label", found)

    if decides_nothing(predictor):
        return array, None

    def decide(query: Images) -> Any:
        own = getattr(predictor, "decide", None)
        return None if own is None else own(query)

    decisions = called("deciding", decide)
    if decisions is None:
        return array, None
    with reading(decisions, "decisions"):
        _check(method, f"the decisions of episode {episode}", decisions, shape, (torch.bool,))
        return array, decisions.detach().to("cpu", copy=True).numpy()


def _check(
    method: str, where: str, value: Tensor, shape: tuple[int, int], dtypes: tuple[torch.dtype, ...]
) -> None:
    kinds = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    expected = f"a dense tensor of {kinds} with shape {list(shape)}"
    if not isinstance(value, torch.Tensor):
        raise _wrong(method, where, expected, for_terminal(type(value).__name__, 100))
    if value.layout != torch.strided or value.is_nested or value.is_meta:
        kind = "on the meta device" if value.is_meta else f"of layout {value.layout}"
        raise _wrong(method, where, expected, f"a tensor {kind}, which holds no such numbers")
    if value.dtype not in dtypes or tuple(value.shape) != shape:
        raise _wrong(method, where, expected, f"{value.dtype} with shape {list(value.shape)}")


def _refuse_bad_features(support: Images, query: Images, episode: int) -> None:
    """BenchError when it is the features that are not finite: then the method is not to blame."""
    from mlfsic_bench.features.live import LiveFeatures
    from mlfsic_bench.features.sources import JoinedFeatures, StoredFeatures

    source: FeatureSource | None = query.source
    if isinstance(source, LimitedFeatures):
        source = source.source
    networks = source.sources.values() if isinstance(source, JoinedFeatures) else [source]
    for one in networks:
        if isinstance(one, StoredFeatures):
            one.check((*support.ids, *query.ids))
    if not any(isinstance(one, LiveFeatures) for one in networks):
        return
    with torch.no_grad():
        finite = torch.isfinite(query.pooled()).all(1).tolist()
    bad = [name for name, sound in zip(query.ids, finite, strict=True) if not sound]
    if bad:
        raise BenchError(
            f"the backbone's features of the query images of episode {episode} are not finite",
            expected="finite features of every image",
            found=f"NaN or infinity for {len(bad)} of {len(query)} images, such as {bad[0]}",
            remedy="check the weights; after end-to-end training, lower the learning rate",
        )


def _wrong(method: str, where: str, expected: str, found: str) -> BenchError:
    return BenchError(
        f"the method {method!r} returned something wrong: {where}",
        expected=expected,
        found=found,
        remedy="correct the method; mlfsic-bench methods check explains the contract",
    )
