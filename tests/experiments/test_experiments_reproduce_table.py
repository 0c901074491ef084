"""`mlfsic-bench reproduce`: values, intervals and caption of the table."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import SplitMeta
from mlfsic_bench.experiments.caption import limits_of_runs
from tests.experiments.reproduced import FILE, reproduce, result_of, scores_of, small

pytestmark = pytest.mark.slow


def near(number: float) -> object:
    """Equal to the decimals that a table has."""
    return pytest.approx(number, abs=1e-6)


def test_every_number_of_a_cell_follows_from_the_scores(table: tuple[Path, str]) -> None:
    file, _ = table
    rows = result_of(file)
    seeds = scores_of(file, rows["Linear"])
    assert len(seeds) == 2
    cell = rows["Linear"]["cells"]["macro_ap"]
    mean = 100 * np.mean(seeds)
    assert cell["measured"] == near(mean)
    assert cell["low"] == near(100 * min(s.mean() for s in seeds))
    assert cell["high"] == near(100 * max(s.mean() for s in seeds))
    assert cell["low"] < cell["high"]
    per_episode = 100 * np.mean(seeds, axis=0)
    half = stats.t.ppf(0.975, 5) * per_episode.std(ddof=1) / np.sqrt(6)
    assert cell["half_width"] == near(half)
    assert cell["published"] == 19.67
    assert cell["difference"] is None  # another data set than the paper's
    assert cell["paired"] is None

    random = 100 * scores_of(file, rows["Random"])[0]
    gap = random - per_episode[:4]  # it has the first four episodes only
    low, high = stats.t.interval(0.95, 3, gap.mean(), gap.std(ddof=1) / 2)
    paired = rows["Random"]["cells"]["macro_ap"]
    assert paired["paired"] == near(gap.mean())
    assert paired["paired_half_width"] == near((high - low) / 2)
    assert paired["published"] is None
    assert paired["difference"] is None


def test_the_printed_table_and_its_files_say_the_same(table: tuple[Path, str]) -> None:
    file, printed = table
    rows = result_of(file)
    text = (file.parent / "out" / "scenes" / "small.md").read_text()
    for name in ("Random", "ProtoNet", "Linear"):
        cell = rows[name]["cells"]["macro_ap"]
        shown = f"{cell['measured']:.2f} ± {cell['image_half_width']:.2f}"
        assert shown in text
        assert f"{cell['measured']:.2f}" in printed
    lines = list(csv.DictReader((file.parent / "out/scenes/small.csv").read_text().splitlines()))
    linear = next(r for r in lines if r["row"] == "Linear" and r["metric"] == "macro_ap")
    assert float(linear["measured"]) == rows["Linear"]["cells"]["macro_ap"]["measured"]
    assert linear["seeds"] == "2"


def test_intervals_are_over_images_and_those_of_score_and_compare(table: tuple[Path, str]) -> None:
    from mlfsic_bench.analysis.compare import compare
    from mlfsic_bench.analysis.score import score_files

    file, _ = table
    rows = result_of(file)
    runs = file.parent / "out" / "scenes" / "runs"
    (random,) = (runs / run["folder"] for run in rows["Random"]["runs"])
    own = score_files([random]).files[0].metrics["macro_ap"]
    cell = rows["Random"]["cells"]["macro_ap"]
    assert cell["image_half_width"] == near(100 * own.images)
    assert cell["half_width"] == near(100 * own.episodes)
    paths = [runs / run["folder"] for name in ("ProtoNet", "Linear") for run in rows[name]["runs"]]
    (metric,) = compare(paths, metrics=["macro_ap"]).metrics
    linear = next(one for one in metric.methods if one.name.startswith("linear"))
    assert rows["Linear"]["cells"]["macro_ap"]["image_half_width"] == near(100 * linear.images)
    paired = rows["ProtoNet"]["cells"]["macro_ap"]
    assert paired["paired_image_half_width"] == near(100 * metric.pairs[0].images)
    assert paired["paired_image_half_width"] >= paired["paired_half_width"]
    text = (file.parent / "out" / "scenes" / "small.md").read_text()
    shown = f"{paired['paired']:+.2f} ± {paired['paired_image_half_width']:.2f}"
    assert shown in text
    assert "95 % interval over images" in text
    # Four episodes of Random against the first four of Linear, two seeds.
    assert rows["Random"]["cells"]["macro_ap"]["paired_image_half_width"] > 0


def test_the_caption_says_what_the_table_is(table: tuple[Path, str]) -> None:
    file, _ = table
    text = (file.parent / "out" / "scenes" / "small.md").read_text()
    for words in (
        "Split scenes-12-6-6-v1 (30fb1c32cf6a)",
        "200 episodes (",
        "Single rows have other settings: Linear (tune\\_epochs=5).",
        "Networks in place of the paper's: scenes-small for resnet50.",
        "Nothing: not run: no weights at hand in place of vgg",
        "first 4 of 200 episodes",
        "not in the paper",
        "Training seeds: 1 for Random, ProtoNet; 2 for Linear",
        "AAAI 2022, Table 1",
        "The backbone is frozen",
        "data set, protocol or backbone is another",
    ):
        assert words in text, words
    rows = result_of(file)
    assert rows["Nothing"]["cells"]["macro_ap"]["published"] == 16.94
    assert rows["Nothing"]["cells"]["macro_ap"]["measured"] is None


def test_chance_is_that_of_the_episodes_that_were_run(table: tuple[Path, str]) -> None:
    from mlfsic_bench.metrics.registry import chance_levels

    file, _ = table
    (run,) = result_of(file)["ProtoNet"]["runs"]  # on six episodes; the first row is on four
    folder = file.parent / "out" / "scenes" / "runs" / run["folder"]
    micro, macro = chance_levels(np.load(folder / "targets.npz")["targets"])
    text = (file.parent / "out" / "scenes" / "small.md").read_text()
    told = f"chance over the first 6: macro-AP {100 * macro:.2f}, micro-AP {100 * micro:.2f}."
    assert told in text


def test_a_published_row_that_is_not_there(tmp_path: Path) -> None:
    file = small(tmp_path, FILE.replace("published: ResNet-50", "published: ResNet-60"))
    with pytest.raises(BenchError, match="did you mean 'ResNet-50'"):
        reproduce(file, "--only", "Random")
    file = small(tmp_path, FILE.replace("yan-2022-table1", "yan-2022-table9"))
    with pytest.raises(BenchError, match="unknown published table"):
        reproduce(file, "--only", "Random")
    assert not (tmp_path / "out").exists()


def test_what_one_run_says_of_a_split_counts_for_runs_of_earlier_versions() -> None:
    split: dict[str, Any] = {
        "id": "coco-52-12-16-open-v1",
        "hash": "0" * 64,
        "dataset": "coco",
        "rule": "open",
    }
    split |= {"subset": False}
    old = SplitMeta.model_validate(split)
    new = SplitMeta.model_validate({**split, "differs_from_official": ["3 images, officially 4"]})
    runs: list[Any] = [SimpleNamespace(meta=SimpleNamespace(split=one)) for one in (old, new, old)]
    (line,) = limits_of_runs(runs)
    assert "3 images, officially 4" in line
    assert "nothing says" in limits_of_runs(runs[:1])[0]
