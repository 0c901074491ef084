"""Sees what Python opens, runs, imports and asks of a network while a block runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SEEN = ("open", "exec", "compile", "import", "os.listdir", "os.scandir", "os.system")
NEVER = ("socket.", "subprocess.", "urllib.", "os.exec", "os.spawn")
_found: list[str] | None = None  # a hook can't be removed; outside a block it does nothing
_word = ""


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _found is None:
        return
    if event.startswith(NEVER) or (event in SEEN and _word in repr(args)):
        _found.append(f"{event} {args!r}"[:300])


sys.addaudithook(_hook)


@contextmanager
def touched(word: str) -> Iterator[list[str]]:
    """The list fills with what was opened, run or imported under a name that has `word` in it.

    Every use of a network and every other program counts, whatever its name.
    """
    global _found, _word
    _found, _word = [], word
    try:
        yield _found
    finally:
        _found = None
