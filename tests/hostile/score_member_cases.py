"""Hostile scores files by the arrays in them: pickles, odd headers, odd types and shapes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.cases import Command, Payload, hostile
from tests.hostile.npz import FILE, SCORE, archive, header, members, npy, raw_npy


def _member(name: str, *says: str, scores: bytes | Callable[[], bytes]) -> None:
    """A case whose member `scores` has these bytes."""

    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        data = scores() if callable(scores) else scores
        archive(FILE, {**members(sound / "scores.npz"), "scores.npy": data})
        return SCORE


def _array(name: str, *says: str, change: Callable[[np.ndarray[Any, Any]], Any]) -> None:
    """A case whose scores are changed."""

    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        with np.load(sound / "scores.npz") as file:
            array = file["scores"]
        archive(FILE, {**members(sound / "scores.npz"), "scores.npy": npy(change(array))})
        return SCORE


_member(
    "a pickle for scores",
    "objects are never read",
    scores=lambda: npy(np.array([Payload()], dtype=object)),
)
_member(
    "a pickle without a header",
    "unreadable header",
    scores=lambda: pickle.dumps(Payload()),
)
_member("records with an object", "not a plain array", scores=raw_npy(header([("a", "|O")])))
_member(
    "a version 3 member",
    "not version 1.0",
    scores=b"\x93NUMPY\x03\x00\x10\x00\x00\x00" + bytes(16),
)
_member(
    "a header that computes",
    "unreadable header",
    scores=raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2**60,)}"),
)
_member(
    "a header that calls",
    "unreadable header",
    scores=raw_npy(
        "{'descr': __import__('os').mkdir('executed') or '<f4',"
        " 'fortran_order': False, 'shape': (1,)}"
    ),
)
_member("a header of brackets", "unreadable header", scores=raw_npy("(" * 1000))
_member("a long header", "unreadable header", scores=raw_npy(" " * 60000))
_member(
    "a shape of 2^60",
    "has the shape (1152921504606846976,)",
    scores=raw_npy(header(shape=(1 << 60,))),
)
_member(
    "a shape whose product is 2^60",
    "another size than its header says",
    scores=raw_npy(header(shape=(1 << 30, 1 << 30))),
)
_member("a negative shape", "has the shape (-1, 24, 6)", scores=raw_npy(header(shape=(-1, 24, 6))))
_member("a shape of many dimensions", "dim", scores=raw_npy(header(shape=(1,) * 200), bytes(4)))
_member(
    "an empty shape with a huge side",
    "scores.npz",
    scores=raw_npy(header(shape=(0, 1 << 30, 1 << 30, 1 << 30))),
)
_member(
    "a truth value for a side",
    "has the shape (True, 24, 6)",
    scores=raw_npy(header(shape=(True, 24, 6))),
)
_member("a list for a shape", "unreadable header", scores=raw_npy(header(shape=[3])))
_member("an unknown type", "unreadable header", scores=raw_npy(header("<f3")))
_member("text without characters", "of the type '<U0'", scores=raw_npy(header("<U0")))
_member("text of 4 GB a piece", "scores.npz", scores=raw_npy(header("<U999999999", (1,))))
_member(
    "a header key too many",
    "unreadable header",
    scores=raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}"),
)
_member("an empty member", "unreadable header", scores=b"")

_array("big-endian scores", "'>f4'", "little-endian", change=lambda a: a.astype(">f4"))
_array("scores in Fortran order", "not a plain array in C order", change=np.asfortranarray)
_array("half-precision scores", "float16", change=lambda a: a.astype(np.float16))
_array("double-precision scores", "float64", change=lambda a: a.astype(np.float64))
_array("whole numbers for scores", "int64", change=lambda a: a.astype(np.int64))
_array("text for scores", "<U32", change=lambda a: a.astype(str))
_array("complex scores", "'<c8'", change=lambda a: a.astype(np.complex64))
_array(
    "NaN among the scores", "1 scores that are NaN or infinite", change=lambda a: _put(a, np.nan)
)
_array(
    "infinity among the scores",
    "1 scores that are NaN or infinite",
    change=lambda a: _put(a, np.inf),
)
_array("minus infinity among the scores", "NaN or infinite", change=lambda a: _put(a, -np.inf))
_array("no episode", "array of shape (0, 24, 6)", change=lambda a: a[:0])
_array("no query", "array of shape (3, 0, 6)", change=lambda a: a[:, :0])
_array("an episode too few", "array of shape (2, 24, 6)", change=lambda a: a[:2])


@hostile("a query too few", "a score for every query image")
def _query(sound: Path) -> Command:
    content = members(sound / "scores.npz")
    with np.load(sound / "scores.npz") as file:
        content["scores.npy"] = npy(np.ascontiguousarray(file["scores"][:, :23]))
    del content["decisions.npy"]
    archive(FILE, content)
    return SCORE


_array("a label too few", "array of shape (3, 24, 5)", change=lambda a: a[:, :, :5])
_array("scores without episodes", "of shape (24, 6)", change=lambda a: a[0])


def _put(array: np.ndarray[Any, Any], value: float) -> np.ndarray[Any, Any]:
    array = array.copy()
    array[1, 2, 3] = value
    return array


@hostile("decisions that are neither true nor false", "decisions")
def _decisions(sound: Path) -> Command:
    data = raw_npy(header("|b1"), bytes([7]) * (3 * 24 * 6))
    archive(FILE, {**members(sound / "scores.npz"), "decisions.npy": data})
    return SCORE


@hostile("decisions of another shape", "bool decisions of shape (3, 24, 6)")
def _decisions_shape(sound: Path) -> Command:
    data = npy(np.zeros((3, 24, 5), bool))
    archive(FILE, {**members(sound / "scores.npz"), "decisions.npy": data})
    return SCORE
