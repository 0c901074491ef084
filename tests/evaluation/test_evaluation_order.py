"""The order of scores in place of the scores: what follows from it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import ScoresMeta
from mlfsic_bench.evaluation.scores import Scores, order_of, read_scores, write_scores
from mlfsic_bench.metrics.registry import METRICS, episode_metrics, query_influence

SHA = "ab" * 32


def scores_of(array: np.ndarray, decisions: np.ndarray | None = None) -> Scores:
    episodes, _, labels = array.shape
    meta = {
        "split": {"id": "s-v1", "hash": SHA, "dataset": "d", "rule": "open", "subset": False},
        "episodes": {
            "protocol": "one_per_label-v1",
            "part": "novel",
            "hash": SHA,
            "total": episodes,
            "count": episodes,
        },
        "labels": [f"l{i}" for i in range(labels)],
        "method": {
            "name": "m",
            "seed": 0,
            "trains": False,
            "uses_words": False,
            "adapts_by_gradient": False,
        },
    }
    return Scores(array.astype(np.float32), decisions, ScoresMeta.model_validate(meta))


values = st.one_of(st.floats(-3, 3, width=32), st.sampled_from([0.0, -0.0, 1.0, -1.0]))
arrays = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=values
)


@given(arrays, st.randoms(use_true_random=False))
def test_every_metric_follows_from_the_order(array: np.ndarray, random: Random) -> None:
    own = scores_of(array)
    order = order_of(own, SHA)
    assert order.only_order
    targets = np.array([random.random() < 0.4 for _ in range(array.size)]).reshape(array.shape)
    for of in (episode_metrics, query_influence):
        expected = of(own.scores, targets, None, tuple(METRICS))
        found = of(order.scores, targets, None, tuple(METRICS))
        for name, each in expected.items():
            np.testing.assert_allclose(found[name], each, rtol=0, atol=1e-12, err_msg=name)


@given(arrays)
def test_pairs_of_an_episode_compare_as_before(array: np.ndarray) -> None:
    order = order_of(scores_of(array), SHA).scores
    for own, places in zip(array, order, strict=True):
        a, b = own.ravel(), places.ravel()
        assert ((a[:, None] > a) == (b[:, None] > b)).all()
        assert ((a > 0) == (b > 0)).all()


def test_a_file_holds_the_order_as_whole_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(2, 64, 16)).astype(np.float32)
    decided = array > 0.3
    order = order_of(scores_of(array, decided), SHA)
    write_scores(tmp_path / "order.npz", order)
    kept = read_arrays(tmp_path / "order.npz", kind="", required=("order", "meta", "decisions"))
    assert kept["order"].dtype == np.int16
    again = read_scores(tmp_path / "order.npz")
    assert again.meta.order_of == SHA
    assert np.array_equal(again.scores, order.scores)
    assert np.array_equal(again.decisions, decided)


@pytest.mark.parametrize("fault", ["both", "floats", "without the key", "huge"])
def test_a_faulty_order_is_refused(tmp_path: Path, fault: str) -> None:
    own = scores_of(np.arange(12, dtype=np.float32).reshape(1, 4, 3))
    path = tmp_path / "order.npz"
    write_scores(path, order_of(own, SHA))
    arrays = read_arrays(path, kind="", required=("order", "meta"))
    if fault == "both":
        arrays["scores"] = own.scores
    elif fault == "floats":
        arrays["order"] = own.scores
    elif fault == "huge":
        arrays["order"] = np.full(own.scores.shape, 1 << 30, np.int32)
    else:
        write_scores(path, own)
        arrays["meta"] = read_arrays(path, kind="", required=("scores", "meta"))["meta"]
    write_arrays(path, arrays)
    with pytest.raises(BenchError, match=r"not a (valid file of )?scores( file)?"):
        read_scores(path)
