"""Reports and pictures say what is not whole: changed parameters, few base images, a subset."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.evaluation.parts import select_parts
from mlfsic_bench.evaluation.runner import execute
from tests.fakes.world import Mean, Trained, fake_inputs, fake_run, fake_split

pytestmark = pytest.mark.slow

SENTENCE = "fake-mean not at its defaults: scale=9.0."
MARK = "[not at its defaults]"
PLOTS = ("pr", "labels", "difference", "calibration", "training")
Folders = dict[str, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    top = tmp_path_factory.mktemp("marks")
    found = {
        "plain": fake_run(top / "plain", Trained, episodes=4),
        "changed": fake_run(top / "changed", Mean, episodes=4, params={"scale": 9.0}),
    }
    few = replace(fake_inputs(Trained, episodes=4), selection=select_parts(fake_split(), 40))
    found["few"] = execute(few, top / "few")
    write_histories(found.values())
    return found


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    top, split = tmp_path_factory.mktemp("partial"), fake_split(subset={"available_only": True})
    runs = [
        fake_run(top / each.name, each, episodes=5, count=3, split=split)
        for each in (Trained, Mean)
    ]
    write_histories(runs)
    return runs


def write_histories(folders: Iterable[Path]) -> None:
    row = json.dumps({"step": 10, "loss": 1.0, "lr": 0.1, "value": 0.5})
    for folder in folders:
        (folder / "history.jsonl").write_text(row)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "json"])
@pytest.mark.parametrize("verb", ["score", "compare"])
def test_score_and_compare_say_what_is_not_at_its_defaults(
    folders: Folders, verb: str, form: str
) -> None:
    texts = [
        unescaped(run(verb, folders[one], folders["few"], "--format", form).output)
        for one in ("changed", "plain")
    ]
    assert SENTENCE in texts[0]
    assert "not at its defaults" not in texts[1]


def test_the_sentence_stands_where_reports_are_read(folders: Folders) -> None:
    both = folders["changed"], folders["plain"]
    for verb in ("score", "compare"):
        text = run(verb, *both, "--format", "json").output
        assert SENTENCE in json.loads(text)["notes"]
        rows = list(csv.DictReader(io.StringIO(run(verb, *both, "--format", "csv").output)))
        assert SENTENCE in rows[0]["caption"]


def test_json_names_the_changed_parameters_of_each(folders: Folders) -> None:
    given = [folders[name] for name in ("changed", "few", "plain")]
    entries = json.loads(run("compare", *given, "--format", "json").output)["methods"]
    assert [entry["changed"] for entry in entries] == [{"scale": 9.0}, {}, {}]
    assert [entry["base_images"] for entry in entries] == [None, {"used": 40, "of": 80}, None]
    files = json.loads(run("score", *given, "--format", "json").output)["files"]
    assert [file["method"]["changed"] for file in files] == [["scale"], [], []]


def test_all_training_seeds_of_a_setting_are_said_once(tmp_path: Path, folders: Folders) -> None:
    seeds = [
        fake_run(tmp_path / str(seed), Mean, episodes=4, params={"scale": 9.0}, seed=seed)
        for seed in (0, 1)
    ]
    report = json.loads(run("compare", *seeds, folders["plain"], "--format", "json").output)
    assert report["notes"].count(SENTENCE) == 1
    assert report["methods"][0]["changed"] == {"scale": 9.0}


def drawn(kind: str, out: Path, *runs: Path, more: tuple[str, ...] = ()) -> tuple[str, str]:
    """(the texts on a picture, the words that describe it, in the file and as printed)."""
    path = out / f"{kind}.svg"
    result = run("plot", kind, *runs, "--out", path, *more)
    root = ElementTree.fromstring(path.read_text("utf-8"))
    texts = ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    about = root.findtext(".//{http://purl.org/dc/elements/1.1/}description") or ""
    assert result.output.strip() == about.strip()
    return "\n".join(texts), about


@pytest.mark.parametrize("kind", PLOTS)
def test_every_plot_marks_the_method_and_says_the_parameters(
    kind: str, folders: Folders, tmp_path: Path
) -> None:
    texts, about = drawn(kind, tmp_path, folders["changed"], folders["plain"])
    # A calibration's title is wrapped.
    marked = [line for line in texts.replace("\n", " ").split("fake-") if "defaults]" in line]
    assert len(marked) == 1, texts
    assert marked[0].startswith(f"mean {MARK}")
    assert about.endswith(SENTENCE)
    texts, about = drawn(kind, tmp_path, folders["few"], folders["plain"])
    assert "defaults" not in texts + about


def test_a_difference_marks_what_all_are_compared_with(folders: Folders, tmp_path: Path) -> None:
    given, more = (folders["changed"], folders["plain"]), ("--against", str(folders["changed"]))
    texts, _ = drawn("difference", tmp_path, *given, more=more)
    assert f"minus that of fake-mean {MARK} (points)" in texts
    path = tmp_path / "compare.svg"
    run("compare", *given, "--plot", path)
    assert MARK in path.read_text("utf-8")


@pytest.mark.parametrize("kind", PLOTS)
def test_every_plot_marks_a_point_of_a_learning_curve(
    kind: str, folders: Folders, tmp_path: Path
) -> None:
    texts, _ = drawn(kind, tmp_path, folders["few"], folders["changed"])
    assert "(LEARNING CURVE: base_images=N of 80)" in texts
    assert "fake-trained, base_images=40" in texts
    texts, _ = drawn(kind, tmp_path, folders["plain"], folders["changed"])
    assert "LEARNING CURVE" not in texts


@pytest.mark.parametrize("kind", PLOTS)
def test_every_plot_marks_a_subset_and_a_part_of_the_episodes(
    kind: str, partial: list[Path], tmp_path: Path
) -> None:
    texts, _ = drawn(kind, tmp_path, *partial)
    assert "(SUBSET of the split's images)" in texts
    # The curves of a training know of no novel episode.
    assert ("(first 3 of 5 episodes)" in texts) == (kind != "training")


def test_a_curve_says_what_is_not_at_its_defaults(folders: Folders) -> None:
    texts = [
        unescaped(run("curve", folders["few"], folders[one], "--format", "markdown").output)
        for one in ("changed", "plain")
    ]
    assert f"- {SENTENCE}" in texts[0]
    assert "not at its defaults" not in texts[1]
