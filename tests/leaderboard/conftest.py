"""Runs that entries are packed from, and the split that they are checked on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.world import Trained, fake_run, fake_split
from tests.leaderboard.submitted import as_audited, edit


@pytest.fixture
def split_file(monkeypatch) -> Path:
    """What --split is given to rebuild targets: the fake split, which no file can hold."""
    from mlfsic_bench.evaluation import recall
    from mlfsic_bench.splits import files, resolve

    def resolved(name: str, **_: object) -> Any:
        assert name == "the fake split"
        return fake_split()

    monkeypatch.setattr(resolve, "resolve_file", resolved)
    monkeypatch.setattr(files, "to_split", lambda split: split)
    monkeypatch.setattr(recall, "remember_split", lambda split: None)
    return Path("the fake split")


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Seeds 0 and 1 of one method, and a second run of each that was started a day later."""
    top = tmp_path_factory.mktemp("runs")
    made = {}
    for name, seed in (("a0", 0), ("a1", 1), ("b0", 0), ("b1", 1)):
        made[name] = as_audited(fake_run(top / name, Trained, episodes=4, seed=seed))
        if name.startswith("b"):
            edit(made[name] / "record.json", lambda r: r.update(started="2020-01-01T00:00:00Z"))
    return made
