"""docs/datasets.md: every code block is run as it stands there, and its tables are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.results.reopen import RunPaths, reopen
from mlfsic_bench.testing.dataset_check import CHECKS

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.M | re.S)


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    shown: dict[str, str] = {}
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "docs/datasets.md", "exec"), {})
        elif kind == "bash":
            for line in text.splitlines():
                program, *args = shlex.split(line)
                assert program == "mlfsic-bench"
                done = CliRunner().invoke(cli, args)
                assert done.exit_code == 0, (line, done.output, done.exception)
                shown[" ".join(args[:2])] = done.output
    (begins,) = (text for kind, text in BLOCKS if kind == "text" and text.startswith("image,"))
    assert (tmp_path / "shapes.csv").read_text().startswith(begins)
    assert "shapes: 500 images (500 on disk)" in shown["datasets show"]
    assert "fewer than 5 images in novel" in shown["splits new"]
    table = shown["table runs/prior"]
    assert "shapes 12/4/4, 4 novel labels" in table
    assert "ProtoNet" in table
    again = reopen(Path("runs/protonet"), RunPaths())  # this machine knows where its data are
    assert again.dataset().open_image("photos/0000").size == (112, 112)
    assert "Prior" in table


def test_the_page_names_every_test() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", PAGE.split("### The tests")[1], re.M))
    assert set(rows) == {check.name for check in CHECKS}
