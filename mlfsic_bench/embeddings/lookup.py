"""Which entries of a vector file serve each label, and which labels it can't serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlfsic_bench.embeddings.aliases import lookups, missing_words, resembling
from mlfsic_bench.embeddings.entries import Entries
from mlfsic_bench.embeddings.read import read_entries
from mlfsic_bench.embeddings.vector_file import Form
from mlfsic_bench.errors import BenchError


@dataclass(frozen=True)
class Missing:
    """A label that a file has no vector for.

    Attributes
    ----------
    label: the label.
    words: the words that are not in the file.
    near: entries of the file that resemble them; they are not used.
    """

    label: str
    words: tuple[str, ...]
    near: tuple[str, ...]

    def __str__(self) -> str:
        near = f"; the file has {', '.join(map(repr, self.near))}" if self.near else ""
        return f"{self.label!r} (missing: {', '.join(self.words)}{near})"


@dataclass(frozen=True, eq=False)
class Lookup:
    """The labels of a list in a vector file.

    Attributes
    ----------
    entries: what was read.
    found: for each label that has a vector, the entries it is the mean of.
    missing: the other labels.
    """

    entries: Entries
    found: dict[str, tuple[str, ...]]
    missing: tuple[Missing, ...]

    def vector(self, label: str) -> npt.NDArray[np.float64]:
        """float64 [d_w]: the mean of the label's entries, in that precision."""
        chosen = [self.entries.vectors[entry] for entry in self.found[label]]
        mean: npt.NDArray[np.float64] = np.mean(chosen, axis=0)
        return mean


def look_up(path: Path, labels: Sequence[str], form: Form = "auto") -> Lookup:
    """Read the vector file at `path` once and find each label in it by the rule of `lookups`.

    Raises BenchError for a damaged file and for a list that names a label twice or has an empty
    one; labels without a vector are reported, not raised.
    """
    check_labels(labels)
    ways = {label: lookups(label) for label in labels}
    wanted = {entry for options in ways.values() for option in options for entry in option}
    near = {
        word: resembling(word) for label in labels for word in missing_words(label, frozenset())
    }
    entries = read_entries(path, wanted.union(*near.values()), form)
    found: dict[str, tuple[str, ...]] = {}
    missing: list[Missing] = []
    for label, options in ways.items():
        chosen = next((o for o in options if all(e in entries.vectors for e in o)), None)
        if chosen is not None:
            found[label] = chosen
            continue
        words = missing_words(label, entries.vectors)
        hints = [e for word in words for e in near[word] if e in entries.vectors]
        missing.append(Missing(label, tuple(words), tuple(dict.fromkeys(hints))))
    return Lookup(entries, found, tuple(missing))


def check_labels(labels: Sequence[str]) -> None:
    """BenchError for an empty label, and for two labels that are written alike in a file."""
    written = ["_".join(label.split()) for label in labels]
    twice = [label for label, name in zip(labels, written, strict=True) if written.count(name) > 1]
    if twice or not all(written):
        raise BenchError(
            "the list of labels is not one to look up",
            expected="labels that are not empty, each once",
            found=" and ".join(map(repr, twice[:2])) if twice else "an empty label",
            remedy="correct the list",
        )
