"""The notebooks, docs/python.md and the README's block: each is run as it stands."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from tests.packaging.test_packaging_english import banned
from tests.packaging.test_packaging_prose import without_code

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def run(blocks: list[str], name: str) -> dict[str, Any]:
    """What the blocks leave behind, run one after the other in one namespace."""
    mpl.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, block in enumerate(blocks):
            exec(compile(block, f"{name}, block {number}", "exec", dont_inherit=True), names)
    if "plt" in names:
        names["plt"].close("all")
    return names


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def test_there_are_three_notebooks() -> None:
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    book = json.loads(path.read_text("utf-8"))
    cells = book["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    assert len({cell["id"] for cell in cells}) == len(cells)
    text = "\n".join("".join(cell["source"]) for cell in cells if cell not in code)
    assert banned(without_code(text)) == []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert (path.parent / target).exists(), target
    run(["".join(cell["source"]) for cell in code], path.name)
    assert capsys.readouterr().out


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "python.md"
    names = run(python_blocks(page), page.name)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".npz"]
    saved = [path.name.partition("-scenes")[0] for path in names["folders"]]
    assert saved == ["nearest-mean"] * 2 + ["protonet"] * 2
    scored = CliRunner().invoke(cli, ["score", "scores.npz"], catch_exceptions=False)
    assert "my-program" in scored.output
    assert set(names["mb"].__all__) >= set(re.findall(r"mb\.(\w+)", page.read_text("utf-8")))


def test_the_block_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks(ROOT / "README.md")
    names = run([block], "README.md")
    assert len(names["results"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
