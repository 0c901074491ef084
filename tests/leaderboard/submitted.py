"""The command `submit`, and runs that it packs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import select_parts
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.evaluation.scores import Scores
from tests.fakes.world import Trained, fake_inputs


def submit(*words: object) -> Result:
    return CliRunner().invoke(cli, ["submit", *map(str, words)])


def ok(*words: object) -> str:
    done = submit(*words)
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.stdout


def wrong(*words: object) -> str:
    """The text of the BenchError, which the program turns into exit code 2."""
    done = submit(*words)
    assert isinstance(done.exception, BenchError), done.output
    return str(done.exception)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def as_audited(folder: Path, status: str = "passed") -> Path:
    """A run as if it had been audited, which methods given as Python objects can't be."""
    edit(folder / "record.json", lambda r: r["audit"].update(status=status, reason=None))
    return folder


def cut_run(folder: Path, count: int) -> Path:
    inputs = fake_inputs(Trained, episodes=4)
    return execute(replace(inputs, selection=select_parts(inputs.split, count)), folder)


def packed(out: Path, split_file: Path, *words: object) -> Path:
    return Path(ok("pack", *words, "--split", split_file, "--out", out).splitlines()[0])


def bare(scores: Scores) -> Scores:
    """As written before scores files said on how many base images."""
    return replace(scores, meta=scores.meta.model_copy(update={"base_images": None}))
