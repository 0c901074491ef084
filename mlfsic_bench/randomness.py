"""Named random streams: everything that is drawn is drawn from a stream keyed by its purpose.

`stream_seed("episodes", split_hash, "novel", 7)` is the same 64-bit number on every machine and in
every year: the first eight bytes (big endian) of SHA-256 over the parts, each written as a decimal
or UTF-8 string, prefixed with its byte length and a colon, so no two lists of parts collide.
`splitmix64` turns such a number into a stream of words (Steele, Lea and Flood, OOPSLA 2014).
No global seed is read or set anywhere in the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def stream_seed(*parts: str | int) -> int:
    """The 64-bit seed of the stream named by `parts`, in [0, 2**64)."""
    digest = hashlib.sha256()
    for part in parts:
        data = str(part).encode()
        digest.update(b"%d:" % len(data) + data)
    return int.from_bytes(digest.digest()[:8], "big")


def stream_seeds(parts: Sequence[str | int], indices: Iterable[int]) -> list[int]:
    """`stream_seed(*parts, i)` for every i, hashing the common parts once.

    >>> stream_seeds(["episodes", "novel"], [7]) == [stream_seed("episodes", "novel", 7)]
    True
    """
    common = hashlib.sha256()
    for part in parts:
        data = str(part).encode()
        common.update(b"%d:" % len(data) + data)
    seeds = []
    for index in indices:
        digest = common.copy()
        data = b"%d" % index
        digest.update(b"%d:%b" % (len(data), data))
        seeds.append(int.from_bytes(digest.digest()[:8], "big"))
    return seeds


def splitmix64(seed: int, index: int) -> int:
    """Word `index` (0, 1, 2, ...) of the SplitMix64 stream that starts at `seed`."""
    z = (seed + GOLDEN * (index + 1)) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def splitmix64_array(
    seed: npt.NDArray[np.uint64], index: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """`splitmix64` for arrays of seeds and indices, broadcast against each other."""
    with np.errstate(over="ignore"):
        z = seed + np.uint64(GOLDEN) * (index + np.uint64(1))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
        return words


def torch_generator(*parts: str | int) -> torch.Generator:
    """A CPU torch generator on the stream named by `parts`.

    For weights, dropout and mini-batches only: torch does not promise the same numbers in a later
    release, so what must stay the same for ever (episodes, scenes) uses `splitmix64` instead.
    """
    import torch

    return torch.Generator().manual_seed(stream_seed(*parts) & (MASK >> 1))
