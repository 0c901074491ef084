"""What lies in results/measured follows from the runs beside it, of clean commits and whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.results.runs import read_run
from mlfsic_bench.results.table import build_table
from mlfsic_bench.results.table_text import render_markdown
from tests.results import archived, archived_files, archived_runs, archived_tables
from tools import archive_demo

pytestmark = pytest.mark.slow

MEASURED = Path(__file__).resolve().parents[2] / "results" / "measured"
DEMOS = sorted(MEASURED.glob("*/demo.md"))
NAMING = sorted(MEASURED.glob("*/*.json"))  # what `reproduce --archive` keeps; names its runs
TABLES = [path for path in NAMING if archived_tables.is_table(path)]
LOOKS = [path for path in NAMING if path not in TABLES]
CURVES = sorted(p for p in MEASURED.glob("*/*.csv") if not p.with_suffix(".json").exists())
RUNS = sorted(path.parent for path in MEASURED.rglob("record.json"))
SCORED = [run for run in RUNS if (run / "scores.npz").exists() and (run / "episodes.csv").exists()]

SMALL = """
schema_version: 1
kind: table
title: A small table
published: yan-2022-table1
columns: [micro_precision, macro_ap]
reference: Linear
rows:
  - {name: Random, method: random, episodes: 3}
  - {name: Linear, published: ResNet-50, method: linear, settings: {tune_epochs: 3}, episodes: 4}
  - {name: Nothing, method: protonet, backbone: vgg, published: ViT}
"""
CURVE = """
schema_version: 1
kind: curve
title: More images
base_images: {scenes: [30, all]}
rows:
  - {name: Linear, method: linear, episodes: 2, settings: {tune_epochs: 3}}
  - {name: ProtoNet, method: protonet, episodes: 2}
"""


def name_of(path: Path) -> str:
    return path.relative_to(MEASURED).as_posix()


def test_there_is_something_measured_of_each_kind() -> None:
    assert all([TABLES, DEMOS, LOOKS, CURVES, RUNS, SCORED])  # nothing below is skipped


@pytest.mark.parametrize("demo", DEMOS, ids=name_of)
def test_the_demo_is_that_of_its_scores(demo: Path) -> None:
    assert demo.read_text("utf-8") == archive_demo.table_of(
        archive_demo.runs_in(demo.parent, demo.with_suffix(""))
    )


@pytest.mark.parametrize("table", TABLES, ids=name_of)
def test_every_cell_follows_from_the_episodes(table: Path) -> None:
    archived_tables.check_cells(table)


@pytest.mark.parametrize("table", TABLES, ids=name_of)
def test_markdown_and_csv_show_the_same_figures(table: Path) -> None:
    archived_tables.check_markdown(table)
    archived_tables.check_csv(table)


@pytest.mark.parametrize("path", CURVES, ids=name_of)
def test_every_point_of_a_curve_is_an_archived_run(path: Path) -> None:
    archived_files.check_curve(path)


@pytest.mark.parametrize("path", NAMING, ids=name_of)
def test_subsets_are_marked_and_runs_are_there(path: Path) -> None:
    assert archived_files.runs_named(path)
    archived_files.check_subset(path)


@pytest.mark.parametrize("path", LOOKS, ids=name_of)
def test_attention_shows_the_figures_of_its_json(path: Path) -> None:
    archived_files.check_looks(path)


@pytest.mark.parametrize("run", SCORED, ids=name_of)
def test_episodes_follow_from_raw_scores(run: Path) -> None:
    archived_runs.check_scores(run)


@pytest.mark.parametrize("run", RUNS, ids=name_of)
def test_records_are_of_clean_commits_and_whole_runs(run: Path) -> None:
    archived_runs.check_record(run)
    if (run / "episodes.csv").exists():
        archived_runs.check_means(run)
    else:
        read_run(run)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and a curve on scenes, archived with scores as in results/measured."""
    top = tmp_path_factory.mktemp("archived")
    for name, text in (("small", SMALL), ("more", CURVE)):
        (top / f"{name}.yaml").write_text(text)
        words = ["reproduce", str(top / f"{name}.yaml"), "--dataset", "scenes", "--seeds", "2"]
        words += ["--out", str(top / "out")]
        words += ["--archive", str(top / "scenes"), "--archive-scores"]
        result = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return top / "scenes"


def test_what_reproduce_archives_passes_the_checks(made: Path) -> None:
    archived_tables.check_cells(made / "small.json")
    archived_tables.check_markdown(made / "small.json")
    archived_tables.check_csv(made / "small.json")
    archived_files.check_subset(made / "small.json")
    archived_files.check_curve(made / "more.csv")
    for run in sorted((made / "runs").iterdir()):
        archived_runs.check_scores(run)
        archived_runs.check_means(run)


def test_a_demo_is_archived_with_what_its_table_rests_on(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo, to = tmp_path / "demo", tmp_path / "kept"
    names = sorted(
        run.name
        for run in (made / "runs").iterdir()
        if archived.record_of(run)["episodes"]["count"] == 2 and "30images" not in run.name
    )
    shutil.copytree(made / "runs", demo / "runs")
    (demo / "runs" / names[0] / "checkpoints").mkdir()
    (demo / "runs" / names[0] / "checkpoints" / "history.jsonl").write_text("{}\n")
    monkeypatch.setattr(archive_demo, "runs_in", lambda folder, below: [below / n for n in names])
    monkeypatch.setattr(archive_demo, "margins", lambda runs: ("a lead",))
    text = render_markdown(build_table([demo / "runs" / name for name in names]))
    (demo / "table.md").write_text(text + "\n- a lead\n")
    archive_demo.archive(demo, to)
    assert (to / "demo.md").read_text() == (demo / "table.md").read_text()
    kept = sorted(path.relative_to(to / "demo").as_posix() for path in (to / "demo").rglob("*.*"))
    files = ("answers.npz", "record.json", "scores.npz")
    history = [f"{names[0]}/history.jsonl"]
    assert kept == sorted([f"{name}/{file}" for name in names for file in files] + history)
    _change(demo / "table.md", "a lead", "another")
    with pytest.raises(BenchError, match="not the table of the runs"):
        archive_demo.archive(demo, to)


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def _change_cell(folder: Path, key: str) -> None:
    value = json.loads((folder / "small.json").read_text())
    cell = value["rows"][0 if "paired" in key else 1]["cells"]["macro_ap"]
    cell[key] += 1e-6
    (folder / "small.json").write_text(json.dumps(value))


def _change_episode(folder: Path) -> None:
    run = archived_files.runs_named(folder / "small.json")[-1]
    path = folder / "runs" / run / "episodes.csv"
    lines = path.read_text().splitlines()
    *rest, last = lines[-1].split(",")
    lines[-1] = ",".join([*rest, repr(float(last) + 1e-6)])
    path.write_text("\n".join(lines) + "\n")


def _run(folder: Path) -> Path:
    return next((folder / "runs").glob("random*"))


def _edit_record(folder: Path, old: str, new: str) -> Path:
    run = _run(folder)
    path = run / "record.json"
    value = json.loads(path.read_text())
    value["provenance"] |= {"dirty": False, "commit": 40 * "a"}
    value["provenance"]["command"] = ["mlfsic-bench", "reproduce", ".../small.yaml", "--dataset"]
    path.write_text(json.dumps(value))
    archived_runs.check_record(run)  # as it should be
    _change(path, old, new)
    return run


KEYS = ("ours", "half_width", "low", "high", "published", "difference", "paired")


@pytest.mark.parametrize("key", [*KEYS, "paired_half_width"])
def test_a_changed_cell_is_noticed(made: Path, tmp_path: Path, key: str) -> None:
    folder = shutil.copytree(made, tmp_path / "scenes")
    _change_cell(folder, key)
    with pytest.raises(AssertionError, match=key):
        archived_tables.check_cells(folder / "small.json")


def _change_shown(folder: Path) -> None:
    cell = json.loads((folder / "small.json").read_text())["rows"][1]["cells"]["macro_ap"]
    _change(folder / "small.md", f"{cell['ours']:.2f} ±", f"{cell['ours'] + 0.01:.2f} ±")


def _change_spreadsheet(folder: Path) -> None:
    value = json.loads((folder / "small.json").read_text())
    number = repr(value["rows"][1]["cells"]["macro_ap"]["ours"])
    _change(folder / "small.csv", number, number[:-1])


def _change_curve(folder: Path) -> None:
    lines = (folder / "more.csv").read_text().splitlines()
    value = lines[1].split(",")[5]
    _change(folder / "more.csv", value, f"{float(value) + 0.001:.4f}")


def _each(check: Callable[[Path], None], folder: Path) -> None:
    for run in (folder / "runs").iterdir():
        check(run)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (_change_episode, lambda f: archived_tables.check_cells(f / "small.json")),
        (_change_episode, lambda f: _each(archived_runs.check_scores, f)),
        (_change_episode, lambda f: _each(archived_runs.check_means, f)),
        (_change_shown, lambda f: archived_tables.check_markdown(f / "small.json")),
        (_change_curve, lambda f: archived_files.check_curve(f / "more.csv")),
        (_change_spreadsheet, lambda f: archived_tables.check_csv(f / "small.json")),
        (
            lambda f: _change(f / "small.md", "Profile", "SUBSET Profile"),
            lambda f: archived_files.check_subset(f / "small.json"),
        ),
    ],
)  # fmt: skip
def test_a_changed_file_is_noticed(
    made: Path, tmp_path: Path, change: Callable[[Path], None], check: Callable[[Path], object]
) -> None:
    folder = shutil.copytree(made, tmp_path / "scenes")
    change(folder)
    with pytest.raises(AssertionError):
        check(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"status": "success"', '"status": "started"'),
        ('"dirty": false', '"dirty": true'),
        ('".../small.yaml"', '"/data/small.yaml"'),
        ('"--dataset"', '"--out=/data"'),
    ],
)
def test_a_record_that_may_not_be_published_is_noticed(
    made: Path, tmp_path: Path, old: str, new: str
) -> None:
    run = _edit_record(shutil.copytree(made, tmp_path / "scenes"), old, new)
    with pytest.raises(AssertionError):
        archived_runs.check_record(run)
