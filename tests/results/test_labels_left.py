"""D3: labels that leave the novel part are named in the log, in titles and on the board."""

import json
from pathlib import Path

import pytest

from mlfsic_bench.analysis.paper_table import paper_tables
from mlfsic_bench.analysis.score import caption, score_files
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.leaderboard.board import build_boards, labels_text
from mlfsic_bench.leaderboard.entry import ImageTrack
from mlfsic_bench.leaderboard.page import board_html
from mlfsic_bench.leaderboard.wording import remarks
from mlfsic_bench.results.captions import count_labels
from mlfsic_bench.results.conditions import open_group
from mlfsic_bench.splits.resolve import shipped_file
from tests.fakes.entries import cards, entry, fake_tracks, fake_value

KEPT = "halved disc, plain triangle, striped square"
GONE = "dotted star 359, halved cross 378, dotted ring 359"
FIVE = ["bicycle", "bird", "cup", "chair", "vase"]
NOVEL = shipped_file("coco-52-12-16-v1").labels.novel


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run on a split that `min_pool` takes three of six novel labels from, and its log."""
    folder = tmp_path_factory.mktemp("limited")
    own = shipped_file("scenes-12-6-6-v1").definition().model_dump(mode="json")
    own |= {"id": "mine-v1", "labels": own["labels"] | {"val": []}}
    path, log = folder / "mine.json", list[str]()
    path.write_text(json.dumps(own))
    plan = RunPlan(method="random", split=str(path), backbone="scenes-small", min_pool=379,
                   episodes=3, device="cpu", out=folder / "run")  # fmt: skip
    return run_method(plan, log=log.append), log


def test_d3_the_log_and_the_record_name_the_labels(limited) -> None:
    folder, log = limited
    note = f"novel: 3 of 6 labels stay: {KEPT}; with fewer than 379 images left: {GONE}"
    assert note in read_record(folder).notes
    assert f"note: {note}" in log


def test_d3_titles_name_the_labels(limited) -> None:
    folder, _ = limited
    (table,), _ = paper_tables([folder])
    assert table.title.startswith(f"mine-v1, 3 of 6 novel labels ({KEPT}), 1 support and 4 query")
    report = score_files([folder])  # this machine remembers the split
    assert report.targets == "rebuilt"
    assert ", 3 novel labels; " in caption(report)[0]


def test_d3_a_shipped_split_says_what_the_whole_has() -> None:
    def told(labels: list[str], *, subset: bool = True) -> str:
        return count_labels("coco-52-12-16-v1", labels, subset=subset)

    assert told(FIVE) == "5 of 16 labels (bicycle, bird, cup, chair, vase)"
    assert told([label for label in NOVEL if label != "boat"]) == "15 of 16 labels (without boat)"
    assert told(NOVEL) == "16 labels"
    assert told(FIVE, subset=False) == "5 labels"


def test_d3_pictures_name_the_labels(limited, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = limited
    group = open_group([folder])
    monkeypatch.setattr(
        "mlfsic_bench.results.captions._gone",
        lambda *_: ["dotted star", "halved cross", "dotted ring"],
    )
    title = group.title("Precision and recall")
    assert title.endswith(f"(SUBSET of the split's images) (3 of 6 novel labels ({KEPT})) "
                          "(first 3 of 200 episodes)")  # fmt: skip


def test_d3_the_board_names_the_labels() -> None:
    value = fake_value(tracks=fake_tracks(images="subset"))
    value["split"] = {"id": "coco-52-12-16-v1", "hash": "0" * 64, "dataset": "coco"}
    one = value["per_label"][0]
    value["per_label"] = [one | {"label": label} for label in FIVE]
    made = entry(value)
    assert made.tracks.images is ImageTrack.SUBSET
    text = "5 of 16 novel labels (bicycle, bird, cup, chair, vase)"
    assert labels_text(made) == text
    boards = build_boards([made])
    assert f"Values are over {text}." in remarks(boards[0])
    assert f"Labels {text} Values made" in cards(board_html(boards))["mine"]
    whole = entry(value | {"tracks": fake_tracks()})
    assert labels_text(whole) == ""
