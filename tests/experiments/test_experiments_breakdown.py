"""What stands beside a tuned table: rows on fewer episodes, and one label-count head for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlfsic_bench.evaluation.counts import LabelCounts, counts_of, read_counts, write_counts
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.scores import Scores
from mlfsic_bench.experiments import decisions
from mlfsic_bench.experiments.breakdown import break_down_table
from mlfsic_bench.experiments.table import Values, cells_of
from mlfsic_bench.launchers.runs import Done
from mlfsic_bench.results.result import Targets, stored_targets
from tests.fakes.world import Trained, fake_inputs

LABELS = ["a", "b", "c"]
# the only image with two labels is in the second episode
TARGETS = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 1, 0], [0, 1, 0], [0, 0, 1]]], bool)
LARGE, SMALL = np.ones((4, 4), bool), np.eye(64, dtype=bool)[:, :1].reshape(8, 8)


class Outlines:
    """A data set that knows where objects are."""

    def masks(self, image: str) -> dict[str, np.ndarray]:
        return {"a": LARGE, "b": SMALL, "c": LARGE}


def result_of(episodes: int) -> Any:
    """A run on the first so many episodes, whose every ranking is right."""
    drawn = SimpleNamespace(drawn_by=SimpleNamespace(drawn_for=lambda labels, queries: None))
    query = np.array([[f"{e}{q}" for q in range(3)] for e in range(2)])
    stored = SimpleNamespace(
        targets=TARGETS[:episodes].astype(np.uint8),
        query=query[:episodes],
        meta=SimpleNamespace(episodes=drawn),
    )
    meta: Any = SimpleNamespace(labels=LABELS)
    scores = Scores(TARGETS[:episodes].astype(np.float32) - 0.5, None, meta)
    return SimpleNamespace(scores=scores, stored=stored, meta=meta)


@pytest.mark.parametrize("lengths", [(1, 2), (2, 1)])
def test_columns_on_fewer_episodes_keep_their_groups(lengths: tuple[int, int]) -> None:
    results = [[result_of(number)] for number in lengths]
    assert stored_targets(results[0][0].stored).targets.shape[0] == lengths[0]
    cells = {"macro_ap": SimpleNamespace(measured=50.0)}
    rows = [SimpleNamespace(name=name, runs=(name,), cells=cells) for name in ("first", "second")]
    table: Any = SimpleNamespace(title="t", rows=rows, columns=("macro_ap",), reference="first")
    plain = {"needs_text_side": False, "needs_embeddings": False, "uses_embeddings": False}
    planned: Any = [
        SimpleNamespace(method=SimpleNamespace(transductive=seen, trains=False, **plain))
        for seen in (False, True)
    ]
    dataset: Any = Outlines()
    made = break_down_table(table, results, planned, dataset)
    assert made is not None
    lines = {(line.by, line.name): line for line in made.lines}
    both = lines["labels in the image", "2"]
    assert both.count == 1
    assert both.values == tuple(None if number == 1 else 100.0 for number in lengths)
    assert lines["labels in the image", "1"].values == (100.0, 100.0)
    assert lines["labels in the image", "1"].count == 5
    assert lines["label", "a"].count == 2
    assert sum(line.count for line in made.lines if line.by == "object size") == 7


@pytest.fixture(scope="module")
def counts() -> LabelCounts:
    return counts_of(fake_inputs(Trained, episodes=2))


def test_label_counts_are_of_the_whole_base_part_and_of_this_version(
    counts: LabelCounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RunPlan] = []

    def made(plan: RunPlan, log: object, opened: object) -> LabelCounts:
        asked.append(plan)
        return counts

    monkeypatch.setattr(decisions, "label_counts", made)
    result: Any = SimpleNamespace(meta=counts.meta, record=None)
    plan = RunPlan("protonet", "s", "b", base_images=40, base_labels=3, episodes=2)
    path, log = tmp_path / "counts.npz", list[str]().append
    assert decisions._counts(path, plan, result, Done(), log) is counts
    (whole,) = asked
    assert (whole.base_images, whole.base_labels, whole.episodes) == (None, None, None)
    assert decisions._counts(path, plan, result, Done(), log) is not None
    assert len(asked) == 1  # those in the file
    older = replace(counts, meta=counts.meta.model_copy(update={"head_version": 9}))
    write_counts(path, older)
    assert decisions._counts(path, plan, result, Done(), log) is counts
    assert read_counts(path).meta == counts.meta


def test_the_rank_of_a_row_on_fewer_episodes_follows_the_shared_ones() -> None:
    """The later episodes are easy: the other row has the higher mean and loses where both are."""
    names = np.array([[f"{e}-{q}" for q in range(3)] for e in range(8)])
    targets = Targets(np.ones((8, 3, 1), bool), names, None, None, None, "stored")
    low, high = np.linspace(0.3, 0.31, 4), np.full(4, 0.9)
    own = Values((low + 0.1)[None, :, None], np.zeros((4, 3, 1)), targets.first(4))
    other = Values(np.concatenate([low, high])[None, :, None], np.zeros((8, 3, 1)), targets)
    plain: Any = ([own, other], ["macro_ap"], [{}, {}], [False, False], None)
    cells = [row["macro_ap"] for row in cells_of(*plain, ranked=True)]
    assert [cell.measured for cell in cells] == pytest.approx([40.5, 60.25])
    assert [cell.rank for cell in cells] == [1, 2]
