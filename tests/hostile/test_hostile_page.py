"""The limits in docs/security.md are those of the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.]+)\.(\w+)` \| (\d+) \|", PAGE, re.MULTILINE)


def test_the_table_has_its_rows() -> None:
    assert len(ROWS) == PAGE.count("\n| `") >= 20


@pytest.mark.parametrize(("module", "name", "value"), ROWS)
def test_a_limit_is_that_of_the_code(module: str, name: str, value: str) -> None:
    assert getattr(importlib.import_module(module), name) == int(value)
