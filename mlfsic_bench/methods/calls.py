"""Calls into a method's code: what surrounds them, and what becomes of exceptions in there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.limited import limited_to
from mlfsic_bench.plugins.foreign import PluginFailedError, last_frames, passes, plugin_call
from mlfsic_bench.text import exception_text

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.methods.contract import Images, Method, Predictor, Support

_GRADIENT_WORDS = ("does not require grad", "inference tensor", "inference mode")


class MethodFailedError(PluginFailedError):
    """A method's own code raised; errors of ours that pass through it are not of this kind."""


def method_call(method: str, stage: str) -> AbstractContextManager[None]:
    """`plugin_call` of a method: any exception in the block becomes a MethodFailedError."""
    return plugin_call("method", method, stage, hint, MethodFailedError)


@contextmanager
def adapting(method: Method, supports: Sequence[Support]) -> Iterator[None]:
    """What surrounds `adapt` and `adapt_all`: the images of these supports have features, no other.

    Without `adapts_by_gradient` gradients can't be taken: inference mode holds, in which
    `torch.enable_grad()` has no effect.
    """
    images = [support.images for support in supports]
    with limited_to(*images), _frozen(method.name, not method.adapts_by_gradient):
        yield


def predictor_of(method: Method, predictor: Predictor) -> Predictor:
    """`predictor`, called as `adapting` says."""
    return predictor if method.adapts_by_gradient else _Frozen(method.name, predictor)


def decides_nothing(predictor: Predictor) -> bool:
    """Whether it is a plain function, which has scores and no decisions: known without a call."""
    plain = predictor.inner if isinstance(predictor, _Frozen) else predictor
    return type(plain) is FunctionType and "decide" not in vars(plain)


class _Frozen:
    """A predictor that can't take gradients."""

    def __init__(self, method: str, predictor: Predictor) -> None:
        self._method, self.inner = method, predictor

    def __call__(self, query: Images, /) -> Tensor:
        with _frozen(self._method, True):
            return self.inner(query)

    @property
    def decide(self) -> Callable[[Images], Tensor] | None:
        decide: Callable[[Images], Tensor] | None = getattr(self.inner, "decide", None)
        if decide is None:
            return None
        inner = decide

        def decided(query: Images) -> Tensor:
            with _frozen(self._method, True):
                return inner(query)

        return decided


@contextmanager
def _frozen(method: str, frozen: bool) -> Iterator[None]:
    mode: AbstractContextManager[Any] = torch.inference_mode() if frozen else nullcontext()
    try:
        with mode:
            yield
    except RuntimeError as error:
        if not frozen or passes(error) or not hint(error):
            raise
        raise BenchError(
            f"the method {method!r} takes gradients in adapt, but does not declare it",
            expected="adapts_by_gradient = True on the class, or no gradients in adapt",
            found=f"{exception_text(error)}\n{last_frames(error)}",
            remedy="set adapts_by_gradient = True on the class; the method is then listed as one "
            "that adapts by gradient",
        ) from error


def hint(error: BaseException) -> str:
    """What to do where it looks as if something was used that the class does not declare; or ''."""
    if isinstance(error, RuntimeError) and any(
        words in exception_text(error).lower() for words in _GRADIENT_WORDS
    ):
        return "set adapts_by_gradient = True on the class, if adapt takes gradient steps"
    if isinstance(error, (TypeError, AttributeError)) and "NoneType" in exception_text(error):
        return (
            "correct the method; where it is the label embeddings that are None: they are given "
            "to methods with needs_embeddings = True (or uses_embeddings = True) on the class only"
        )
    return ""
