"""How far a long piece of work is: a bar on a terminal, a line every ten seconds in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 10.0  # between two lines


class Lines:
    """Says every SECONDS how much is done, how fast it goes and how long it will still take.

    Parameters
    ----------
    title: what is being worked on.
    total, done: pieces in all, and those done by an earlier process.
    unit: what a piece is called, in the plural.
    log: gets the lines.
    """

    def __init__(
        self,
        title: str,
        total: int,
        log: Callable[[str], None],
        unit: str = "images",
        done: int = 0,
    ) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._log, self._first = log, done
        self._start = self._said = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """`count` more pieces are done."""
        self.done += count
        now = time.monotonic()
        if now - self._said < SECONDS:
            return
        self._said = now
        rate = (self.done - self._first) / (now - self._start)
        left = in_words((self.total - self.done) / rate) if rate else "unknown time"
        self._log(
            f"{self.title}: {self.done:,} of {self.total:,} {self.unit}, {rate:.3g} a second, "
            f"{left} left"
        )


@contextmanager
def progress(title: str, total: int, log: Callable[[str], None]) -> Iterator[Callable[[int], None]]:
    """A function that is told how many more images are done.

    It draws a bar where standard error is a terminal; elsewhere `log` gets a line every SECONDS.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(title, total, log).advance
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def in_words(seconds: float) -> str:
    """A time without invented precision.

    >>> [in_words(s) for s in (0.4, 7, 44, 200)]
    ['about 1 s', 'about 10 s', 'about 40 s', 'about 3 min']
    >>> [in_words(s) for s in (4000, 90000, 200000, 900000)]
    ['about 67 min', 'about 25 h', 'about 2 days', 'about 10 days']
    """
    if seconds < 5:
        return "about 1 s" if seconds < 3 else "about 5 s"
    if seconds < 95:
        return f"about {max(10, round(seconds / 10) * 10)} s"
    if seconds < 5400:
        return f"about {max(2, round(seconds / 60))} min"
    if seconds < 36 * 3600:
        return f"about {round(seconds / 3600)} h"
    days = round(seconds / 86400)
    return f"about {days} day{'s' if days > 1 else ''}"
