"""`score`: what its notes warn of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlfsic_bench.analysis import score as score_module
from mlfsic_bench.analysis.score import WRITERS, score_files
from mlfsic_bench.results.captions import pools_of
from mlfsic_bench.results.result import Targets
from tests.analysis.foreign_scores import LABELS, ROOT, E, L, Q, foreign


def test_small_pools_are_said() -> None:
    names = np.array([[f"{e}-{q}" for q in range(4)] for e in range(100)])
    targets = np.zeros((100, 4, 3), bool)
    targets[:, :2, 0] = True
    targets[:49, 3, 1] = True  # the third label is never shown
    one = Targets(targets, names, None, None, None, "stored")
    assert pools_of(one) == [200, 49, 0]
    again = np.where(np.arange(100)[:, None] < 98, names, names[:1])  # shown twice, counted once
    targets[49:98, 3, 1] = True
    assert pools_of(Targets(targets, again, None, None, None, "stored"))[1] == 98
    again[:, 3] = np.tile([f"x{i}" for i in range(50)], 2)
    assert pools_of(Targets(targets, again, None, None, None, "stored"))[1] == 50


@pytest.mark.parametrize(("images", "said"), [(49, True), (50, False)])
def test_the_note_on_small_pools_begins_below_fifty(
    images: int, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets_of = score_module.targets_of

    def limited(*args: Any) -> Targets:
        found = targets_of(*args)
        y = np.zeros_like(found.targets)
        y[:, :, 0] = True
        y.reshape(-1, L)[:images, 2] = True
        query = np.array([[f"{e}-{q}" for q in range(Q)] for e in range(E)])
        return replace(found, targets=y, query=query)

    monkeypatch.setattr(score_module, "targets_of", limited)
    report = score_files([foreign(tmp_path / "a.npz")])
    small = [line for line in report.notes if line.startswith("SMALL POOL")]
    assert len(small) == said
    if said:
        assert f"show: {LABELS[2]} 49." in small[0]
        assert small[0] in WRITERS["markdown"](report).replace("\\", "")


def test_subset_and_few_episodes_are_said(tmp_path: Path) -> None:
    report = score_files([foreign(tmp_path / "a.npz")])
    assert report.notes[0] == f"Only the first {E} of 200 episodes were scored."
    measured = ROOT / "results" / "measured" / "coco-subset" / "word-guided-attention-20000-steps"
    assert any("SUBSET" in note for note in score_files([measured]).notes)
