"""The commands and the Python of docs/features.md on features of others do what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
SECTIONS = ("Bring your own features", "Share features as a pack")


@pytest.mark.parametrize("title", SECTIONS)
def test_the_blocks_of_a_section_run(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```", text, re.M | re.S)
    assert blocks
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(PAGE), "exec"), {})
            continue
        for line in block.replace("\\\n", " ").splitlines():
            result = CliRunner().invoke(cli, shlex.split(line)[1:])
            assert result.exit_code == 0, result.output
    assert list(Path("runs").iterdir())
