"""Pages of the documentation run word for word: every command and every line of Python on them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.M | re.S)


def run_page(name: str, folder: Path, section: str = "") -> dict[str, str]:
    """Run all blocks of `docs/NAME` in `folder`; command -> what it printed, in one line.

    `section` is the title of the only section that is run.

    The blocks of Python share one namespace, as the cells of a notebook do. A command that does not
    end with 0 fails the test.
    """
    printed: dict[str, str] = {}
    page = DOCS / name
    text = page.read_text("utf-8")
    if section:
        text = text.partition(f"## {section}\n")[2].partition("\n## ")[0]
    blocks = BLOCK.findall(text)
    assert blocks
    names: dict[str, object] = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, block in blocks:
            if kind == "python":
                exec(compile(block, str(page), "exec"), names)
                continue
            for line in block.replace("\\\n", " ").splitlines():
                program, *args = shlex.split(line, comments=True) or [""]
                if not program:
                    continue
                assert program == "mlfsic-bench", line
                done = CliRunner().invoke(cli, args)
                assert done.exit_code == 0, f"{line}\n{done.output}"
                printed[shlex.join(args)] = " ".join(done.output.split())
    return printed
