import json

import pytest
from click.testing import CliRunner

from mlfsic_bench.analysis.attention import pointing
from mlfsic_bench.analysis.attention.pointing import measure
from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.results.reopen import RunPaths
from tests.attention.conftest import TINY
from tests.fakes.values import assert_same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """As `folder`, with three episodes."""
    plan = RunPlan(
        method="word-guided-attention",
        split="scenes-12-6-6-v1",
        backbone="scenes-small",
        settings=TINY,
        episodes=3,
        device="cpu",
        batch_size=64,
        out=tmp_path_factory.mktemp("pointing") / "run<b>",
    )
    return run_method(plan)


def pointing_of(long_run, *options):
    command = ["pointing", str(long_run), *options]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_json_holds_what_measure_returns(long_run):
    result = measure(long_run, RunPaths())
    value = json.loads(pointing_of(long_run, "--format", "json"))
    assert_same(value, result.as_dict())
    assert (value["episodes"], value["grid"], len(value["heads"])) == (3, [7, 7], 2)
    assert value["pairs"] == sum(group["pairs"] for group in value["by_label"])
    assert value["summed"]["pairs"] == value["pairs"] >= value["images"] > 6
    assert value["unknown"] == 0
    for name in ("pointing", "tolerant", "other", "share"):
        figure = value["summed"][name]
        assert 0 <= figure["mean"] <= 1
        assert 0 < figure["chance"] < 1
        assert figure["half_width"] > 0


def test_episodes_limit_what_is_measured(long_run):
    value = json.loads(pointing_of(long_run, "--format", "json", "--episodes", "1"))
    whole = json.loads(pointing_of(long_run, "--format", "json"))
    assert value["episodes"] == 1
    assert value["images"] <= 6 < whole["images"]
    with pytest.raises(BenchError, match="no 4 episodes"):
        pointing_of(long_run, "--episodes", "4")


def test_text_and_markdown_show_the_same_values(long_run):
    result = measure(long_run, RunPaths())
    figure = result.summed.share
    cell = f"{100 * figure.mean:.1f} ± {100 * figure.half_width:.1f}"
    terminal = pointing_of(long_run)
    markdown = pointing_of(long_run, "--format", "markdown")
    assert all(part in terminal for part in cell.replace("± ", "±").split())
    assert cell in markdown
    assert markdown.startswith("|  | pairs | pointing |")
    for text in (terminal, markdown):
        for name in ("all heads", "centre", "head 1", "5 to 20 %", "2 labels", "striped"):
            assert name in text
    over_labels = sum(group.pointing.mean for group in result.by_label) / len(result.by_label)
    assert f"instead of pairs: pointing {100 * over_labels:.1f}" in markdown
    assert f"{result.pairs} pairs of an image and a label" in markdown


def test_out_writes_the_file_and_prints_nothing(long_run, tmp_path):
    out = tmp_path / "figures.md"
    text = pointing_of(long_run, "--format", "markdown")
    assert pointing_of(long_run, "--format", "markdown", "--out", str(out)) == ""
    assert out.read_text() == text


def test_a_dataset_without_outlines_is_one_error(long_run, monkeypatch):
    monkeypatch.setattr(Scenes, "masks", lambda self, image_id: {})
    with pytest.raises(BenchError, match="have no boxes or masks") as caught:
        measure(long_run, RunPaths(), episodes=1)
    assert "scenes" in caught.value.what


def test_a_method_without_attention_is_refused_before_anything_is_read(tmp_path):
    plan = RunPlan(
        method="prior",
        split="scenes-12-6-6-v1",
        backbone="scenes-small",
        episodes=1,
        device="cpu",
        out=tmp_path / "run",
    )
    with pytest.raises(BenchError, match="'prior' has no attention"):
        measure(run_method(plan), RunPaths())


def test_places_are_handed_to_the_run(monkeypatch, tmp_path):
    asked = []

    def spy(folder, where, *, episodes):
        asked.append((folder, where, episodes))
        raise BenchError("stop", expected="", found="", remedy="")

    monkeypatch.setattr(pointing, "measure", spy)
    places = {
        "method": "a.py:B",
        "split": "s.json",
        "data_root": tmp_path / "d",
        "embeddings": tmp_path / "w",
        "weights": "w.pt",
        "episodes_file": tmp_path / "e",
        "cache": tmp_path / "c",
    }
    options = [x for k, v in places.items() for x in (f"--{k.replace('_', '-')}", str(v))]
    with pytest.raises(BenchError, match="stop"):
        CliRunner().invoke(cli, ["pointing", "run", *options], catch_exceptions=False)
    assert asked == [(type(tmp_path)("run"), RunPaths(**places), None)]
