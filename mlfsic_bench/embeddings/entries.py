"""Entries: the vectors that were asked for, with what else is known of the file they come from."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Entries:
    """What one pass over a vector file found.

    Attributes
    ----------
    vectors: float64 [d_w] for each wanted entry that the file has.
    dimension: d_w.
    count: number of entries in the file.
    undecodable: how many of them are not UTF-8; no label can mean those, so they are passed over.
    repeated: wanted entries that occur again; the first occurrence counts.
    layout: how the file writes its entries, in words.
    promised: number of entries in the file's header; None without a header.
    """

    vectors: dict[str, npt.NDArray[np.float64]]
    dimension: int
    count: int
    undecodable: int
    repeated: tuple[str, ...]
    layout: str
    promised: int | None


class Collector:
    """Keeps wanted vectors as a reader meets entries, and counts the rest."""

    def __init__(self, wanted: Set[str]) -> None:
        self.keys = {entry.encode(errors="surrogatepass"): entry for entry in wanted}
        self.vectors: dict[str, npt.NDArray[np.float64]] = {}
        self.count = 0
        self.undecodable = 0
        self._repeated: dict[str, None] = {}

    def meet(self, entry: bytes) -> str | None:
        """Count an entry; its name when its vector is to be kept, else None."""
        self.count += 1
        name = self.keys.get(entry)
        if name is None:
            if not entry.isascii() and not _is_utf8(entry):
                self.undecodable += 1
            return None
        if name in self.vectors:
            self._repeated[name] = None
            return None
        return name

    def entries(self, dimension: int, layout: str, promised: int | None) -> Entries:
        """What was kept, once the file is read."""
        repeated = tuple(self._repeated)
        return Entries(
            self.vectors, dimension, self.count, self.undecodable, repeated, layout, promised
        )


def _is_utf8(entry: bytes) -> bool:
    try:
        entry.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
