"""Which labels lie nearest to each other in a set of label vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
