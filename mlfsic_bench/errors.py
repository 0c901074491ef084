"""The one error a user sees: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mlfsic_bench.text import said

INDENT = " " * 12  # of the further lines of a field


class BenchError(Exception):
    """Bad input or an impossible request; the command line prints it and exits with 2.

    Parameters
    ----------
    what: one sentence naming the thing that is wrong (a file, a key, a label).
    expected: what would have been right.
    found: what was there instead.
    remedy: what the user can do about it.

    Each may hold text from a file or a plug-in: it is cut, and characters that can't be seen are
    shown as `�`. Further lines of one of them are indented, so that none looks like the next.
    """

    exit_code = 2

    def __init__(self, what: str, *, expected: str, found: str, remedy: str) -> None:
        self.what = said(what)
        self.expected = said(expected)
        self.found = said(found)
        self.remedy = said(remedy)
        super().__init__(self.what)

    def __str__(self) -> str:
        return (
            f"{_indented(self.what)}\n  expected: {_indented(self.expected)}\n"
            f"  found:    {_indented(self.found)}\n  to do:    {_indented(self.remedy)}"
        )


def _indented(text: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *(s if s.startswith(INDENT) else INDENT + s for s in rest)])


def described(value: object) -> str:
    """What a value of a wrong type is, for `found`: short ones as they are, others by their type.

    >>> described(3), described(None), described([1, 2]), described("a" * 100)
    ('3', 'None', 'a value of type list', 'a text of 100 characters')
    """
    if isinstance(value, str) and len(value) > 80:
        return f"a text of {len(value)} characters"
    if value is None or isinstance(value, (str, int, float)):
        return repr(value)
    return f"a value of type {type(value).__name__}"


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
