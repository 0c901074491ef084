"""The state of the process around a call into a method: kept, compared, and put back.

A method shares the process with the benchmark and with the methods that run after it. Whatever it
changes outside of itself (a default dtype, the working folder, a random state) would change what
they compute. Not covered: modules it loads or patches, `sys.path`, threads it leaves running.
"""

from __future__ import annotations

import ctypes
import locale
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn

import numpy as np

RANDOM = ("random", "numpy.random", "torch.random")  # what a draw changes, too
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGPIPE")
    if hasattr(signal, name)
]
_NUMBERS = [int(number) for number in _SIGNALS]
# the function below the one that makes members of enums, which takes many times as long
_getsignal: Callable[[int], Any] = getattr(signal.getsignal, "__wrapped__", signal.getsignal)
_watchers: list[set[str]] = []
Parts = dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]


class ExitCalledError(BaseException):
    """A method called `os._exit`; no Exception, so that no `except Exception` takes it away."""


class Surroundings:
    """The state of the process as it was when this was made."""

    def __init__(self) -> None:
        self._kept = {name: read() for name, (read, _) in _parts().items()}

    def restore(self) -> None:
        """Put back what is different now; what is torch's, as a new torch has it, if it is new."""
        if "torch" in sys.modules:
            from mlfsic_bench.plugins.torch_state import AT_FIRST

            self._kept = {**AT_FIRST, **self._kept}
        for name, (read, write) in _parts().items():
            if name in self._kept and read() != self._kept[name]:
                for names in _watchers:
                    names.add(name)
                with suppress(OSError, ValueError):  # a folder that is gone can't be gone back to
                    write(self._kept[name])


def _parts() -> Parts:
    """What is looked at. Torch's state comes first: putting other things back makes tensors."""
    if "torch" not in sys.modules:  # nothing of it can be changed, and to import it takes seconds
        return _PARTS
    from mlfsic_bench.plugins.torch_state import PARTS

    return {**PARTS, **_PARTS}


@contextmanager
def watching() -> Iterator[set[str]]:
    """A set that fills with the names of what is put back in the block."""
    names: set[str] = set()
    _watchers.append(names)
    try:
        yield names
    finally:
        _watchers[:] = [one for one in _watchers if one is not names]


@contextmanager
def preserved() -> Iterator[None]:
    """Run the block, then put everything back; meanwhile `os._exit` raises an ExitCalledError."""
    kept = Surroundings()
    try:
        with exits_refused():
            yield
    finally:
        kept.restore()


@contextmanager
def exits_refused() -> Iterator[None]:
    """In the block `os._exit` raises an ExitCalledError. Blocks may be nested, and in threads."""
    global _blocks, _owner
    with _BLOCKS:
        _blocks += 1
        if _blocks == 1:
            _owner = os.getpid()
            for module in _EXITS:
                module._exit = _exit
    try:
        yield
    finally:
        with _BLOCKS:
            _blocks -= 1
            if not _blocks:
                for module in _EXITS:
                    module._exit = _EXIT


_EXIT = os._exit
_EXITS: list[Any] = [os, *([sys.modules["posix"]] if "posix" in sys.modules else [])]
_owner = 0
_blocks = 0  # how many blocks refuse exits now
_BLOCKS = threading.Lock()


def _exit(status: int = 0) -> NoReturn:
    if os.getpid() != _owner:  # a process that was forked, such as a data loader's, may end
        _EXIT(status)
    raise ExitCalledError(f"os._exit({status!r}) was called, which would end the program")


_NUMPY: list[tuple[bytes, tuple[Any, ...]]] = []  # the last state that was read, by its bytes
_WORDS = 625  # of the Mersenne Twister: 624 and a position, 4 bytes each


def _numpy_state() -> tuple[Any, ...]:
    # numpy takes 100 µs to give its state away, so its bytes are looked at in place. They do not
    # hold a normal number that waits to be used; only further draws can make one wait.
    generator = np.random.get_bit_generator()  # type: ignore[attr-defined]
    read = b""
    if type(generator) is np.random.MT19937:
        read = ctypes.string_at(generator.ctypes.state_address, 4 * _WORDS)
        if _NUMPY and _NUMPY[0][0] == read:
            return _NUMPY[0][1]
    state: Any = np.random.get_state()  # noqa: NPY002 - the legacy generator is global
    name, key, position, waits, *rest = state
    made = (name, key.tobytes(), position, waits, *rest)
    _NUMPY[:] = [] if waits or not read else [(read, made)]
    return made


def _set_numpy_state(state: tuple[Any, ...]) -> None:
    name, key, *rest = state
    np.random.set_state((name, np.frombuffer(key, np.uint32), *rest))  # noqa: NPY002


def _keeps_denormals() -> bool:
    return bool(np.float64(5e-324) * np.float64(1) != 0)


def _set_denormals(kept: bool) -> None:
    import torch  # whoever changed this has imported it

    torch.set_flush_denormal(not kept)


def _set_filters(kept: list[Any]) -> None:
    warnings.resetwarnings()  # also forgets which warnings were shown under the others
    warnings.filters[:] = kept  # type: ignore[index]


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - many times a run, and a Path takes ten times as long
    except OSError:
        return None


def _set_folder(kept: str | None) -> None:
    if kept is not None:
        os.chdir(kept)


def _environment() -> dict[Any, Any]:
    """Names and values as the system has them: bytes where it has such. To decode takes longer."""
    held: dict[Any, Any] = vars(os.environ)["_data"]
    return held.copy()


def _set_environment(kept: dict[Any, Any]) -> None:
    environ: Any = getattr(os, "environb", os.environ)
    for name in [name for name in environ if name not in kept]:
        del environ[name]
    environ.update(kept)


def _handlers() -> list[Any]:
    return [_getsignal(number) for number in _NUMBERS]


def _set_handlers(kept: list[Any]) -> None:
    if threading.current_thread() is threading.main_thread():  # no other may
        for number, handler in zip(_SIGNALS, kept, strict=True):
            if handler is not None:
                signal.signal(number, handler)


# name -> (read, write); what read gives is compared by ==
_PARTS: Parts = {
    "denormal numbers": (_keeps_denormals, _set_denormals),
    "numpy's error handling": (np.geterr, lambda kept: np.seterr(**kept)),
    "warning filters": (lambda: list(warnings.filters), _set_filters),
    "the working folder": (_folder, _set_folder),
    "environment variables": (_environment, _set_environment),
    "the locale": (
        lambda: locale.setlocale(locale.LC_ALL),
        lambda kept: locale.setlocale(locale.LC_ALL, kept),
    ),
    "signal handlers": (_handlers, _set_handlers),
    "sys.stdout": (partial(getattr, sys, "stdout"), partial(setattr, sys, "stdout")),
    "sys.stderr": (partial(getattr, sys, "stderr"), partial(setattr, sys, "stderr")),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "random": (random.getstate, random.setstate),
    "numpy.random": (_numpy_state, _set_numpy_state),
}
