"""Calls into a plug-in's code: what surrounds them, and what becomes of exceptions in there."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mlfsic_bench.errors import BenchError
from mlfsic_bench.plugins.surroundings import preserved
from mlfsic_bench.text import exception_text, for_terminal

FRAMES = 3
LONGEST_TEXT = 500  # characters of a line of foreign code
_OWN = "_raised_by_mlfsic_bench"
Function = TypeVar("Function", bound=Callable[..., Any])


class PluginFailedError(BenchError):
    """A plug-in's own code raised; errors of ours that pass through it are not of this kind."""


@contextmanager
def plugin_call(
    kind: str,
    name: str,
    stage: str,
    advise: Callable[[BaseException], str] = lambda error: "",
    failed: type[PluginFailedError] = PluginFailedError,
) -> Iterator[None]:
    """`blamed`; the state of the process is as before afterwards (`surroundings`)."""
    with blamed(kind, name, stage, advise, failed), preserved():
        yield


@contextmanager
def blamed(
    kind: str,
    name: str,
    stage: str,
    advise: Callable[[BaseException], str] = lambda error: "",
    failed: type[PluginFailedError] = PluginFailedError,
) -> Iterator[None]:
    """Turn any exception in the block into a BenchError naming the plug-in and the stage.

    That a plug-in calls `exit` is an error too: it would end the run as if all were well. Ctrl-C
    goes through, and so do our own errors: a BenchError, and what `ours` marks. It may be used in
    threads, with `preserved` around them.

    Parameters
    ----------
    kind, name: `method`, `backbone` or `dataset`, and what it is called.
    stage: when it failed, such as `while fitting`.
    advise: what to do about an exception, or "" where there is nothing special to say.
    failed: the class of the error.
    """
    try:
        yield
    except BaseException as error:
        if passes(error):
            raise
        raise failed(
            f"the {kind} {name!r} failed {stage}",
            expected="no exception",
            found=f"{exception_text(error)}\n{last_frames(error)}".rstrip(),
            remedy=advise(error)
            or f"correct the {kind} (mlfsic-bench {kind}s check helps) and run again; a changed "
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
    """Whether an exception that comes out of a plug-in's code is not the plug-in's.

    A class of BenchError that a plug-in defines is the plug-in's.
    """
    if isinstance(error, KeyboardInterrupt) or getattr(error, _OWN, False) is True:
        return True
    module = type(error).__module__
    return isinstance(error, BenchError) and str(module).startswith(("mlfsic_bench.", "mlfsic_bas"))


def ours(function: Function) -> Function:
    """`function`, to be handed to a plug-in: an exception in it is not blamed on the plug-in."""

    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            setattr(error, _OWN, True)
            raise

    return called  # type: ignore[return-value]


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
