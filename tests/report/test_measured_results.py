"""The measured tables in the repository are those of the scores beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlfsic_bench.report.render import render_markdown
from mlfsic_bench.report.runs import read_run
from mlfsic_bench.report.table import build_table

MEASURED = Path(__file__).resolve().parents[2] / "results" / "measured"
TABLES = sorted(MEASURED.glob("*/table.md"))
ORDER = ("random", "prior", "constant", "protonet", "linear", "word-guided-attention")


def runs_of(table: Path) -> list[Path]:
    folders = [path.parent for path in table.parent.glob("*/record.json")]
    return sorted(folders, key=lambda folder: ORDER.index(read_run(folder).record.method.name))


def test_there_is_a_measured_table() -> None:
    assert TABLES


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.parent.name)
def test_a_table_is_that_of_its_scores(table: Path) -> None:
    assert table.read_text(encoding="utf-8") == render_markdown(build_table(runs_of(table)))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.parent.name)
def test_records_are_of_clean_commits_and_whole_runs(table: Path) -> None:
    for folder in runs_of(table):
        record = read_run(folder).record
        assert record.status == "success"
        assert record.provenance.commit
        assert record.provenance.dirty is False
        assert ("SUBSET" in table.read_text(encoding="utf-8")) == record.split.subset
