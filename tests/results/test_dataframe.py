"""Results in long form, for pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.result import open_result
from mlfsic_bench.results.targets import to_dataframe
from tests.analysis.compared import values
from tests.fakes.world import Mean, Trained, fake_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    top = tmp_path_factory.mktemp("frames")
    found = [fake_run(top / f"t{seed}", Trained, episodes=4, seed=seed) for seed in (0, 1)]
    return [*found, fake_run(top / "mean", Mean, episodes=4)]


def test_a_line_for_each_result_episode_and_metric(runs: list[Path]) -> None:
    frame = to_dataframe([open_result(run) for run in runs])
    assert list(frame.columns) == ["split", "method", "seed", "episode", "metric", "value"]
    assert len(frame) == 3 * 4 * len(METRICS)
    assert set(frame["split"]) == {"fake-4-3-3-v1"}
    names = [("fake-trained", 0), ("fake-trained", 1), ("fake-mean", 0)]
    each = frame[frame["metric"] == "macro_ap"].groupby(["method", "seed"])
    for run, name in zip(runs, names, strict=True):
        own = each.get_group(name)
        assert own["episode"].tolist() == [0, 1, 2, 3]
        np.testing.assert_allclose(own["value"], values(run), rtol=0, atol=1e-15)
    means = frame.groupby(["method", "metric"])["value"].mean()
    both = (values(runs[0]).mean() + values(runs[1]).mean()) / 2
    assert means["fake-trained", "macro_ap"] == pytest.approx(both)


def test_metrics_can_be_named(runs: list[Path], tmp_path: Path) -> None:
    result = open_result(runs[0])
    assert set(result.to_dataframe(["micro_ap"])["metric"]) == {"micro_ap"}
    assert result.to_dataframe().equals(to_dataframe([result]))
    with pytest.raises(BenchError, match="unknown metric"):
        result.to_dataframe(["micro_pa"])
    with pytest.raises(BenchError, match="holds no targets"):
        open_result(runs[0] / "scores.npz").to_dataframe()
