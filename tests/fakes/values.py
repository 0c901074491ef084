"""Nested values whose numbers agree but for rounding."""

from __future__ import annotations

import pytest


def assert_same(found: object, expected: object, rel: float = 1e-6) -> None:
    """The same keys, texts, counts and order; floats within `rel` or 1e-9."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value, rel)
    elif isinstance(expected, (list, tuple)):
        assert isinstance(found, (list, tuple))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, rel)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=rel, abs=1e-9, nan_ok=True)
    else:
        assert found == expected
