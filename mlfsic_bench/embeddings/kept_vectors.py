"""The vectors that were found in a big file, kept for the next run: `<cache>/vectors/`.

Of a gigabyte of text a run needs the words of its labels, some 100 kB.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.embeddings.formats import Entries, Form, read_entries
from mlfsic_bench.kept_arrays import Arrays, keep


def kept_entries(path: Path, wanted: Set[str], form: Form = "auto") -> Entries:
    """As `read_entries`, from what an earlier call with the same arguments found, if it was kept.

    A file with a fault is never kept.
    """
    return keep(
        folder="vectors",
        asked=["entries", form, sorted(wanted)],
        files=[path],
        make=lambda: read_entries(path, wanted, form),
        pack=_pack,
        unpack=lambda said, arrays: _unpack(said, arrays, wanted),
        names=["vectors"],
    )


def _pack(found: Entries) -> tuple[dict[str, Any], Arrays]:
    said = {
        "entries": list(found.vectors),
        "dimension": found.dimension,
        "count": found.count,
        "undecodable": found.undecodable,
        "repeated": found.repeated,
        "layout": found.layout,
        "promised": found.promised,
    }
    rows = np.array(list(found.vectors.values()), "<f8").reshape(-1, found.dimension)
    return said, {"vectors": rows}


def _unpack(said: dict[str, Any], arrays: Arrays, wanted: Set[str]) -> Entries:
    """The entries; ValueError unless they can be those of a file."""
    entries: Any = said.get("entries")
    repeated: Any = said.get("repeated")
    layout: Any = said.get("layout")
    promised: Any = said.get("promised")
    numbers: list[Any] = [said.get(key) for key in ("dimension", "count", "undecodable")]
    rows = arrays["vectors"]
    sound = (
        isinstance(entries, list)
        and isinstance(repeated, list)
        and all(isinstance(entry, str) and entry in wanted for entry in (*entries, *repeated))
        and len(set(entries)) == len(entries)
        and isinstance(layout, str)
        and all(type(number) is int for number in numbers)
        and (promised is None or type(promised) is int)
        and rows.dtype.str == "<f8"
        and rows.shape == (len(entries), numbers[0])
        and np.isfinite(rows).all()
    )
    if not sound:
        raise ValueError("not the entries of a file of vectors")
    dimension, count, undecodable = numbers
    return Entries(
        vectors=dict(zip(entries, rows, strict=True)),
        dimension=dimension,
        count=count,
        undecodable=undecodable,
        repeated=tuple(repeated),
        layout=layout,
        promised=promised,
    )
