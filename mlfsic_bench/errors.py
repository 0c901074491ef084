"""The one error a user sees: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 1500  # characters of what an error says it found


class BenchError(Exception):
    """Bad input or an impossible request; the command line prints it and exits with 2.

    Parameters
    ----------
    what: one sentence naming the thing that is wrong (a file, a key, a label).
    expected: what would have been right.
    found: what was there instead.
    remedy: what the user can do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, expected: str, found: str, remedy: str) -> None:
        what = _shortened(what)
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.found = _shortened(found)
        self.remedy = remedy

    def __str__(self) -> str:
        return (
            f"{self.what}\n  expected: {self.expected}\n"
            f"  found:    {self.found}\n  to do:    {self.remedy}"
        )


def _shortened(text: str) -> str:
    """At most LONGEST characters: what was found may come from a file, however long it is there."""
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest in spelling to `name`, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BenchError:
    """A BenchError for a name that is not among the known ones of its kind."""
    names = sorted(known)
    close = nearest(name, names)
    hint = f"did you mean {close!r}?" if close else "choose one of the names above"
    return BenchError(
        f"unknown {kind} {name!r}",
        expected=f"one of: {', '.join(names) or '(none)'}",
        found=repr(name),
        remedy=hint,
    )
