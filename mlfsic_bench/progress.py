"""What long work says of itself: a bar on a terminal, a line every ten seconds in a log file.

Lines go to the function `log` that most long calls take. Deep code without one uses `LOG`, the
logger `mlfsic_bench`: `info` for progress and notes, `debug` for what only `-v` shows (files read,
stored features used). A program that imports the package sees neither unless it asks for them:

    logging.basicConfig(level=logging.INFO)
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from mlfsic_bench.text import for_terminal

Item = TypeVar("Item")
LOG = logging.getLogger("mlfsic_bench")
SECONDS = 10.0  # between two lines
BAR_AFTER, BAR_EVERY = 1.0, 0.2  # seconds until a bar is shown, and between two drawings of it
_CELLS = 12  # of the bar itself; the time left must fit into 80 places
_drawn = False  # whether a bar is on the terminal now


def is_quiet() -> bool:
    """Whether progress and notes are left out (`-q`)."""
    return LOG.level > logging.INFO


@contextmanager
def progress(
    title: str,
    total: int,
    log: Callable[[str], None] | None = None,
    unit: str = "images",
    done: int = 0,
) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of pieces that were done since the last call.

    Where standard error is a terminal, a bar is drawn; elsewhere a line every SECONDS says how many
    are done, how fast it goes and how long it will still take.

    Parameters
    ----------
    title: what is being worked on.
    total, done: pieces in all, and those done by an earlier process.
    log: gets the lines; None for `LOG.info`.
    unit: what a piece is called, in the plural.
    """
    start = said = time.monotonic()
    count, on_terminal = done, sys.stderr is not None and sys.stderr.isatty()

    def advance(more: int = 1) -> None:
        nonlocal count, said
        count += more
        now = time.monotonic()
        if on_terminal:
            if now - start >= BAR_AFTER and now - said >= BAR_EVERY and not is_quiet():
                said = now
                _draw(title, count, total, *_speed(count - done, total - count, now - start))
        elif now - said >= SECONDS:
            said = now
            rate, left = _speed(count - done, total - count, now - start)
            (log or LOG.info)(f"{title}: {count:,} of {total:,} {unit}, {rate} a second, {left}")

    try:
        yield advance
    finally:
        wipe()


def tracked(
    items: Collection[Item],
    title: str,
    log: Callable[[str], None] | None = None,
    unit: str = "images",
    done: int = 0,
) -> Iterator[Item]:
    """The items, one after the other; `progress` says how many of them were worked on."""
    with progress(title, done + len(items), log, unit, done) as advance:
        for item in items:
            yield item
            advance(1)


def wipe() -> None:
    """Take the bar off the terminal, so that a line can be printed in its place."""
    global _drawn
    if _drawn:
        _drawn = False
        _write("\r\x1b[K")


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


def _speed(done: int, left: int, seconds: float) -> tuple[str, str]:
    """Pieces a second, and the time left."""
    rate = done / seconds if seconds > 0 else 0.0
    return f"{rate:.3g}", f"{in_words(left / rate) if rate else 'unknown time'} left"


def _draw(title: str, count: int, total: int, rate: str, left: str) -> None:
    global _drawn
    filled = min(_CELLS, _CELLS * count // max(total, 1))
    bar = "#" * filled + "-" * (_CELLS - filled)
    line = for_terminal(f"{title} [{bar}] {count:,} of {total:,}, {rate}/s, {left}")
    _drawn = True
    _write(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K")


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # a terminal that is gone stops no work
        sys.stderr.write(text)
        sys.stderr.flush()
