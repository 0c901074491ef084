"""Label vectors from a file: GloVe and its like, word by word, or a file with whole labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlfsic_bench.errors import BenchError
from mlfsic_bench.words.aliases import lookups
from mlfsic_bench.words.text_vectors import read_entries
from mlfsic_bench.words.vectors import LabelVectors, make_label_vectors

BUILTIN = "scenes"


def load_words(path: Path | str, labels: Sequence[str]) -> LabelVectors:
    """float32 vectors of `labels`, from a text file of vectors or from the builtin `scenes`.

    A label that is an entry of the file takes that vector; otherwise it takes the mean of its
    words' vectors, in float64 before it is rounded (`aliases.lookups` has the order, and VOC's own
    spellings). Vectors are used as they are, without normalisation.

    Raises BenchError naming every label without a vector and the words that are missing; naming
    the line for a damaged file.
    """
    if str(path) == BUILTIN:
        from mlfsic_bench.data.scenes_labels import label_vectors

        return make_label_vectors(labels, np.asarray(label_vectors(labels)), BUILTIN)
    path = Path(path)
    ways = {label: lookups(label) for label in labels}
    wanted = {entry for options in ways.values() for option in options for entry in option}
    entries, d_w = read_entries(path, wanted)
    vectors = np.empty((len(labels), d_w), dtype=np.float64)
    missing: list[str] = []
    for row, label in enumerate(labels):
        chosen = next((w for w in ways[label] if w and all(e in entries for e in w)), None)
        if chosen is None:
            words = [e for w in ways[label][-2:] for e in w if e not in entries]
            missing.append(f"{label!r} (missing: {', '.join(dict.fromkeys(words))})")
        else:
            vectors[row] = np.mean([entries[entry] for entry in chosen], axis=0)
    if missing:
        raise BenchError(
            f"{path} has no vector for {len(missing)} of {len(labels)} labels",
            expected="each label as one entry (spaces written _), or each of its words",
            found="; ".join(missing[:5]) + (" ..." if len(missing) > 5 else ""),
            remedy="name a file that has these words, such as GloVe 6B",
        )
    return make_label_vectors(labels, vectors, path.name)
