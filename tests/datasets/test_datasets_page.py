"""docs/datasets.md: every code block is run as it stands there, and its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlfsic_bench.results.reopen import RunPaths, reopen
from mlfsic_bench.testing.dataset_check import CHECKS
from tests.pages import run_page

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text("utf-8")


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    printed = run_page("datasets.md", tmp_path)
    shown = {" ".join(command.split()[:2]): text for command, text in printed.items()}
    (begins,) = re.findall(r"^```text\n(image,.*?)^```", PAGE, re.M | re.S)
    assert (tmp_path / "shapes.csv").read_text().startswith(begins)
    assert "shapes: 500 images (500 on disk)" in shown["datasets show"]
    assert "fewer than 5 images in novel" in shown["splits new"]
    table = shown["table runs/prior"]
    assert "shapes 12/4/4, 4 novel labels" in table
    assert "ProtoNet" in table
    again = reopen(
        tmp_path / "runs" / "protonet", RunPaths()
    )  # this machine knows where its data are
    assert again.dataset().open_image("photos/0000").size == (112, 112)
    assert "Prior" in table


def test_the_page_names_every_test() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", PAGE.split("### The tests")[1], re.M))
    assert set(rows) == {check.name for check in CHECKS}
