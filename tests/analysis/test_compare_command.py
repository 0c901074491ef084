"""`compare`: its options, where the answers come from, and every refusal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.analysis.compare import WRITERS, compare
from mlfsic_bench.episodes.files import find_episodes
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.scores import Scores, read_scores, write_scores
from mlfsic_bench.results import conditions
from mlfsic_bench.results.conditions import open_group
from mlfsic_bench.results.targets import SplitPlace
from mlfsic_bench.splits.resolve import resolve_split
from tests.analysis.compared import changed, run, targets_in


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split__id": "other-v1"}, "another split"),
        ({"split__rule": "strict"}, "another split"),
        ({"split__subset": True}, "another share of the split's images"),
        ({"split__hash": "a" * 64}, "another content of the split"),
        ({"episodes__protocol": "laso_k_shot-v1", "episodes__shots": 5}, "another protocol"),
        ({"episodes__hash": "a" * 64}, "another set of episodes"),
        ({"episodes__total": 50}, "another set of episodes"),
        ({"episodes__count": 5}, "another number of episodes"),
        ({"labels": ["jay", "ibis", "hen"]}, "another list of labels"),
    ],
)
def test_what_can_not_be_compared_says_why(
    compare_folders: dict[str, Path], tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    other = changed(compare_folders["mean"], tmp_path / "other.npz", **changes)
    with pytest.raises(BenchError, match=reason) as error:
        compare([compare_folders["seed0"], other])
    assert error.value.found != error.value.expected
    result = run("compare", compare_folders["seed0"], other)
    assert result.exit_code != 0
    assert result.exception is not None


def test_names_that_are_not_there(compare_folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="unknown metric"):
        compare([compare_folders["mean"], compare_folders["seed0"]], metrics=["macro_pa"])
    with pytest.raises(BenchError):
        compare([compare_folders["mean"], tmp_path / "none"])
    with pytest.raises(BenchError, match="nothing to compare"):
        open_group([])


def test_scores_files_are_compared_with_targets_made_anew(
    compare_folders: dict[str, Path], tmp_path: Path
) -> None:
    one = changed(compare_folders["mean"], tmp_path / "one.npz", run=None)
    two = changed(compare_folders["seed0"], tmp_path / "two.npz", run=None)
    with pytest.raises(BenchError, match="unknown split in a file"):
        compare([one, two])
    split = resolve_split("scenes-12-6-6-v1", data_root=None)
    episodes = find_episodes(None, split)
    targets = np.stack([split.novel.targets_of(e.query) for e in episodes.episodes[:6]])
    meta = read_scores(one).meta
    card = {"id": split.id, "hash": split.hash, "dataset": split.dataset, "rule": split.rule}
    set_card = {"hash": episodes.hash, "total": len(episodes.episodes), "count": 6}
    files = []
    for i, name in enumerate(("good", "poor")):
        rng = np.random.default_rng(i)
        scores = (1 - i) * targets + rng.normal(0, 0.5, targets.shape)
        about = meta.model_copy(
            update={
                "labels": list(split.novel.labels),
                "split": meta.split.model_copy(update=card),
                "episodes": meta.episodes.model_copy(update=set_card),
                "method": meta.method.model_copy(update={"name": name}),
            }
        )
        files.append(tmp_path / f"{name}.npz")
        write_scores(files[-1], Scores(scores.astype(np.float32), None, about))
    report = compare(files)
    assert (report.targets, report.image_intervals) == ("rebuilt", "query and support images")
    assert report.metrics[0].pairs[0].wins == 6


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ([], SplitPlace()),
        (["--split", "s"], SplitPlace(split="s")),
        (["--data-root", "d"], SplitPlace(data_root=Path("d"))),
        (["--episodes-file", "e"], SplitPlace(episodes_file=Path("e"))),
    ],
)
def test_where_split_and_episodes_are_is_handed_on(
    compare_folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    place: SplitPlace,
) -> None:
    asked = []

    def targets_of(results: list[object], where: SplitPlace) -> object:
        asked.append(where)
        return targets_in(compare_folders["mean"])

    monkeypatch.setattr(conditions, "targets_of", targets_of)
    assert (
        run("compare", compare_folders["mean"], compare_folders["seed0"], *arguments).exit_code == 0
    )
    assert asked == [place]


def test_the_command_line(compare_folders: dict[str, Path], tmp_path: Path) -> None:
    paths = list(compare_folders.values())
    plain = run("compare", *paths)
    assert plain.exit_code == 0, plain.output
    assert max(len(line) for line in plain.output.splitlines()[:9]) <= 80
    assert plain.output == WRITERS["text"](compare(paths))
    for form in WRITERS:
        out = tmp_path / f"report.{form}"
        assert run("compare", *paths, "--format", form, "--out", out).output == ""
        assert out.read_text() == WRITERS[form](compare(paths))
    apart = run("compare", *paths, "--seeds", "each")
    assert "fake-trained (seed=1)" in apart.output
    one = json.loads(run("compare", *paths, "--against", "fake-trained", "--metric", "micro_ap",
                         "--metric", "macro_f1", "--format", "json").output)  # fmt: skip
    assert one["against"] == "fake-trained"
    assert [metric["metric"] for metric in one["metrics"]] == ["micro_ap", "macro_f1"]
    assert all(len(metric["pairs"]) == 2 for metric in one["metrics"])
    picture = tmp_path / "difference.svg"
    assert run("compare", *paths, "--plot", picture).exit_code == 0
    assert "<svg" in picture.read_text()
    bad = run("compare", *paths, "--plot", tmp_path / "difference.gif", "--out", tmp_path / "no")
    assert isinstance(bad.exception, BenchError)
    assert not (tmp_path / "no").exists()
    assert not (tmp_path / "difference.gif").exists()
