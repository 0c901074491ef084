"""Runs of fake methods for `compare`, and files that state something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.evaluation.scores import Scores, read_scores, write_scores
from mlfsic_bench.results.result import Targets, open_result, stored_targets

EPISODES = 9


def values(folder: Path, metric: str = "macro_ap") -> np.ndarray:
    result = open_result(folder)
    return result.values((metric,), targets_in(folder))[metric]


def targets_in(folder: Path) -> Targets:
    """The targets that a run of fakes stored."""
    stored = open_result(folder).stored
    assert stored is not None
    return stored_targets(stored)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def changed(folder: Path, out: Path, **changes: object) -> Path:
    """The scores of a run as a file that states something else."""
    scores = read_scores(folder / "scores.npz")
    meta = scores.meta.model_dump(mode="json")
    array = scores.scores
    for key, value in changes.items():
        place, name = key.split("__") if "__" in key else ("", key)
        (meta[place] if place else meta)[name] = value
        if key == "episodes__count":
            array = array[:value]  # type: ignore[misc]
    new = Scores(array, None, scores.meta.model_validate_json(json.dumps(meta)))
    write_scores(out, new)
    return out
