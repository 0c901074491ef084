"""Calls into a method's code: what surrounds them, and what becomes of exceptions in there."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.limited import limited_to
from mlfsic_bench.methods.surroundings import preserved
from mlfsic_bench.text import exception_text, for_terminal

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.methods.contract import Images, Method, Predictor, Support

FRAMES = 3
LONGEST_TEXT = 500  # characters of a line of foreign code
_GRADIENT_WORDS = ("does not require grad", "inference tensor", "inference mode")
_OWN = "_raised_by_mlfsic_bench"
Function = TypeVar("Function", bound=Callable[..., Any])


class MethodFailedError(BenchError):
    """A method's own code raised; errors of ours that pass through it are not of this kind."""


@contextmanager
def plugin_call(method: str, stage: str) -> Iterator[None]:
    """Turn any exception in the block into a BenchError naming the method and the stage.

    The state of the process is as before afterwards (`surroundings`). That a method calls `exit`
    is an error too: it would end the run as if all were well. Ctrl-C goes through, and so do our
    own errors: a BenchError, and what `ours` marks.
    """
    try:
        with preserved():
            yield
    except BaseException as error:
        if passes(error):
            raise
        raise MethodFailedError(
            f"the method {method!r} failed {stage}",
            expected="no exception",
            found=f"{exception_text(error)}\n{last_frames(error)}".rstrip(),
            remedy=hint(error)
            or "correct the method (mlfsic-bench methods check helps) and run again; a changed "
            "file is another run, so name another --out or delete this run's folder",
        ) from error


@contextmanager
def foreign_code(
    what: str, *, expected: str, remedy: str, path: Path | None = None, ours_pass: bool = False
) -> Iterator[None]:
    """Turn any exception in the block, but Ctrl-C, into this BenchError, which shows the line.

    path: the file whose line is shown. ours_pass: whether errors of ours go through, too.
    """
    try:
        with preserved():
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if ours_pass and passes(error):
            raise
        found = f"{exception_text(error)}{where(error, path)}"
        raise BenchError(what, expected=expected, found=found, remedy=remedy) from error


def passes(error: BaseException) -> bool:
    """Whether an exception that comes out of a method's code is not the method's.

    A class of BenchError that a method defines is the method's.
    """
    if isinstance(error, KeyboardInterrupt) or getattr(error, _OWN, False) is True:
        return True
    module = type(error).__module__
    return isinstance(error, BenchError) and str(module).startswith(("mlfsic_bench.", "mlfsic_bas"))


def ours(function: Function) -> Function:
    """`function`, to be handed to a method: an exception in it is not blamed on the method."""

    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            setattr(error, _OWN, True)
            raise

    return called  # type: ignore[return-value]


# -- adapting and scoring -----------------------------------------------------------------------


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


class _Frozen:
    """A predictor that can't take gradients."""

    def __init__(self, method: str, predictor: Predictor) -> None:
        self._method, self._predictor = method, predictor

    def __call__(self, query: Images, /) -> Tensor:
        with _frozen(self._method, True):
            return self._predictor(query)

    @property
    def decide(self) -> Callable[[Images], Tensor] | None:
        decide: Callable[[Images], Tensor] | None = getattr(self._predictor, "decide", None)
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


# -- what is said of exceptions -----------------------------------------------------------------


def last_frames(error: BaseException) -> str:
    """The last FRAMES lines of code on the way to an exception, one a line; may be empty."""
    lines = [
        f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in _frames(error)[-FRAMES:]
    ]
    return "\n".join(" " * 12 + for_terminal(line, LONGEST_TEXT) for line in lines)


def where(error: BaseException, path: Path | None = None) -> str:
    """` at FILE:LINE: text` of the innermost frame (of `path`, when one is given)."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        text = str(error.text or "").strip()
        return for_terminal(f" at {error.filename}:{error.lineno}: {text}", LONGEST_TEXT)
    # Frozen frames have no line to show; that of `exit` is one from Python 3.11 on.
    own = [
        frame
        for frame in _frames(error)
        if (
            frame.filename == str(path)
            if path
            else frame.filename[:1] != "<" and not frame.filename.endswith("_sitebuiltins.py")
        )
    ]
    if not own:
        return ""
    return for_terminal(f" at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}", LONGEST_TEXT)


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    try:
        return list(traceback.extract_tb(error.__traceback__))
    except Exception:  # looking up a line asks the loader that the foreign module names
        return []
