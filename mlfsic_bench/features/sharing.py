"""One extraction by several processes: each takes batches, one of them writes the store.

Who holds the store's lock lists the batches in a folder `.batches-...` inside the store and writes
their rows in the order in which one process would: the store is the same, byte for byte. A process
that needs the store meanwhile, or has nothing to do, takes batches too and leaves what it made in
that folder. Killed at any moment, the store ends with its last row as ever; the next writer removes
the folder.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlfsic_bench import distributed
from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import parse_json, read_regular, write_bytes
from mlfsic_bench.paths import exists

LISTING = "batches.json"
_FOLDER, _TOPIC = ".batches-", "extraction"


class Rows(NamedTuple):
    """What is made of a batch: digests of the images; maps [n, h*w, c] and vectors [n, d]."""

    digests: list[str]
    local: npt.NDArray[np.float32]
    pooled: npt.NDArray[np.float32]


Batches = list[list[str]]
# of batches and the numbers of those to make: each number with its rows, in the same order
Maker = Callable[[Batches, Iterator[int]], Iterator[tuple[int, Rows]]]


def made_together(
    store: Path, ids: list[str], batches: Batches, make: Maker
) -> Iterator[tuple[list[str], Rows]]:
    """Every batch with its rows, in order; for the process that holds the store's lock.

    ids: all images that are asked for, those of the batches and those that the store has.
    """
    for path in store.glob(f"{_FOLDER}*"):  # of processes that were killed
        shutil.rmtree(path, ignore_errors=True)
    if distributed.count() == 1:
        for number, rows in make(batches, iter(range(len(batches)))):
            yield batches[number], rows
        return
    place = store.absolute() / f"{_FOLDER}{secrets.token_hex(4)}"
    write_bytes(place / LISTING, json.dumps({"ids": ids, "batches": batches}).encode())
    distributed.announce(_TOPIC, str(place))
    own: dict[int, Rows] = {}
    due = 0

    def ready() -> bool:
        return due in own or exists(_file(place, due))

    def next_one() -> tuple[list[str], Rows]:
        nonlocal due
        rows = own.pop(due) if due in own else _read(_file(place, due))
        due += 1
        return batches[due - 1], rows

    for number, rows in make(batches, distributed.claims(len(batches), place.name)):
        own[number] = rows
        while ready():
            yield next_one()
    while due < len(batches):
        distributed.wait_for(ready)
        yield next_one()
    distributed.announce(_TOPIC, "")
    shutil.rmtree(place, ignore_errors=True)


def help_making(store: Path, make: Maker) -> bool:
    """Make batches for another process of this run that fills the store; whether there is one."""
    place, listing = _announced()
    if place is None or place.parent != store.absolute():
        return False
    batches = listing["batches"]
    for number, rows in make(batches, distributed.claims(len(batches), place.name)):
        write_arrays(_file(place, number), {**rows._asdict(), "digests": np.array(rows.digests)})
    return True


def wanted_now() -> list[str]:
    """The images whose features another process of this run is extracting; none where none is."""
    return list(_announced()[1]["ids"])


def _announced() -> tuple[Path | None, dict[str, Any]]:
    """The folder of the extraction that is going on, and its listing; (None, an empty one)."""
    nothing: dict[str, Any] = {"ids": [], "batches": []}
    name = distributed.announced(_TOPIC)
    if not name:
        return None, nothing
    try:
        return Path(name), parse_json(read_regular(Path(name) / LISTING).decode())
    except (OSError, BenchError):  # just finished
        return None, nothing


def _file(place: Path, number: int) -> Path:
    return place / f"{number:07d}.npz"


def _read(path: Path) -> Rows:
    arrays = read_arrays(path, kind="batch of features", required=Rows._fields)
    path.unlink()
    return Rows([str(one) for one in arrays["digests"]], arrays["local"], arrays["pooled"])
