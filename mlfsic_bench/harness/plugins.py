"""Calls into a method's code: exceptions become one clear error, outputs are checked."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from mlfsic_bench.methods.contract import Images, Labeller, Method, Support

FRAMES = 3


class MethodFailedError(BenchError):
    """A method's own code raised; errors of ours that pass through it are not of this kind."""


@contextmanager
def plugin_call(method: str, stage: str) -> Iterator[None]:
    """Turn any exception in the block into a BenchError naming the method and the stage.

    That a method calls `exit` is an error too: it would end the run as if all were well. Ctrl-C
    goes through.
    """
    try:
        yield
    except BenchError:
        raise
    except (Exception, SystemExit) as error:
        raise MethodFailedError(
            f"the method {method!r} failed {stage}",
            expected="no exception",
            found=f"{type(error).__name__}: {error}\n{_last_frames(error)}",
            remedy="correct the method (mlfsic-bench methods check helps) and run again to resume",
        ) from error


def _last_frames(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return "\n".join(
        f"            {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in frames
    )


def adapt_all(method: Method, supports: list[Support], first: int) -> list[Labeller]:
    """The method's labellers for episodes `first`, `first + 1`, ...; errors name the episode."""
    last = first + len(supports) - 1
    try:
        with plugin_call(method.name, f"while adapting to episodes {first} to {last}"):
            labellers = method.adapt_all(supports)
    except MethodFailedError:
        # Which of them was it? The contract lets every episode be adapted alone.
        for index, support in enumerate(supports, first):
            with plugin_call(method.name, f"while adapting to episode {index}"):
                method.adapt(support)
        raise
    if not isinstance(labellers, list) or len(labellers) != len(supports):
        found = f"{len(labellers)}" if isinstance(labellers, list) else type(labellers).__name__
        raise _wrong(
            method.name,
            f"`adapt_all` of episodes {first} to {last}",
            f"a list of {len(supports)} labellers",
            found,
        )
    return labellers


def score(
    method: str, episode: int, labeller: Labeller, query: Images, n_labels: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]:
    """(float32 [q, L] scores, bool [q, L] decisions or None) of one episode, checked."""
    import numpy as np
    import torch

    shape = (len(query), n_labels)
    with plugin_call(method, f"while scoring episode {episode}"), torch.no_grad():
        scores = labeller(query)
        decide = getattr(labeller, "decide", None)
        decisions = decide(query) if decide is not None else None
    where = f"the scores of episode {episode}"
    _check(method, where, scores, shape, "floating-point numbers", floating=True)
    array = scores.detach().to("cpu", torch.float32).numpy()
    finite = np.isfinite(array)
    if not finite.all():
        _refuse_bad_features(query, episode)
        found = f"{int((~finite).sum())} of {array.size} are NaN or infinite"
        raise _wrong(method, where, "one finite float32 number per query image and label", found)
    if decisions is None:
        return array, None
    _check(method, f"the decisions of episode {episode}", decisions, shape, "bool", floating=False)
    return array, decisions.detach().cpu().numpy()


def _check(
    method: str, where: str, value: Tensor, shape: tuple[int, int], kind: str, *, floating: bool
) -> None:
    import torch

    expected = f"a tensor of {kind} with shape {list(shape)}"
    if not isinstance(value, torch.Tensor):
        raise _wrong(method, where, expected, type(value).__name__)
    right = value.is_floating_point() if floating else value.dtype == torch.bool
    if not right or tuple(value.shape) != shape:
        raise _wrong(method, where, expected, f"{value.dtype} with shape {list(value.shape)}")


def _refuse_bad_features(query: Images, episode: int) -> None:
    """BenchError when it is the features that are not finite: then the method is not to blame.

    Stored features were checked when they were stored; those of a live backbone are only here.
    """
    import torch

    from mlfsic_bench.features.sources import LiveFeatures

    if not isinstance(query.source, LiveFeatures):
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
