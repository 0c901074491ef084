"""Label embeddings: one vector per label, looked up in a file or those of the data set `scenes`."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.embeddings.formats import Entries, Form
from mlfsic_bench.embeddings.kept_vectors import kept_entries
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import write_json, write_text
from mlfsic_bench.hashing import canonical_json
from mlfsic_bench.randomness import splitmix64_array, stream_seed

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset

BUILTIN = "scenes"
RANDOM, RANDOM_SIZE = "random", 300
# PASCAL VOC writes three of its labels as one word.
VOC_ALIASES = {
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}
_BACK = {spaced: joined for joined, spaced in VOC_ALIASES.items()}

# Other words for the same thing. They are never used in place of a label, only named in the error
# when the label has no vector.
_OTHER_WORDS = (
    ("aeroplane", "airplane"),
    ("motorbike", "motorcycle"),
    ("sofa", "couch"),
    ("donut", "doughnut"),
    ("tv", "television"),
    ("drier", "dryer"),
    ("cellphone", "phone"),
)


def spaced_form(label: str) -> str:
    """The label with VOC's joined spellings taken apart.

    >>> spaced_form("tvmonitor"), spaced_form("hot dog")
    ('tv monitor', 'hot dog')
    """
    return VOC_ALIASES.get(label, label)


def joined_form(label: str) -> str | None:
    """VOC's joined spelling of a label that has one.

    >>> joined_form("tv monitor"), joined_form("tvmonitor"), joined_form("dog")
    ('tvmonitor', 'tvmonitor', None)
    """
    return _BACK.get(spaced_form(label))


def lookups(label: str) -> list[tuple[str, ...]]:
    """The ways to look a label up, best first; each is a tuple of entries to be averaged.

    A label of one word: as it is written, then in lower case. A label of several words:

    1. its words, in lower case: their mean, whatever else the file has (docs/methodology.md, M15);
    2. the whole label as one entry, spaces written `_`, as it is written, then in lower case;
    3. VOC's joined spelling as one entry.

    VOC's joined labels are read as their spaced form first, in 1 and 2.

    >>> lookups("hot dog")
    [('hot', 'dog'), ('hot_dog',)]
    >>> lookups("tvmonitor") == lookups("tv monitor")
    True
    >>> lookups("TV monitor")
    [('tv', 'monitor'), ('TV_monitor',), ('tv_monitor',)]
    """
    spaced = spaced_form(label)
    words = spaced.split()
    whole = "_".join(words)
    ways: list[tuple[str, ...]] = [(whole,), (whole.lower(),)]
    if len(words) > 1:
        ways.insert(0, tuple(spaced.lower().split()))
    joined = joined_form(label)
    if joined is not None:
        ways.append((joined,))
    return list(dict.fromkeys(way for way in ways if way and way[0]))


def resembling(word: str) -> list[str]:
    """Entries that a file may have where it lacks `word`: other capitals, number, or words.

    >>> resembling("donut")
    ['Donut', 'DONUT', 'donuts', 'doughnut']
    """
    number = [word[:-1]] if word.endswith("s") and len(word) > 2 else [f"{word}s"]
    others = [b if word == a else a for a, b in _OTHER_WORDS if word in (a, b)]
    near = [word.capitalize(), word.upper(), *number, *others]
    return list(dict.fromkeys(entry for entry in near if entry != word))


def missing_words(label: str, entries: Container[str]) -> list[str]:
    """The words (or the one joined spelling) of a label without a vector that `entries` lacks."""
    words = dict.fromkeys(word for way in lookups(label) for word in way if "_" not in word)
    return [word for word in words if word not in entries]


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

    The path `scenes` stands for that data set's own vectors, of all its labels where none is named.
    Raises BenchError for a damaged file and for a list that names a label twice or has an empty
    one; labels without a vector are reported, not raised.
    """
    check_labels(labels)
    if str(path) == BUILTIN:
        return _of_scenes(labels)
    ways = {label: lookups(label) for label in labels}
    wanted = {entry for options in ways.values() for option in options for entry in option}
    near = {
        word: resembling(word) for label in labels for word in missing_words(label, frozenset())
    }
    entries = kept_entries(path, wanted.union(*near.values()), form)
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


def _of_scenes(labels: Sequence[str]) -> Lookup:
    from mlfsic_bench.data.scenes import LABELS, label_embeddings

    vectors = label_embeddings(labels or LABELS).astype(np.float64)
    own = dict(zip(labels or LABELS, vectors, strict=True))
    entries = Entries(own, vectors.shape[1], len(LABELS), 0, (), "its own vectors", None)
    return Lookup(entries, {label: (label,) for label in own}, ())


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


@dataclass(frozen=True, eq=False)
class LabelEmbeddings:
    """Label embeddings as a run uses them.

    Attributes
    ----------
    labels: L label names.
    vectors: float32 [L, d_w], finite; row i belongs to label i.
    name: where they come from, e.g. `glove.6B.300d.txt`.
    hash: SHA-256 over the labels and the bytes of the vectors; of vectors made from texts, over
        what made them (`texts.embed_labels`).
    templates: the texts that the labels were written into; empty for vectors from a file.
    space: the backbone whose global vectors live in the same space; empty for none.
    """

    labels: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    name: str
    hash: str
    templates: tuple[str, ...] = ()
    space: str = ""

    @property
    def dimension(self) -> int:
        """d_w."""
        return int(self.vectors.shape[1])

    def select(self, labels: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [len(labels), d_w]: the rows of these labels, in this order."""
        row = {label: i for i, label in enumerate(self.labels)}
        return self.vectors[[row[label] for label in labels]]


def make_label_embeddings(
    labels: Sequence[str], vectors: npt.NDArray[np.floating], name: str
) -> LabelEmbeddings:
    """LabelEmbeddings with their hash: canonical JSON of labels and shape, then float32 bytes."""
    data = np.ascontiguousarray(vectors, dtype="<f4")
    digest = hashlib.sha256(canonical_json({"labels": list(labels), "shape": list(data.shape)}))
    digest.update(data.tobytes())
    return LabelEmbeddings(tuple(labels), data.astype(np.float32), name, digest.hexdigest())


def load_embeddings(
    path: Path | str, labels: Sequence[str], form: Form = "auto"
) -> LabelEmbeddings:
    """float32 vectors of `labels`, from a vector file or from the builtin `scenes`.

    The file is GloVe's text, word2vec's text or binary, fastText's `.vec` or a table of whole
    labels, gzip'd or not; `form` says which, or "auto" looks at the content (`formats`). A
    label takes the mean of its words' vectors, in float64 before it is rounded, or the vector of
    the whole label where the file lacks a word (`lookups` has the order, and VOC's own
    spellings). Vectors are used as they are, without normalisation.

    Raises BenchError naming every label without a vector and the words that are missing; naming
    the line or entry for a damaged file.
    """
    path = Path(path)
    lookup = look_up(path, labels, form)
    if lookup.missing:
        raise _missing(path, lookup, len(labels))
    vectors = np.empty((len(labels), lookup.entries.dimension), dtype=np.float64)
    for row, label in enumerate(labels):
        vectors[row] = lookup.vector(label)
    with np.errstate(over="ignore"):
        beyond = ~np.isfinite(vectors.astype(np.float32)).all(axis=1)
    if beyond.any():
        raise BenchError(
            f"{path} has numbers too large for a vector of {labels[int(beyond.argmax())]!r}",
            expected="numbers that fit float32",
            found="a number beyond 3.4e38",
            remedy="fetch the file again, or correct the number",
        )
    return make_label_embeddings(labels, vectors, path.name)


def _missing(path: Path, lookup: Lookup, total: int) -> BenchError:
    shown = [str(missing) for missing in lookup.missing[:5]]
    rest = [repr(missing.label) for missing in lookup.missing[5:]]
    return BenchError(
        f"{path} has no vector for {len(lookup.missing)} of {total} labels",
        expected="each label as one entry (spaces written _), or each of its words",
        found="; ".join(shown) + (f"; and {', '.join(rest)}" if rest else ""),
        remedy="name a file that has these words, such as GloVe 6B; "
        "`mlfsic-bench embeddings show FILE` says what a file has",
    )


def built_in(dataset: Dataset, labels: Sequence[str]) -> LabelEmbeddings | None:
    """The vectors that a dataset brings for its labels, under its name; None where it has none."""
    vectors = dataset.label_embeddings(labels)
    return None if vectors is None else make_label_embeddings(labels, vectors, dataset.name)


def random_embeddings(labels: Sequence[str]) -> LabelEmbeddings:
    """Vectors that say nothing of the labels, float32 [L, 300], uniform on [-1, 1): a control.

    Those of a label depend on its name alone.
    """
    seeds = np.array([stream_seed("embeddings/random", label) for label in labels], np.uint64)
    drawn = splitmix64_array(seeds[:, None], np.arange(RANDOM_SIZE, dtype=np.uint64)[None])
    vectors = (drawn >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1
    return make_label_embeddings(labels, vectors, RANDOM)


def embeddings_of(given: LabelEmbeddings, labels: Sequence[str]) -> LabelEmbeddings:
    """Those of `given` that belong to these labels, in this order; BenchError where one lacks."""
    missing = [label for label in labels if label not in given.labels]
    if missing:
        raise BenchError(
            f"{given.name} has no vector for {len(missing)} of {len(labels)} labels",
            expected="a vector for every label of the split",
            found=f"none for {', '.join(map(repr, missing[:5]))}",
            remedy="give label embeddings of all labels of the split",
        )
    if not np.isfinite(given.vectors).all():
        raise BenchError(
            f"{given.name} holds numbers that are not finite",
            expected="finite numbers",
            found="NaN or infinity",
            remedy="correct the vectors",
        )
    return make_label_embeddings(labels, given.select(labels), given.name)


def nearest_labels(vectors: npt.NDArray[np.float64], most: int) -> list[list[tuple[int, float]]]:
    """For each row of `vectors` [L, d_w] the `most` other rows of largest cosine, best first.

    Each as (row, cosine); of equal cosines the smaller row first. A vector of zeros has cosine 0
    with every other.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms == 0, 1, norms)
    cosines = unit @ unit.T
    return [
        [
            (int(other), float(cosines[row, other]))
            for other in np.argsort(-cosines[row], kind="stable")
            if other != row
        ][:most]
        for row in range(len(vectors))
    ]


def side_file(out: Path) -> Path:
    """Where it is written down what the table `out` was made of."""
    return out.with_name(f"{out.name}.json")


def write_label_table(
    out: Path, labels: Sequence[str], vectors: npt.NDArray[Any], made_of: Mapping[str, object]
) -> None:
    """Write a vector for each label, [L, d], and beside it, in `side_file`, what made them.

    One line for each label, spaces written `_`; the numbers give the float32 vectors back exactly.
    """
    lines = [
        " ".join(["_".join(label.split()), *(f"{value:.9g}" for value in row)]) + "\n"
        for label, row in zip(labels, vectors.astype(np.float32), strict=True)
    ]
    write_json(side_file(out), dict(made_of))
    write_text(out, "".join(lines))
