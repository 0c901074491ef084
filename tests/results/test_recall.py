"""What this machine remembers of a run: nothing that the record implies is asked for again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.analysis.score import ScoreReport
from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.recall import recall_run, remember_run
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.results.result import open_result
from mlfsic_bench.results.targets import targets_of
from tests.fakes.laso_world import SPLIT, laso_root

pytestmark = pytest.mark.slow
WHOLE = "query and support images"


def call(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.output)


def random_run(root: Path, out: Path) -> Path:
    """A run on a data set with a data root, on part of its images."""
    call("run", "random", "--split", SPLIT, "--data-root", root, "--available-only", "--backbone",
         "scenes-small", "--protocol", "laso_k_shot", "--shots", 1, "--episodes", 3, "--device",
         "cpu", "--out", out)  # fmt: skip
    return out


def scored(folder: Path, *options: object) -> ScoreReport:
    return ScoreReport.model_validate_json(call("score", folder, "--format", "json", *options))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    return tmp_path / "cache"


def test_a_run_is_scored_without_its_data(cache: Path, tmp_path: Path) -> None:
    root = laso_root(tmp_path / "root")
    folder = random_run(root, tmp_path / "run")
    named = scored(folder, "--data-root", root)
    shutil.rmtree(root)
    recalled = scored(folder)
    assert (recalled.targets, recalled.image_intervals) == ("rebuilt", WHOLE)
    assert recalled == named
    assert scored(folder / "scores.npz").files[0].metrics == named.files[0].metrics
    # Another machine has neither the data nor the memory: the run's own targets serve.
    shutil.rmtree(cache)
    stored = scored(folder)
    assert (stored.targets, stored.image_intervals) == ("stored", "query images only")
    assert stored.files[0].metrics["macro_ap"].mean == named.files[0].metrics["macro_ap"].mean


def test_a_changed_memory_is_not_believed(cache: Path, tmp_path: Path) -> None:
    folder = random_run(laso_root(tmp_path / "root"), tmp_path / "run")
    (file,) = (cache / "splits").iterdir()
    content = json.loads(file.read_text("utf-8"))
    first = content["images"]["novel"][0]
    first[1] = [(first[1][0] + 1) % 16]
    file.write_text(json.dumps(content), encoding="utf-8")
    assert scored(folder).targets == "stored"
    # A whole split in the place of another is not taken for it either.
    other = file.with_name("0" * 64 + ".json")
    file.rename(other)
    assert scored(folder).targets == "stored"


def test_a_recalled_split_must_be_the_one_the_scores_name(cache: Path, tmp_path: Path) -> None:
    result = open_result(random_run(laso_root(tmp_path / "root"), tmp_path / "run") / "scores.npz")
    assert targets_of([result]).origin == "rebuilt"
    split = result.meta.split.model_copy(update={"id": "other-v1"})
    meta = result.meta.model_copy(update={"split": split})
    result.scores.__dict__["meta"] = meta
    with pytest.raises(BenchError, match="the split found is not the one"):
        targets_of([result])


def test_an_unwritable_memory_stops_no_run(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the cache should be")
    folder = random_run(laso_root(tmp_path / "root"), tmp_path / "run")
    assert read_record(folder).status == "success"
    assert scored(folder).targets == "stored"
    assert cache.is_file()


def test_label_embeddings_that_are_no_file_are_remembered_by_their_name(cache: Path) -> None:
    for name in ("random", "backbone"):
        remember_run("0" * 64, RunPlan("protonet", "scenes-12-6-6-v1", embeddings=Path(name)))
        assert recall_run("0" * 64)["embeddings"] == name
