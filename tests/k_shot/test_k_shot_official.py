"""From a file to the board: a split keeps the name that its annotations give it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.coco import Coco
from mlfsic_bench.data.coco_counts import ANCHORS
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import default_folder
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.results.conditions import by_conditions
from mlfsic_bench.results.result import open_result
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.files import read_split, write_split
from tests.fakes.laso_world import DEFINITION, SPLIT
from tests.k_shot.test_k_shot_run import laso_inputs

pytestmark = pytest.mark.slow

UNOFFICIAL = f"{SPLIT}-unofficial"


def call(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return " ".join(done.stdout.split())


@pytest.fixture(params=["official", "unofficial"])
def run(
    request: pytest.FixtureRequest, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Path, Path]:
    """The id that a split should have, its file, and the folder of a run on it."""
    counts = Coco(root).counts()
    if request.param == "unofficial":
        counts = {**counts, "annotations of val2014": 9}
    monkeypatch.setattr(Coco, "anchors", replace(ANCHORS, counts=counts))
    file, folder = tmp_path / "split.json", tmp_path / "run"
    write_split(build_file(DEFINITION, Coco(root)), file)
    execute(laso_inputs(read_split(file), shots=2), folder)  # none ship for two
    return (SPLIT if request.param == "official" else UNOFFICIAL), file, folder


def test_the_name_everywhere(run: tuple[str, Path, Path], root: Path, tmp_path: Path) -> None:
    name, file, folder = run
    marked = name == UNOFFICIAL
    record = read_record(folder)
    assert (read_split(file).id, record.split.id) == (name, name)
    assert any(note.startswith("UNOFFICIAL") for note in record.notes) == marked
    assert name in default_folder("m", record.split.id, False, record.key).name
    out = call("submit", "pack", folder, "--split", file, "--out", tmp_path / "out").split()[0]
    assert Path(out).parent.name == SPLIT  # one folder for both
    assert json.loads(Path(out).read_text())["split"]["id"] == name
    assert "1 entry" in call("submit", "check", tmp_path / "out", "--data-root", root)
    call("leaderboard", "build", "--results", tmp_path / "out")
    board = tmp_path / "out" / "board"
    texts = [
        call("table", folder, "--data-root", root),
        call("score", folder, "--data-root", root),
        *((board / f"leaderboard.{ending}").read_text() for ending in ("md", "csv")),
        (board / "index.html").read_text(),
    ]
    for text in texts:
        assert name in text
        assert (UNOFFICIAL in text) == marked
    why = "officially 9; not comparable to runs on"
    assert all((why in text) == marked for text in [*texts[:3], texts[4]])


def test_earlier_results_group_with_new_ones(run: tuple[str, Path, Path], tmp_path: Path) -> None:
    """A record without the key is one of a copy that nobody compared; the hash is the same."""
    name, _, folder = run
    new = open_result(folder)
    meta = new.meta.split.model_dump()
    old = new.meta.model_copy(
        update={
            "split": type(new.meta.split).model_validate(
                {**meta, "id": SPLIT, "differs_from_official": None}
            )
        }
    )
    assert old.split.id == UNOFFICIAL
    earlier = replace(new, scores=replace(new.scores, meta=old))
    assert len(by_conditions([new, earlier])) == 1
    assert (new.meta.split.id == earlier.meta.split.id) == (name == UNOFFICIAL)


def test_scores_that_claim_too_much(
    run: tuple[str, Path, Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores of the official split are not scored on a copy that is not."""
    name, _, folder = run
    counts = {**Coco(root).counts(), "annotations of val2014": 9}
    monkeypatch.setattr(Coco, "anchors", replace(ANCHORS, counts=counts))
    if name == UNOFFICIAL:
        assert name in call("score", folder, "--data-root", root)
        return
    with pytest.raises(BenchError, match="the annotations found are not") as caught:
        call("score", folder, "--data-root", root)
    assert "officially 9" in caught.value.found
