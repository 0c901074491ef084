"""`score --decisions`: one result under the method's own rule, a threshold of val, and counts."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mlfsic_bench.analysis.score import WRITERS, score_files
from mlfsic_bench.episodes.files import draw_episodes
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.counts import LabelCounts, counts_of, write_counts
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.metrics.decisions import RULES, best_threshold, top_k
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.decision_rules import decided, threshold_of, val_run_of
from mlfsic_bench.results.result import open_result
from tests.analysis.compared import EPISODES
from tests.analysis.foreign_scores import foreign, refused, run
from tests.fakes.world import Mean, Trained, fake_inputs, fake_split


@pytest.fixture(scope="module")
def val_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on val episodes of the methods in `compare_folders`, but for the second seed."""
    top, split = tmp_path_factory.mktemp("val"), fake_split()
    episodes = draw_episodes(ONE_PER_LABEL, split, "val", 8)
    found = {}
    for name, method, params in (
        ("seed0", Trained, {}),
        ("mean", Mean, {}),
        ("sharp", Mean, {"scale": -3.0}),
    ):
        inputs = replace(fake_inputs(method, params, episodes=8), val=split.val, episodes=episodes)
        found[name] = execute(inputs, top / f"val-{name}")
    return found


@pytest.fixture(scope="module")
def counts() -> LabelCounts:
    return counts_of(fake_inputs(Trained, episodes=EPISODES))


def test_the_decisions_of_each_rule(
    compare_folders: dict[str, Path], val_folders: dict[str, Path], counts: LabelCounts
) -> None:
    result, val = open_result(compare_folders["seed0"]), open_result(val_folders["seed0"])
    s = result.scores.scores
    assert val.stored is not None
    t = best_threshold(val.scores.scores, val.stored.targets)
    assert threshold_of(val) == t
    by_val = decided(result, "val", val_runs=[val])
    assert (by_val.decisions == (s > t)).all()
    assert (by_val.threshold, by_val.notes) == (t, ())
    by_count = decided(result, "count", counts=counts)
    assert (by_count.decisions == top_k(s, counts.counts)).all()
    assert (decided(result, "own").decisions == (s > 0)).all()
    assert decided(result, "own").result is result
    for one in (by_val, by_count):  # AP is that of the same scores
        assert (one.result.scores.scores == s).all()


def test_the_run_on_val_is_looked_up(
    compare_folders: dict[str, Path], val_folders: dict[str, Path]
) -> None:
    found = {name: open_result(path) for name, path in compare_folders.items()}
    val = {name: open_result(path) for name, path in val_folders.items()}
    for name in val:
        assert val_run_of(found[name], list(val.values())) is val[name]
    other = decided(found["seed1"], "val", val_runs=list(val.values()))
    assert "training seed 0" in other.notes[0]
    with pytest.raises(BenchError, match="no run on val belongs") as error:
        val_run_of(found["mean"], [val["sharp"]])
    assert "method.parameters.scale" in str(error.value)
    with pytest.raises(BenchError, match="no run on val belongs"):
        val_run_of(found["mean"], [])
    with pytest.raises(BenchError, match="is not a run on val episodes"):
        decided(found["mean"], "val", val_runs=[found["mean"]])
    with pytest.raises(BenchError, match="decision rule"):
        decided(found["mean"], "vall")  # type: ignore[arg-type]


def test_counts_of_something_else(compare_folders: dict[str, Path], counts: LabelCounts) -> None:
    result = open_result(compare_folders["mean"])
    with pytest.raises(BenchError, match="needs label counts"):
        decided(result, "count")
    meta = counts.meta
    for key, value in (
        ("split", meta.split.model_copy(update={"hash": "0" * 64})),
        ("episodes", meta.episodes.model_copy(update={"hash": "0" * 64})),
    ):
        other = replace(counts, meta=meta.model_copy(update={key: value}))
        with pytest.raises(BenchError, match=f"another {key}"):
            decided(result, "count", counts=other)
    with pytest.raises(BenchError, match="do not cover all query images"):
        decided(result, "count", counts=replace(counts, counts=counts.counts[:2]))
    features = meta.features.model_copy(update={"backbone": "other"})
    other = replace(counts, meta=meta.model_copy(update={"features": features}))
    assert "label counts from other" in decided(result, "count", counts=other).notes[0]


def test_the_report(
    compare_folders: dict[str, Path],
    val_folders: dict[str, Path],
    counts: LabelCounts,
    tmp_path: Path,
) -> None:
    folder = compare_folders["seed0"]
    write_counts(tmp_path / "c.npz", counts)
    plain = score_files([folder])
    on_val = list(val_folders.values())
    report = score_files([folder], rules=RULES, val_runs=on_val, counts=tmp_path / "c.npz")
    file = report.files[0]
    assert file.metrics == plain.files[0].metrics  # the rest of the report does not change
    assert plain.files[0].decisions is None
    assert file.decisions is not None
    assert [one.rule for one in file.decisions] == list(RULES)
    own, by_val, by_count = file.decisions
    assert own.metrics == {n: x for n, x in file.metrics.items() if not METRICS[n].ranks}
    assert by_val.threshold == threshold_of(open_result(val_folders["seed0"]))
    assert by_count.labels == pytest.approx(counts.counts.mean())
    result = open_result(folder)
    assert result.stored is not None
    y, s = result.stored.targets, result.scores.scores
    values = [f1_score(a, b > by_val.threshold, average="micro") for a, b in zip(y, s, strict=True)]
    assert by_val.metrics["micro_f1"].mean == pytest.approx(np.mean(values), abs=1e-10)
    text = WRITERS["text"](report)
    assert "by decision rule" in text
    assert text.index("macro_f1") < text.index("by decision rule")
    table = text.partition("by decision rule")[2]
    assert table.index("micro_ap") < table.index("macro_ap") < table.index("micro_precision")
    rows = list(csv.DictReader(io.StringIO(WRITERS["csv"](report))))
    kept = [row for row in rows if row["section"] == "decisions"]
    assert {row["group"] for row in kept} == set(RULES)
    assert "by decision rule" in WRITERS["markdown"](report)
    assert '"threshold"' in WRITERS["json"](report)


def test_on_the_command_line(
    compare_folders: dict[str, Path],
    val_folders: dict[str, Path],
    counts: LabelCounts,
    tmp_path: Path,
) -> None:
    folder = compare_folders["mean"]
    write_counts(tmp_path / "c.npz", counts)
    text = run(folder, "--decisions", "own", "--decisions", "count", "--counts", tmp_path / "c.npz")
    assert "labels per image" in text
    assert "val (score >" in run(folder, "--decisions", "val", "--val-run", val_folders["mean"])
    assert "needs label counts" in refused(folder, "--decisions", "count")
    assert "no run on val" in refused(folder, "--decisions", "val")
    path = foreign(tmp_path / "a.npz")
    assert "all it was made with" in refused(path, "--decisions", "val")
    assert "by decision rule" in run(path, "--decisions", "own")
