"""`--base-images`, `--base-labels`: what is left, what stays the same, how a run is marked."""

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
    largest_base_labels,
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


def cut_inputs(
    count: int | None,
    asked: set[str] | None = None,
    seed: int = 0,
    labels: int | None = None,
) -> Inputs:
    inputs = fake_inputs(Trained, split=SPLIT, episodes=4, asked=asked, seed=seed)
    return replace(inputs, selection=select_parts(SPLIT, count, labels))


@given(st.integers(1, TOTAL), st.integers(1, TOTAL))
def test_a_smaller_number_is_nested_in_a_larger_one(one: int, two: int) -> None:
    small, large = (first_base_images(SPLIT, n) for n in sorted((one, two)))
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
    assert used <= set(first_base_images(SPLIT, 40).image_ids)


@pytest.mark.parametrize("count", range(1, len(SPLIT.base.labels) + 1))
def test_base_labels_are_those_with_the_most_images(count: int) -> None:
    base = SPLIT.base
    pools = {label: int(base.targets[:, i].sum()) for i, label in enumerate(base.labels)}
    wanted = sorted(base.labels, key=lambda label: (-pools[label], base.labels.index(label)))
    part = largest_base_labels(SPLIT, count)
    assert set(part.labels) == set(wanted[:count])
    assert list(part.labels) == [label for label in base.labels if label in part.labels]
    shows = {
        image: {label for label, on in zip(base.labels, row, strict=True) if on}
        for image, row in zip(base.image_ids, base.targets, strict=True)
    }
    kept = [image for image in base.image_ids if shows[image] & set(part.labels)]
    assert list(part.image_ids) == kept
    for image, row in zip(part.image_ids, part.targets, strict=True):
        own = {label for label, on in zip(part.labels, row, strict=True) if on}
        assert own == shows[image] & set(part.labels)


def test_base_images_are_cut_from_what_the_labels_leave() -> None:
    labels = len(SPLIT.base.labels) - 1
    left = largest_base_labels(SPLIT, labels)
    cut = select_parts(SPLIT, 40, labels)
    assert cut.base_images == BaseImages(used=40, of=TOTAL, labels=labels)
    assert set(cut.base.image_ids) == set(base_order(SPLIT.hash, left.image_ids)[:40])
    alone = select_parts(SPLIT, None, labels)
    assert alone.base_images == BaseImages(used=len(left.image_ids), of=TOTAL, labels=labels)
    assert alone.episodes == cut.episodes == select_parts(SPLIT).episodes
    with pytest.raises(BenchError, match=f"from 1 to {len(left.image_ids)}"):
        select_parts(SPLIT, TOTAL, labels)
    for count in (0, len(SPLIT.base.labels) + 1):
        with pytest.raises(BenchError, match="base labels of split"):
            select_parts(SPLIT, None, count)


def test_a_run_on_fewer_labels_has_its_own_key_and_says_so(tmp_path: Path) -> None:
    labels = len(SPLIT.base.labels) - 1
    own = identity(cut_inputs(None, labels=labels))
    assert own["base_labels"] == labels
    assert "base_labels" not in identity(cut_inputs(40))
    assert run_key(own) != run_key(identity(cut_inputs(own["base_images"])))  # type: ignore[arg-type]
    folder = execute(cut_inputs(40, labels=labels), tmp_path / "run")
    record = read_record(folder)
    assert record.base_images == BaseImages(used=40, of=TOTAL, labels=labels)
    assert any(f"the {labels} of {labels + 1} base labels" in note for note in record.notes)
    whole = read_record(execute(cut_inputs(40), tmp_path / "whole"))
    assert whole.base_images is not None
    assert "labels" not in whole.base_images.model_dump(mode="json")
    (table,), _ = paper_tables([folder])
    assert table.rows[0].name == f"fake-trained, base_labels={labels}, base_images=40"
    assert any("base_labels=N" in line for line in table.caption)


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
    first = set(first_base_images(SPLIT, 40).image_ids)
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
    targets = first_base_images(SPLIT, count).targets
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

    def planned(plan: RunPlan, log: object = None, opened: object = None) -> Path:
        plans.append(plan)
        return execute(cut_inputs(40), tmp_path / "run")

    monkeypatch.setattr("mlfsic_bench.evaluation.runner.run_method", planned)
    counts = ("--base-images", "60", "--base-labels", "4")
    args = ("run", "word-guided-attention", *OPTIONS, *counts)
    assert CliRunner().invoke(cli, args, catch_exceptions=False).exit_code == 0
    assert (plans[0].base_images, plans[0].base_labels) == (60, 4)
    inputs = open_inputs(plans[0])
    assert inputs.selection is not None
    assert inputs.selection.base_images == BaseImages(used=60, of=3000, labels=4)


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
        base_labels=6,
        episodes=1,
        device="cpu",
        out=tmp_path / "run",
    )
    opened = reopen(run_method(plan), RunPaths())
    assert opened.inputs.selection is not None
    assert opened.inputs.selection.base_images == BaseImages(used=200, of=3000, labels=6)
