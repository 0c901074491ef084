"""Runs from Python: those of the command line, kept, saved, put in tables and compared."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlfsic_baselines.prototypes.protonet import ProtoNet

import mlfsic_bench as mb
from mlfsic_bench.cli.main import cli
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.scores import read_scores

pytestmark = pytest.mark.slow

SPLIT = "scenes-12-6-6-v1"
SHORT = {"epochs": 1, "warmup_epochs": 0, "steps_per_epoch": 2}
FEW: dict[str, Any] = {"backbone": "scenes-small", "episodes": 5}


def do(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def on_command_line(method: str, out: Path, *options: object) -> Path:
    do("run", method, "--split", SPLIT, "--backbone", "scenes-small", "--episodes", 5, "--out", out,
       *options)  # fmt: skip
    return out


def notebook_class() -> type[mb.Method]:
    class Here(mb.Method):
        """Means of features, as a cell of a notebook has it."""

        name = "here"

        def adapt(self, support: mb.Support) -> Any:
            means = support.targets.T @ support.images.pooled()
            return lambda query: query.pooled() @ means.T

    return Here


@pytest.fixture(scope="module")
def split() -> mb.LoadedSplit:
    return mb.load_split(SPLIT)


@pytest.fixture(scope="module")
def results(split: mb.LoadedSplit) -> mb.Results:
    features = mb.load_features(split, "scenes-small")
    return mb.evaluate(
        ["protonet", "random"], split=split, features=features, episodes=5, seeds=[0, 1]
    )


@pytest.mark.parametrize(
    ("method", "settings"), [("protonet", {"scale": 5.0}), ("word-guided-attention", SHORT)]
)
def test_it_is_the_run_of_the_command_line(
    method: str, settings: dict[str, Any], split: mb.LoadedSplit, tmp_path: Path
) -> None:
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    cut = 60 if method == "word-guided-attention" else None
    words += [] if cut is None else ["--base-images", str(cut)]
    run = on_command_line(method, tmp_path / "run", *words, "--seed", 1)
    (own,) = mb.evaluate(method, split=split, seeds=[1], settings=settings, base_images=cut, **FEW)
    there, here = read_record(run), own.record
    assert here is not None
    assert (here.key, here.identity) == (there.key, there.identity)
    assert here.method == there.method
    assert here.audit_status == "passed"
    np.testing.assert_array_equal(own.scores.scores, read_scores(run / "scores.npz").scores)
    with np.load(run / "targets.npz") as one, np.load(own.path / "targets.npz") as other:
        for name in ("targets", "query"):
            np.testing.assert_array_equal(one[name], other[name])


def test_tables_and_comparisons_are_those_of_the_command_line(
    results: mb.Results, tmp_path: Path
) -> None:
    folders = results.save(tmp_path)
    assert results.table("markdown") == do("table", *results.paths, "--format", "markdown")
    assert results.table(columns=["macro_ap"], interval="seeds") == do(
        "table", *results.paths, "--columns", "macro_ap", "--interval", "seeds"
    )
    compared = do("compare", *results.paths, "--metric", "micro_ap", "--format", "json")
    assert results.compare(["micro_ap"]).text("json") == compared
    assert mb.compare(folders, metrics=["micro_ap"]).report.metrics == (
        results.compare(["micro_ap"]).report.metrics
    )
    frame = results.compare(["macro_ap", "micro_ap"]).to_dataframe()
    (pair,) = json.loads(compared)["metrics"][0]["pairs"]
    assert frame["metric"].tolist() == ["macro_ap", "micro_ap"]
    assert frame["difference"][1] == pytest.approx(100 * pair["mean"])
    assert frame["images"][1] == pytest.approx(100 * pair["images"])
    assert str(results.compare()) == do("compare", *results.paths)


def test_sums_are_those_of_the_table(results: mb.Results) -> None:
    summary = results.summary()
    csv = pd.read_csv(io.StringIO(results.table("csv"))).set_index("method")
    assert summary.index.tolist() == csv.index.tolist() == ["ProtoNet", "Random"]
    for name in ("macro_ap", "micro_ap"):
        np.testing.assert_allclose(summary[name], csv[name])
        np.testing.assert_allclose(summary[f"{name} ±"], csv[f"{name}_half_width"])
    assert summary["seeds"].tolist() == ["0+1", "0+1"]
    assert summary["episodes"].tolist() == [5, 5]
    assert "..." not in str(summary)  # all columns fit into 80
    assert set(mb.metrics.METRICS) < set(results.summary(mb.metrics.METRICS))
    assert results.summary("micro_f1").columns.tolist()[-2:] == ["micro_f1", "micro_f1 ±"]
    assert len(results.summary(seeds="each")) == 4
    assert "macro_ap ±" not in results.summary(interval="none")
    long = results.to_dataframe(["macro_ap"])
    means = 100 * long.groupby("method")["value"].mean()
    assert means["protonet"] == pytest.approx(summary["macro_ap"]["ProtoNet"])


def test_the_same_call_again_returns_what_is_there(
    split: mb.LoadedSplit, results: mb.Results
) -> None:
    said: list[str] = []
    again = mb.evaluate(ProtoNet(), split=SPLIT, seeds=[0, 1], log=said.append, **FEW)
    assert again.paths == results.paths[:2]
    assert [line for line in said if "is done already" not in line] == [
        f"protonet, seed {seed}: macro-AP {results.summary()['macro_ap']['ProtoNet']:.2f}"
        for seed in (0, 1)
    ]
    # Episodes that are the split's own are the same run, wherever they come from.
    own = mb.load_episodes(split)
    named = mb.evaluate("random", split=split, backbone="scenes-small", episodes=own, seeds=[0])
    assert named.results[0].record is not None
    assert named.results[0].record.notes == []
    assert len(named.results[0].scores.scores) == 200


def test_other_episodes_are_kept_in_a_file(split: mb.LoadedSplit, tmp_path: Path) -> None:
    drawn = mb.load_episodes(split, count=3)
    found = mb.evaluate(
        "random", split=split, backbone="scenes-small", episodes=drawn, seeds=[0], out=tmp_path
    )
    (result,) = found
    assert result.meta.episodes.hash == drawn.hash
    assert result.path.parent == tmp_path
    assert "interval over images" in found.table()
    file = tmp_path / "drawn.json"
    file.write_bytes(drawn.format())
    assert mb.load_episodes(split, file=file).hash == drawn.hash
    again = mb.evaluate("random", split=split, backbone="scenes-small", episodes=file, seeds=[0])
    assert again.results[0].record is not None
    assert result.record is not None
    assert again.results[0].record.key == result.record.key


def test_saving_never_overwrites(results: mb.Results, tmp_path: Path) -> None:
    folders = results.save(tmp_path)
    assert [path.name.rsplit("-", 1)[0] for path in folders] == [
        f"{name}-{SPLIT}" for name in ("protonet", "protonet", "random", "random")
    ]
    assert folders[0].name.endswith(results.results[0].record.key[:8])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert results.save(tmp_path) == folders
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert mb.load_results(tmp_path).table() == results.table()
    shutil.rmtree(folders[0])
    shutil.copytree(folders[3], folders[1], dirs_exist_ok=True)  # another run in its place
    with pytest.raises(mb.BenchError, match="is not this run"):
        results.save(tmp_path)
    assert not folders[0].exists()


def test_scores_of_others_stand_beside_runs(
    split: mb.LoadedSplit, results: mb.Results, tmp_path: Path
) -> None:
    episodes = mb.load_episodes(split)
    scores = results.results[2].scores.scores
    card = mb.MethodCard(
        "theirs", trains=True, printed="Theirs", base_images=7, parameters={"k": 2}
    )
    path = mb.write_scores(
        tmp_path / "s.npz", scores.astype(float), split=split, episodes=episodes, card=card
    )
    both = results + mb.load_results(path)
    assert both.summary()["macro_ap"]["Theirs, base_images=7"] == pytest.approx(
        both.summary(seeds="each")["macro_ap"]["Random (seed=0)"]
    )
    assert "theirs" in repr(both)
    assert both.save(tmp_path / "saved")[-1].name == "s.npz"
    decided = mb.write_scores(
        tmp_path / "d.npz", scores, split=split, episodes=episodes, card=card,
        decisions=np.ones_like(scores),
    )  # fmt: skip
    assert mb.load_results(decided).summary(["micro_recall"])["micro_recall"].item() == 100


def test_a_class_of_a_notebook_runs_as_unversioned_and_is_no_entry(
    split: mb.LoadedSplit, tmp_path: Path
) -> None:
    made = notebook_class()
    found = mb.evaluate(made, split=split, seeds=[0, 1], **FEW)
    assert len(found.summary()) == 1  # two seeds of one method
    assert "UNVERSIONED: here." in found.table()
    assert "over images" in found.table()
    folders = found.save(tmp_path / "runs")
    refused = CliRunner().invoke(
        cli, ["submit", "pack", *map(str, folders), "--out", str(tmp_path / "results")]
    )
    assert isinstance(refused.exception, mb.BenchError)
    assert "unversioned, so it can't enter the leaderboard" in str(refused.exception)
    assert not (tmp_path / "results").exists()


def test_a_class_of_a_notebook_has_a_name_of_its_own_and_parameters(
    split: mb.LoadedSplit,
) -> None:
    other = type("Other", (notebook_class(),), {"name": "protonet"})
    for method in (other, other()):
        with pytest.raises(mb.BenchError, match="the name of a registered method"):
            mb.evaluate(method, split=split, **FEW)
    without = type("Without", (notebook_class(),), {"__init__": lambda self: None})
    with pytest.raises(mb.BenchError, match="does not keep its parameters"):
        mb.evaluate(without(), split=split, **FEW)


def test_notebooks_show_text_of_others_as_text(
    split: mb.LoadedSplit, results: mb.Results, tmp_path: Path
) -> None:
    name = "<script>alert(1)</script>"
    path = mb.write_scores(
        tmp_path / "s.npz",
        results.results[0].scores.scores,
        split=split,
        episodes=mb.load_episodes(split),
        card=mb.MethodCard(name, trains=False),
    )
    both = results + mb.load_results(path)
    for page in (both._repr_html_(), both.compare()._repr_html_()):
        assert "<script>" not in page
        assert "&lt;script&gt;alert" in page
        assert page.count("<tr>") == page.count("</tr>") >= 4


def test_a_failed_audit_is_a_warning(split: mb.LoadedSplit, tmp_path: Path) -> None:
    file = tmp_path / "greedy.py"
    file.write_text(
        "import mlfsic_bench as mb\n\n\n"
        "class Greedy(mb.Method):\n"
        '    """Centres each feature over the query."""\n\n'
        '    name = "greedy"\n'
        "    check_settings = {}\n"
        "    trains = True\n\n"
        "    def state(self):\n        return {}\n\n"
        "    def adapt(self, support):\n"
        "        p = support.targets.T @ support.images.pooled()\n"
        "        return lambda q: (q.pooled() - q.pooled().mean(0)) @ p.T\n"
    )
    with pytest.warns(UserWarning, match="the audit of .* failed"):
        found = mb.evaluate(f"{file}:Greedy", split=split, seeds=[0], **FEW)
    assert "AUDIT FAILED" in found.table()


def test_a_feature_pack_gives_the_same_run(
    split: mb.LoadedSplit, results: mb.Results, tmp_path: Path
) -> None:
    pack = tmp_path / "novel.mlfsic-features"
    do("features", "export", "--split", SPLIT, "--part", "novel", "--backbone", "scenes-small",
       "--out", pack)  # fmt: skip
    packed = mb.load_split(pack)
    assert packed.hash == split.hash
    ways: list[dict[str, Any]] = [
        {"split": packed},
        {"split": SPLIT, "features": pack},
        {"split": split, "features": mb.load_features(split, pack=pack)},
    ]
    for i, way in enumerate(ways):
        found = mb.evaluate("protonet", episodes=5, seeds=[0], out=tmp_path / str(i), **way)
        here, there = found.results[0], results.results[0]
        assert here.record is not None
        assert there.record is not None
        assert here.record.key == there.record.key
        np.testing.assert_array_equal(here.scores.scores, there.scores.scores)
    episode = next(mb.iter_episodes(packed, mb.load_episodes(packed), mb.load_features(packed)))
    assert episode.support.pooled().shape == (6, 128)
    with pytest.raises(mb.BenchError, match="made by a backbone, or were made before"):
        mb.load_features(split)
