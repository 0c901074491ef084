"""Every hostile file is refused with a reason; nothing is executed, written, or taken for long."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.cases import HOSTILE, Payload
from tests.hostile.runner import MEMORY, MODULES, SECONDS, Runner

for _name in MODULES:
    importlib.import_module(f"tests.hostile.{_name}_cases")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc"),
]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    made = Runner(tmp_path_factory.mktemp("hostile"))
    yield made
    made.close()


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(name: str, runner: Runner) -> None:
    case, result = HOSTILE[name], runner.run(name)
    assert result["status"] == 2, result["err"][-2000:]
    error = result["err"]
    assert error.startswith("error: ")
    assert error.count("error: ") == 1 or "\nerror: b" not in error
    assert "Traceback" not in error
    assert result["out"] == ""
    for entry in ("expected", "found", "to do"):
        assert error.count(f"\n  {entry}:") == 1, error
    for word in case.says:
        assert word in error, f"{word!r} not in:\n{error}"
    new = [path for path in result["changed"] if not path.startswith(case.leaves or ("\0",))]
    assert new == []
    assert len(error) < 4000
    assert result["peak"] < MEMORY
    assert result["seconds"] < SECONDS


def test_the_payload_would_execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What "nothing is executed" rests on: read carelessly, the payload makes a folder."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Payload()))
    assert (tmp_path / "executed").is_dir()


def test_the_sound_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the corpus is made of is refused for its one fault only."""
    from mlfsic_bench.cli.main import main
    from mlfsic_bench.training.history import read_history
    from mlfsic_bench.training.loop import load_checkpoint
    from tests.hostile.sound import write_sound

    monkeypatch.chdir(tmp_path)
    write_sound(tmp_path)
    commands = (
        "score scores.npz",
        "submit pack scores.npz --card card.yaml --out packed",
        "submit check packed",
        "leaderboard check --results results",
        "splits verify split.json",
        "episodes show episodes.json 0",
        "table run",
        "features info store",
        "embeddings show words.txt --labels hen,jay",
        "embeddings show words.bin --labels hen,jay",
        "reproduce experiment.yaml --dataset scenes --dry-run",
    )
    for command in commands:
        try:
            main(command.split())
        except SystemExit as end:
            assert end.code in (0, None), command  # noqa: PT017
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3
    assert len(read_history(tmp_path / "run")) == 4
