"""Being told to stop: SIGTERM and SIGHUP end the work as Ctrl-C does, and records stay whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_OTHERS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP
# of `team`: another process of the run has failed. Windows has none: there a wait ends, no work
INTERRUPT: int = getattr(signal, "SIGURG", 0)
_ending = False  # whether the process is about to end, and no signal matters any more


class Stopped(KeyboardInterrupt):
    """The process was told to stop by the signal `number`; handled wherever Ctrl-C is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(stop: KeyboardInterrupt) -> int:
    """What a program that was stopped exits with: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.

    >>> exit_code(KeyboardInterrupt()), exit_code(Stopped(15))
    (130, 143)
    """
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def stoppable() -> Iterator[None]:
    """While the block runs, SIGTERM and SIGHUP raise `Stopped` in it.

    A signal that is ignored (SIGHUP under `nohup`) or that somebody handles stays as it is. Only
    the main thread can be told; elsewhere nothing changes.
    """
    with _handled(
        [number for number in _OTHERS if signal.getsignal(number) is signal.SIG_DFL], _stop
    ):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """No signal does anything while the block runs; for a short one, at the end."""
    interrupts = [INTERRUPT] if INTERRUPT else []
    with _handled([signal.SIGINT, *_OTHERS, *interrupts], signal.SIG_IGN):
        yield


def ignore_signals() -> None:
    """Let Ctrl-C, SIGTERM and SIGHUP do nothing from now on: the process is about to end."""
    end_anyway()
    for number in (signal.SIGINT, *_OTHERS):
        signal.signal(number, signal.SIG_IGN)


def end_anyway() -> None:
    """Let SIGTERM and SIGHUP raise no `Stopped` any more; any thread may call it."""
    global _ending
    _ending = True


@contextmanager
def _handled(numbers: list[int], handler: object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, handler)  # type: ignore[arg-type]
        yield
    finally:
        for number, old in before.items():
            if old is not None:  # None: a handler that is not Python's, and can't be put back
                signal.signal(number, signal.SIG_IGN if _ending else old)


def _stop(number: int, frame: FrameType | None) -> None:
    if not _ending:  # a plug-in's surroundings may have put this handler back
        raise Stopped(number)
