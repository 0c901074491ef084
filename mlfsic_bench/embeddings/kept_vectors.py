"""The vectors that were found in a big file, kept for the next run: `<cache>/vectors/`.

Of a gigabyte of text a run needs the words of its labels, some 100 kB.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.embeddings.formats import Entries, Form, read_entries
from mlfsic_bench.kept_arrays import Arrays, array_of, keep, value_of


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
    entries = value_of(said, "entries", list, str)
    repeated = value_of(said, "repeated", list, str)
    dimension = value_of(said, "dimension", int)
    rows = array_of(arrays, "vectors", "<f8", [len(entries), dimension])
    known = {*entries, *repeated} <= wanted and len(set(entries)) == len(entries)
    if not known or not np.isfinite(rows).all():
        raise ValueError("not the entries of a file of vectors")
    return Entries(
        vectors=dict(zip(entries, rows, strict=True)),
        dimension=dimension,
        count=value_of(said, "count", int),
        undecodable=value_of(said, "undecodable", int),
        repeated=tuple(repeated),
        layout=value_of(said, "layout", str),
        promised=None if said.get("promised") is None else value_of(said, "promised", int),
    )
