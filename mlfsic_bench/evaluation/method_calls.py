"""Calls into a method's code during a run: their outputs are checked, errors name the episode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.calls import (
    MethodFailedError,
    adapting,
    plugin_call,
    predictor_of,
)
from mlfsic_bench.methods.limited import LimitedFeatures, limited_to
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor

    from mlfsic_bench.features.sources import FeatureSource
    from mlfsic_bench.methods.contract import Images, Method, Predictor, Support

__all__ = ["MethodFailedError", "adapt", "adapt_all", "plugin_call", "score"]


def adapt(method: Method, support: Support, episode: int) -> Predictor:
    """The method's predictor for one episode; errors name the episode."""
    with plugin_call(method.name, f"while adapting to episode {episode}"):
        with adapting(method, [support]):
            predictor = method.adapt(support)
        return predictor_of(method, predictor)


def adapt_all(method: Method, supports: list[Support], first: int) -> list[Predictor]:
    """The method's predictors for episodes `first`, `first + 1`, ...; errors name the episode."""
    last = first + len(supports) - 1
    try:
        with (
            plugin_call(method.name, f"while adapting to episodes {first} to {last}"),
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
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]:
    """(float32 [q, L] scores, bool [q, L] decisions or None) of one episode, checked.

    The `support` images are looked at only to find out whose fault scores are that are not finite.
    """
    import numpy as np
    import torch

    shape = (len(query), n_labels)
    calling = f"while scoring episode {episode}"
    with plugin_call(method, calling), torch.no_grad(), limited_to(query, and_ids=support.ids):
        scores = predictor(query)
    where = f"the scores of episode {episode}"
    with plugin_call(method, f"while its scores of episode {episode} were read"):
        _check(method, where, scores, shape, (torch.float32, torch.float64))
        # a copy: what comes next may change the method's own tensor
        array = scores.detach().to("cpu", torch.float32, copy=True).numpy()
    finite = np.isfinite(array)
    if not finite.all():
        _refuse_bad_features(support, query, episode)
        found = f"{int((~finite).sum())} of {array.size} are NaN or infinite"
        raise _wrong(method, where, "one finite float32 number per query image and label", found)
    calling = f"while deciding episode {episode}"
    with plugin_call(method, calling), torch.no_grad(), limited_to(query, and_ids=support.ids):
        decide = getattr(predictor, "decide", None)
        decisions = decide(query) if decide is not None else None
    if decisions is None:
        return array, None
    with plugin_call(method, f"while its decisions of episode {episode} were read"):
        _check(method, f"the decisions of episode {episode}", decisions, shape, (torch.bool,))
        return array, decisions.detach().to("cpu", copy=True).numpy()


def _check(
    method: str,
    where: str,
    value: Tensor,
    shape: tuple[int, int],
    dtypes: tuple[torch.dtype, ...],
) -> None:
    import torch

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
    import torch

    from mlfsic_bench.features.sources import JoinedFeatures, LiveFeatures, StoredFeatures

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
