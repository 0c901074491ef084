"""Decimal numbers in text files, by one grammar: what `float` takes beyond it is no number here.

`float` also reads `1_0`, `nan`, `infinity`, white space around a number and the digits of other
scripts. None of these is a number in a file of vectors or of annotations.
"""

from __future__ import annotations

import re

_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read_decimal(text: bytes) -> float | None:
    """The number that `text` writes; None when it is none. Infinite beyond the range of a float.

    >>> read_decimal(b"-1.5e3"), read_decimal(b".5"), read_decimal(b"1_0"), read_decimal(b"nan")
    (-1500.0, 0.5, None, None)
    """
    return float(text) if _DECIMAL.fullmatch(text) else None
