"""The official counts of a data set's annotations, and how what was read differs from them.

Counts are cheap and need no file of the data set: they tell a copy with labels left out, or with
one annotation for each image and label, from the official one. Equal counts are not equal content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Anchors:
    """Official counts to compare a copy of a data set with.

    Attributes
    ----------
    counts: what is counted, in words (`annotations of train2014`) -> how many there are.
    about: what is counted, in a few words.
    source: where they come from, and how sure they are.
    remedy: how to come by the official annotations.
    """

    counts: Mapping[str, int]
    about: str
    source: str
    remedy: str

    @property
    def title(self) -> str:
        """`84 official counts of COCO 2014 (images, ...)`."""
        return f"{len(self.counts)} official counts of {self.about}"

    def differences(self, found: Mapping[str, int]) -> list[str]:
        """Where the counts of what was read are others, one line each; empty when all agree."""
        return [
            f"{what}: {found.get(what, 0):,}, officially {official:,}"
            for what, official in self.counts.items()
            if found.get(what) != official
        ]


def shortened(differences: Sequence[str], most: int = 4) -> list[str]:
    """The first differences, the last line saying how many more there are.

    >>> shortened(["a", "b", "c"], most=2)
    ['a', 'and 2 more']
    """
    more = len(differences) - most
    return [*differences[: most - 1], f"and {more + 1} more"] if more > 0 else list(differences)


def in_short(differences: Sequence[str]) -> str:
    """`shortened` in one line."""
    return "; ".join(shortened(differences))
