"""The limits in docs/security.md are those of the code, and what it says of experiments is so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from mlfsic_bench.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.]+)\.(\w+)` \| (\d+) \|", PAGE, re.MULTILINE)


def test_the_table_has_its_rows() -> None:
    assert len(ROWS) == PAGE.count("\n| `") >= 20


@pytest.mark.parametrize(("module", "name", "value"), ROWS)
def test_a_limit_is_that_of_the_code(module: str, name: str, value: str) -> None:
    assert getattr(importlib.import_module(module), name) == int(value)


def test_an_experiment_file_can_name_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page warns of this; should it change, the page must, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugin.py").write_text("open('executed', 'w').close()\n")
    (tmp_path / "own.yaml").write_text(
        "schema_version: 1\nkind: table\ntitle: x\nrows:\n- {name: a, method: 'plugin.py:X'}\n"
    )
    with pytest.raises(SystemExit, match="2"):
        main(["reproduce", "own.yaml", "--dataset", "scenes", "--dry-run"])
    assert (tmp_path / "executed").exists()
