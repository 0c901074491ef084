"""The table of hostile files: each case writes one and says who reads it and why it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# The command line that a user would run on the file; for a file that no verb reads by itself,
# the reader that does.
Command = list[str] | Callable[[], object]
Prepare = Callable[[Path], Command]


@dataclass(frozen=True)
class Hostile:
    """One hostile or broken file.

    Attributes
    ----------
    prepare: writes it, in the current folder; gets the folder of sound files to start from.
    says: each of these stands in the error.
    leaves: what may be new or changed afterwards, as a path begins.
    """

    prepare: Prepare
    says: tuple[str, ...]
    leaves: tuple[str, ...]


HOSTILE: dict[str, Hostile] = {}


def hostile(name: str, *says: str, leaves: tuple[str, ...] = ()) -> Callable[[Prepare], Prepare]:
    """Register a case under its name."""

    def register(prepare: Prepare) -> Prepare:
        assert name not in HOSTILE or HOSTILE[name].prepare.__code__ == prepare.__code__, name
        HOSTILE[name] = Hostile(prepare, says, leaves)
        return prepare

    return register


class Payload:
    """Pickled, this asks whoever unpickles it to make the folder `executed`."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        import os

        return os.mkdir, ("executed",)
