"""Several sets of label embeddings as one, `A+B`: unit vectors side by side.

Each set has its say whatever the length of its vectors: the cosine of two labels is the mean of
their cosines in the sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlfsic_bench.embeddings.label_embeddings import LabelEmbeddings, make_label_embeddings
from mlfsic_bench.paths import exists

JOIN = "+"


def sources(given: Path) -> list[Path]:
    """What `A+B` names, in this order; `given` alone where a + has nothing on one of its sides.

    A + in the name of a file or folder that is there stays in it.

    >>> [str(one) for one in sources(Path("glove.txt+word2vec.bin"))]
    ['glove.txt', 'word2vec.bin']
    >>> [str(one) for one in sources(Path("glove.txt"))]
    ['glove.txt']
    """
    pieces, found = str(given).split(JOIN), []
    while pieces:
        ends = range(len(pieces), 1, -1)
        end = next((n for n in ends if exists(Path(JOIN.join(pieces[:n])))), 1)
        found.append(JOIN.join(pieces[:end]))
        pieces = pieces[end:]
    return [Path(name) for name in found] if all(found) else [given]


def name_of(given: Path) -> str:
    """What a path of label embeddings is called: names of files without their folders.

    >>> name_of(Path("vectors/glove.txt+more/word2vec.bin"))
    'glove.txt+word2vec.bin'
    """
    return JOIN.join(one.name for one in sources(given))


def join(sets: Sequence[LabelEmbeddings]) -> LabelEmbeddings:
    """Unit vectors of the same labels, float32 [L, sum of d_w]; one set alone stays as it is.

    They live in the space of no network. A vector of zeros stays one.
    """
    if len(sets) == 1:
        return sets[0]
    units = []
    for one in sets:
        vectors = one.select(sets[0].labels).astype(np.float64)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        units.append(vectors / np.where(length > 0, length, 1))
    name = JOIN.join(one.name for one in sets)
    return make_label_embeddings(sets[0].labels, np.concatenate(units, axis=1), name)
