"""`--base-images N`: which images these are, what stays the same, and how such a run is marked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mlfsic_bench.analysis.paper_table import paper_tables
from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import identity, run_key
from mlfsic_bench.evaluation.inputs import Inputs, open_inputs
from mlfsic_bench.evaluation.meta import BaseImages
from mlfsic_bench.evaluation.parts import (
    base_order,
    endless_episodes,
    first_base_images,
    select_parts,
)
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import execute, run_method
from mlfsic_bench.evaluation.scores import read_targets
from mlfsic_bench.results.reopen import RunPaths, reopen
from tests.fakes.world import Trained, fake_inputs, fake_split

SPLIT = fake_split()
TOTAL = len(SPLIT.base.image_ids)


def cut_inputs(count: int | None, asked: set[str] | None = None, seed: int = 0) -> Inputs:
    inputs = fake_inputs(Trained, split=SPLIT, episodes=4, asked=asked, seed=seed)
    return replace(inputs, selection=select_parts(SPLIT, count))


@given(st.integers(1, TOTAL), st.integers(1, TOTAL))
def test_a_smaller_number_is_nested_in_a_larger_one(one: int, two: int) -> None:
    small, large = (first_base_images(SPLIT, n)[0] for n in sorted((one, two)))
    assert set(small.image_ids) <= set(large.image_ids)
    for part, n in ((small, min(one, two)), (large, max(one, two))):
        assert len(part.image_ids) == n
        assert list(part.image_ids) == sorted(part.image_ids)
        assert part.labels == SPLIT.base.labels
        assert np.array_equal(part.targets, SPLIT.base.targets_of(part.image_ids))


def test_the_order_is_frozen_and_depends_on_the_split_alone() -> None:
    ids = tuple(f"scenes/{i:06d}" for i in range(8))
    assert base_order("a" * 64, ids)[:2] == ["scenes/000004", "scenes/000002"]
    assert base_order("a" * 64, ids[::-1]) == base_order("a" * 64, ids)
    assert base_order("b" * 64, ids) != base_order("a" * 64, ids)
    assert sorted(base_order("a" * 64, ids)) == list(ids)


def test_only_base_images_change() -> None:
    whole, cut = select_parts(SPLIT), select_parts(SPLIT, 40)
    assert whole.base_images is None
    assert cut.base_images == BaseImages(used=40, of=TOTAL)
    assert cut.episodes == whole.episodes
    assert cut.val is whole.val
    drawn = endless_episodes(cut.base, SPLIT.hash, 0)
    used = {i for k in range(30) for i in (*drawn(k).support, *drawn(k).query)}
    assert used <= set(first_base_images(SPLIT, 40)[0].image_ids)


def test_the_number_is_in_the_identity_only_when_set() -> None:
    whole = identity(cut_inputs(None))
    assert "base_images" not in whole
    some = {n: identity(cut_inputs(n)) for n in (40, 60, TOTAL)}
    assert [one["base_images"] for one in some.values()] == [40, 60, TOTAL]
    assert len({run_key(one) for one in (whole, *some.values())}) == 4
    for one in some.values():
        assert {k: v for k, v in one.items() if k not in ("base_images", "selection")} == {
            k: v for k, v in whole.items() if k != "selection"
        }


def test_a_run_touches_the_first_images_only_and_says_so(tmp_path: Path) -> None:
    asked: set[str] = set()
    folder = execute(cut_inputs(40, asked), tmp_path / "cut")
    first = set(first_base_images(SPLIT, 40)[0].image_ids)
    assert {i for i in asked if i.startswith("base/")} <= first
    record = read_record(folder)
    assert record.base_images == BaseImages(used=40, of=TOTAL)
    assert any("first 40 of 80 base images" in note for note in record.notes)
    whole = execute(cut_inputs(None), tmp_path / "whole")
    assert read_record(whole).base_images is None
    a, b = (read_targets(run / "targets.npz") for run in (folder, whole))
    assert np.array_equal(a.query, b.query)
    assert a.meta.episodes == b.meta.episodes


def test_labels_that_can_not_serve_sit_out_and_are_listed(tmp_path: Path) -> None:
    order = base_order(SPLIT.hash, SPLIT.base.image_ids)
    count = next(n for n in range(20, TOTAL) if select_parts(SPLIT, n).excluded_labels.get("base"))
    assert len(order) == TOTAL
    record = read_record(execute(cut_inputs(count), tmp_path / "run"))
    left = record.excluded_labels["base"]
    targets = first_base_images(SPLIT, count)[0].targets
    pools = dict(zip(SPLIT.base.labels, targets.sum(axis=0), strict=True))
    assert left
    assert min(pools, key=lambda label: pools[label]) in left
    assert any(left[0] in note and "excluded" in note for note in record.notes)


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (0, "can't train on 0 base images"),
        (-3, "can't train on -3"),
        (TOTAL + 1, "from 1 to 80"),
        (3, "has enough images"),
    ],
)
def test_impossible_numbers(count: int, reason: str) -> None:
    with pytest.raises(BenchError) as caught:
        select_parts(SPLIT, count)
    assert reason in str(caught.value)


def test_the_table_marks_points_of_a_curve(tmp_path: Path) -> None:
    runs = [
        execute(cut_inputs(n, seed=seed), tmp_path / f"{n}-{seed}")
        for n, seed in ((40, 0), (60, 0), (60, 1), (None, 0))
    ]
    (table,), _ = paper_tables(runs, seeds="each")
    assert [row.name for row in table.rows] == [
        "fake-trained, base_images=40",
        "fake-trained, base_images=60 (seed=0)",
        "fake-trained, base_images=60 (seed=1)",
        "fake-trained",
    ]
    assert any(line.startswith("LEARNING CURVE:") and "80" in line for line in table.caption)
    (whole,), _ = paper_tables(runs[-1:])
    assert not any("LEARNING CURVE" in line for line in whole.caption)


OPTIONS = ("--split", "scenes-12-6-6-v1", "--backbone", "scenes-small")


def test_the_option_reaches_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plans = []

    def planned(plan: RunPlan, log: object = None) -> Path:
        plans.append(plan)
        return execute(cut_inputs(40), tmp_path / "run")

    monkeypatch.setattr("mlfsic_bench.evaluation.runner.run_method", planned)
    args = ("run", "word-guided-attention", *OPTIONS, "--base-images", "60")
    assert CliRunner().invoke(cli, args, catch_exceptions=False).exit_code == 0
    assert plans[0].base_images == 60
    inputs = open_inputs(plans[0])
    assert inputs.selection is not None
    assert inputs.selection.base_images == BaseImages(used=60, of=3000)


@pytest.mark.parametrize(
    ("method", "count", "reason"),
    [
        ("protonet", "200", "trains nothing, so --base-images does nothing"),
        ("word-guided-attention", "3001", "from 1 to 3,000"),
        ("word-guided-attention", "0", "can't train on 0"),
    ],
)
def test_bad_options(method: str, count: str, reason: str) -> None:
    args = ("run", method, *OPTIONS, "--base-images", count)
    with pytest.raises(BenchError) as caught:
        CliRunner().invoke(cli, args, catch_exceptions=False)
    assert reason in str(caught.value)


def test_a_cut_run_is_opened_again(tmp_path: Path) -> None:
    plan = RunPlan(
        method="linear",  # on frozen features it reads no base image, so this is quick
        split="scenes-12-6-6-v1",
        backbone="scenes-small",
        base_images=200,
        episodes=1,
        device="cpu",
        out=tmp_path / "run",
    )
    opened = reopen(run_method(plan), RunPaths())
    assert opened.inputs.selection is not None
    assert opened.inputs.selection.base_images == BaseImages(used=200, of=3000)
