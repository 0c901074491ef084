"""`splits new`: label lists by draw, by frequency or given, and what the rules leave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.dataset import PART_NAMES, Annotations
from mlfsic_bench.errors import BenchError
from mlfsic_bench.splits.files import read_split_file
from mlfsic_bench.splits.propose import balanced_lists, define, outlook, random_lists

LABELS = tuple(f"label {letter}" for letter in "abcdefghij")


def annotations(pools: Mapping[str, int]) -> Annotations:
    """One label an image, as many images as `pools` says."""
    rows = [label for label, pool in pools.items() for _ in range(pool)]
    ids = tuple(f"x/{i:03d}" for i in range(len(rows)))
    present = np.array([[row == label for label in pools] for row in rows], np.bool_)
    return Annotations(tuple(pools), ids, present, present)


def new(folder: Path, *args: object) -> Result:
    return CliRunner().invoke(cli, ["splits", "new", *map(str, args)], catch_exceptions=True)


def table(folder: Path) -> Path:
    """Twelve images: three labels with four each, of which two share all images with the third."""
    path = folder / "few.csv"
    lines = [f"{i:02d}.jpg,{'abc'[i % 3]}{';d' if i < 6 else ''}" for i in range(12)]
    path.write_text("image,labels\n" + "\n".join(lines) + "\n")
    return path


def test_a_draw_is_the_same_everywhere_and_another_with_another_seed() -> None:
    drawn = random_lists("mine", LABELS, (5, 2, 2), 0)
    assert drawn == {
        "base": ["label a", "label b", "label c", "label e", "label h"],
        "val": ["label d", "label j"],
        "novel": ["label g", "label i"],
    }
    assert [len(drawn[part]) for part in PART_NAMES] == [5, 2, 2]
    assert random_lists("mine", LABELS, (5, 2, 2), 1) != drawn
    assert random_lists("other", LABELS, (5, 2, 2), 0) != drawn
    counts = np.zeros(len(LABELS))
    for seed in range(2000):
        for label in random_lists("mine", LABELS, (5, 2, 3), seed)["novel"]:
            counts[LABELS.index(label)] += 1
    assert np.abs(counts - 600).max() < 100  # five standard deviations


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 1, 0), (9, 1, 1)])
def test_sizes_that_can_not_be(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(BenchError, match="can't make lists"):
        random_lists("mine", LABELS, sizes, 0)


def test_balanced_lists_have_frequent_and_rare_labels_alike() -> None:
    found = annotations({label: 10 * (i + 1) for i, label in enumerate(LABELS)})
    lists = balanced_lists(found, (5, 2, 2))
    assert [len(lists[part]) for part in PART_NAMES] == [5, 2, 2]
    assert "label a" not in {label for names in lists.values() for label in names}
    pools = {part: [10 * (LABELS.index(label) + 1) for label in lists[part]] for part in PART_NAMES}
    means = [np.mean(pools[part]) for part in PART_NAMES]
    assert max(means) - min(means) <= 15
    assert balanced_lists(found, (5, 2, 2)) == lists


def test_what_each_rule_leaves() -> None:
    present = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0]], np.bool_)
    found = Annotations(("a", "b", "c"), tuple(f"x/{i}" for i in range(5)), present, present)
    lists = {"base": ["a"], "val": ["b"], "novel": ["c"]}
    rows = outlook(define("my_birds", lists, "open", "by hand"), found)  # type: ignore[arg-type]
    assert [(row.rule, row.images) for row in rows] == [
        ("open", 1), ("open", 1), ("open", 2), ("strict", 1), ("strict", 0), ("strict", 1),
    ]  # fmt: skip
    assert rows[2].pools == {"c": 2}
    assert rows[2].too_few(3) == {"c": 2}
    assert define("my_birds", lists, "strict", "").id == "my-birds-1-1-1-strict-v1"  # type: ignore[arg-type]


def test_the_command_writes_a_split_that_all_commands_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = table(tmp_path)
    done = new(tmp_path, "--dataset", path, "--labels", 1, 1, 1, "--need", 4)
    assert done.exit_code == 0, done.output
    assert "few: 12 images, 4 labels, 3 used" in done.output
    content = read_split_file(tmp_path / "few-1-1-1-v1.json")
    assert content.dataset == "few"
    assert content.images is not None
    assert "seed 0" in content.provenance.labels
    for words in (["show"], ["verify", "--dataset", str(path)], ["audit", "--dataset", str(path)],
                  ["audit"], ["verify"]):  # fmt: skip
        verb, *options = words
        done = CliRunner().invoke(cli, ["splits", verb, "few-1-1-1-v1.json", *options])
        assert done.exit_code in (0, 1), done.output
        assert "few-1-1-1-v1" in done.output
        assert "differs" not in done.output
    again = CliRunner().invoke(
        cli,
        ["splits", "build", "few-1-1-1-v1.json", "--dataset", str(path), "--out", "again.json"],
    )
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "few-1-1-1-v1.json").read_bytes()


def test_lists_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, lists = table(tmp_path), tmp_path / "lists.json"
    lists.write_text(json.dumps({"base": ["c", "a"], "novel": ["b"]}))  # val may be left out
    out = tmp_path / "x.json"
    done = new(tmp_path, "--dataset", path, "--lists", lists, "--id", "mine-v3", "--out", out)
    assert done.exit_code == 0, done.output
    content = read_split_file(out)
    assert (content.id, content.version) == ("mine-v3", 3)
    assert content.labels.base == ["c", "a"]
    for wrong, said in (
        ({"base": ["a"], "val": [], "novel": ["owl"]}, "unknown label"),
        ({"base": ["a"], "val": ["a"], "novel": ["b"]}, "twice"),
        ({"base": ["a"], "val": []}, "'novel' is missing"),
        ({"base": [], "val": [], "novel": ["b"]}, "base is not valid"),
    ):
        lists.write_text(json.dumps(wrong))
        failed = new(tmp_path, "--dataset", path, "--lists", lists, "--out", out)
        assert isinstance(failed.exception, BenchError)
        assert said in str(failed.exception)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "Name one of --labels and --lists"),
        (["--labels", 1, 1, 1, "--balanced", "--seed", 1], "--seed is for labels drawn at random"),
    ],
)
def test_options_that_do_not_go_together(args: list[object], said: str, tmp_path: Path) -> None:
    done = new(tmp_path, "--dataset", table(tmp_path), *args)
    assert done.exit_code == 2
    assert said in done.output


def test_the_id_of_a_shipped_split_and_an_id_that_is_none(tmp_path: Path) -> None:
    done = new(tmp_path, "--dataset", "scenes", "--labels", 12, 6, 6, "--out", tmp_path / "x.json")
    assert isinstance(done.exception, BenchError)
    assert "scenes-12-6-6-v1 is shipped" in str(done.exception)
    for name in ("Mine", "mine", "mine-v0x"):
        done = new(tmp_path, "--dataset", table(tmp_path), "--labels", 1, 1, 1, "--id", name)
        assert isinstance(done.exception, BenchError)
        assert "id is not valid" in str(done.exception)
