"""What was found in big files, kept in the cache folder, so that later runs need not read them.

Something is kept for a list of files, and holds only while each of them is as it was when it was
read (`paths.state_of`). It is untrusted all the same: what is damaged, or not what it should be, is
made anew. A cache folder that can't be read or written is no error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import parse_json
from mlfsic_bench.hashing import canonical_json, hash_json
from mlfsic_bench.paths import default_cache, is_file, state_of
from mlfsic_bench.progress import LOG

VERSION = 1  # of the kept files and of what the readers find; others are made anew
LEAST_BYTES = 1 << 20  # of the files together; less is read again as fast
SAID = "said"  # the array with what is no array, as JSON
Arrays = Mapping[str, npt.NDArray[Any]]
T = TypeVar("T")


def keep(
    folder: str,
    asked: Any,
    files: Sequence[Path],
    make: Callable[[], T],
    pack: Callable[[T], tuple[dict[str, Any], Arrays]],
    unpack: Callable[[dict[str, Any], Arrays], T],
    names: Collection[str],
) -> T:
    """What `make` finds in the files: as it was kept, else made, and kept if the files are big.

    Parameters
    ----------
    folder: the folder in the cache for things of this kind.
    asked: what the files are asked, and by which reader; any JSON value.
    files: all the files that `make` reads.
    pack, unpack: to and from a JSON object and arrays. `unpack` checks everything: ValueError or
        BenchError for what `pack` can't have written (`value_of`, `array_of`).
    names: the arrays that `pack` gives.
    """
    about = _about(asked, files)
    place = _place(folder, asked, files) if about is not None else None
    if place is None:
        return make()
    with suppress(BenchError, OSError, ValueError, RecursionError):
        if is_file(place):
            arrays = read_arrays(place, kind="kept file", required=[SAID, *names])
            said = parse_json(arrays[SAID].tobytes().decode("utf-8"))
            if isinstance(said, dict) and said.pop("about", None) == about:
                found = unpack(said, arrays)
                LOG.debug("%s is as it was: %s", ", ".join(map(str, files)), place)
                return found
    made = make()
    with suppress(BenchError, OSError, ValueError):  # also for text that can't be written
        if about == _about(asked, files):  # not of a file that changed while it was read
            said, own = pack(made)
            text = np.frombuffer(canonical_json({**said, "about": about}), np.uint8)
            write_arrays(place, {**own, SAID: text})
    return made


def value_of(said: Mapping[str, Any], name: str, kind: type, of: type | None = None) -> Any:
    """The value of that name; ValueError unless it is of this kind.

    of: the kind of what is in a list, or of the values of a dict.
    """
    value = said.get(name)
    inner = value.values() if isinstance(value, dict) else value
    if type(value) is not kind or (of and not all(type(one) is of for one in inner or ())):
        raise ValueError(f"{name} of another kind")
    return value


def array_of(
    arrays: Arrays, name: str, dtype: str, shape: Sequence[int | None]
) -> npt.NDArray[Any]:
    """The array of that name; ValueError unless of this type and shape (None: any length)."""
    found = arrays[name]
    fits = len(found.shape) == len(shape) and all(
        length in (None, own) for own, length in zip(found.shape, shape, strict=True)
    )
    if not fits or found.dtype.str != dtype:
        raise ValueError(f"{name} of another type or shape")
    return found


def _about(asked: Any, files: Sequence[Path]) -> dict[str, Any] | None:
    """What is kept, of which files; None for small ones, and where the system can't say."""
    with suppress(BenchError, OSError, ValueError):
        found = [path.stat() for path in files if is_file(path)]
        if len(found) == len(files) and sum(one.st_size for one in found) >= LEAST_BYTES:
            return {"version": VERSION, "asked": asked, "files": list(map(state_of, found))}
    return None


def _place(folder: str, asked: Any, files: Sequence[Path]) -> Path | None:
    """Where it is kept: one place for these files, so that changed ones leave nothing behind."""
    with suppress(BenchError, ValueError):  # no home; a path that is not Unicode
        name = hash_json([asked, *(str(path.absolute()) for path in files)])[:32]
        return default_cache() / folder / f"{name}.npz"
    return None
