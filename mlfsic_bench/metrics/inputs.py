"""Checks what is to be scored: shapes agree, scores are finite, targets are 0 or 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError

FloatArray = npt.NDArray[np.floating[Any]]
"""float32 or float64."""


def check_scores(scores: npt.ArrayLike) -> FloatArray:
    """Scores [E, Q, L] as float32 when that holds them exactly, float64 otherwise.

    float16 and float32 become float32; integers and float64 become float64. Raises BenchError for
    other types, other shapes, NaN and infinity.
    """
    array = np.asarray(scores)
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise _shape("scores", "[episodes, queries >= 1, labels >= 1]", array.shape)
    whole = array.dtype.kind in "iu"
    if whole and array.size and max(int(array.max()), -int(array.min())) > 1 << 53:
        raise BenchError(
            "these whole numbers are too large for float64: some become equal",
            expected="scores within +-2**53",
            found=f"values from {array.min()} to {array.max()}",
            remedy="give the scores as float32 or float64",
        )
    if not (whole or array.dtype.kind == "f") or array.dtype.itemsize > 8:
        raise BenchError(
            "scores must be real numbers",
            expected="float32 or float64",
            found=str(array.dtype),
            remedy="return one real number per query and label, before any threshold",
        )
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    result: FloatArray
    if narrow:
        result = array.astype(np.float32, copy=False)
    else:
        result = array.astype(np.float64, copy=False)
    finite = np.isfinite(result)
    if not finite.all():
        e, q, k = (int(i) for i in np.argwhere(~finite)[0])
        raise BenchError(
            "scores must be finite",
            expected="one finite real number per query and label",
            found=f"{result[e, q, k]} in episode {e}, query {q}, label {k} "
            f"({int((~finite).sum())} such values)",
            remedy="find what makes the method's scores NaN or infinite; nothing is replaced here",
        )
    return result


def check_binary(values: npt.ArrayLike, shape: tuple[int, ...], kind: str) -> npt.NDArray[np.bool_]:
    """`values` as bool of this shape; BenchError for another shape or values other than 0 and 1.

    `kind` names them in the message: targets or decisions.
    """
    array: npt.NDArray[Any] = np.asarray(values)
    if array.shape != shape:
        raise _shape(kind, f"{list(shape)}, as the scores", array.shape)
    if array.dtype == np.bool_:
        return array
    result: npt.NDArray[np.bool_] = array == 1
    if not (result | (array == 0)).all():
        raise BenchError(
            f"{kind} must be 0 or 1",
            expected="bool, or numbers that are 0 or 1",
            found=f"other values, type {array.dtype}",
            remedy=f"give the {kind} as a bool array",
        )
    return result


def _shape(kind: str, expected: str, shape: tuple[int, ...]) -> BenchError:
    return BenchError(
        f"{kind} have the wrong shape",
        expected=expected,
        found=str(list(shape)),
        remedy="give one row per query and one column per label, in the episodes' order",
    )
