"""What lies in results/: every table follows from what is stored beside it, and it stays small."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.analysis.paper_table import as_markdown, paper_tables
from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.experiments.archive import read_runs
from mlfsic_bench.experiments.render import read_table
from mlfsic_bench.files import write_packed
from mlfsic_bench.hashing import hash_bytes
from mlfsic_bench.results.published import is_counterpart, read_published
from mlfsic_bench.results.result import open_result
from mlfsic_bench.results.targets import targets_of
from tests.results.archived import publishable
from tools import archive_demo, check_archive

pytestmark = pytest.mark.slow

RESULTS = Path(__file__).resolve().parents[2] / "results"
MOST = 60_000_000  # bytes of results/: the order of the scores of a run on COCO takes 0.25 MB

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


def test_results_stay_small() -> None:
    size = sum(path.stat().st_size for path in RESULTS.rglob("*") if path.is_file())
    assert size <= MOST, f"{size:,} bytes; keep values in place of scores (docs/results-format.md)"


def _of_this_test(path: Path) -> bool:
    """No large tuned table, and one run of sixteen: `make check-results` checks the rest."""
    if path.parent.name == "coco-subset" and path.name.startswith("reality-check"):
        return path.name.endswith(".xz")
    return path.parent.parent.name != "runs" or hash_bytes(path.parent.name.encode())[0] == "0"


def test_all_that_is_archived_is_reproduced() -> None:
    reports = list(check_archive.check_all(RESULTS / "measured", _of_this_test))
    assert not [report.line for report in reports if report.differences]
    names = [report.name for report in reports]
    for name in ("scenes/demo.md", "scenes/figure4.json", "scenes/learning-curve.csv",
                 "coco-subset/kggr.json", "coco-subset/table1.json"):  # fmt: skip
        assert name in names
    headline = next(report for report in reports if report.name == "coco-subset/table1.json")
    assert "as stored" not in headline.said  # not even intervals over images


def test_an_archived_run_opens_without_data_or_a_targets_file_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path))
    folder = next((RESULTS / "measured" / "coco-subset" / "runs").glob("protonet-*"))
    assert sorted(path.name for path in folder.iterdir()) == ["order.npz.xz", "record.json"]
    result = open_result(folder)
    targets = targets_of([result])
    assert targets.origin == "stored"
    assert targets.support is not None
    assert {len(targets.support), len(targets.targets)} == {200}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and a curve on scenes, archived: `slim` with values, `full` with orders."""
    top = tmp_path_factory.mktemp("archived")
    for name, text in (("small", SMALL), ("more", CURVE)):
        (top / f"{name}.yaml").write_text(text)
        words = ["reproduce", str(top / f"{name}.yaml"), "--dataset", "scenes", "--seeds", "2"]
        words += ["--out", str(top / "out"), "--archive"]
        for more in (["slim"], ["full", "--archive-scores"]):
            given = [*words, str(top / "archive" / more[0]), *more[1:]]
            result = CliRunner().invoke(cli, given, catch_exceptions=False)
            assert result.exit_code == 0, result.output
    return top / "archive"


def differences(archive: Path) -> dict[str, str]:
    reports = check_archive.check_all(archive)
    return {report.name: report.line for report in reports if report.differences}


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """A copy of the archive, as if it were made from a clean commit."""
    copy = shutil.copytree(made, tmp_path / "archive")
    for path in copy.rglob("record.json"):
        path.write_text(json.dumps(publishable(json.loads(path.read_text()))))
    for path in copy.rglob("*.runs.json.xz"):
        value = json.loads(lzma.decompress(path.read_bytes()))
        for run in value["runs"].values():
            publishable(run["record"])
        write_packed(path.with_suffix(""), json.dumps(value).encode())
    return copy


def test_what_reproduce_archives_passes_the_check(archive: Path) -> None:
    reports = list(check_archive.check_all(archive))
    assert not [report.line for report in reports if report.differences]
    said = {report.name: report.said for report in reports}
    assert (
        "6 intervals over images as stored"
        in check_archive.check_table(archive / "slim" / "small.json").said
    )
    assert "as stored" not in check_archive.check_table(archive / "full" / "small.json").said
    assert "3 points" in said["more.csv"]
    assert set(read_runs(archive / "slim" / "small.runs.json"))


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text, path
    path.write_text(text.replace(old, new, 1), "utf-8")


def _cell(archive: Path, key: str) -> None:
    path = archive / "slim" / "small.json"
    table = read_table(path)
    assert table is not None
    row = table.rows[0 if "paired" in key else 1]
    number = getattr(row.cells["macro_ap"], key)
    old = json.dumps(number)
    new = f"{(number or 0) + 1e-6:.6f}"
    text = path.read_text()
    at = text.index(
        f'"{key}": {old}', text.index('"macro_ap"', text.index(f'"name": "{row.name}"'))
    )
    path.write_text(text[:at] + text[at:].replace(old, new, 1))


@pytest.mark.parametrize(
    "key",
    ["measured", "half_width", "low", "high", "published", "difference", "paired",
     "paired_half_width"],
)  # fmt: skip
def test_a_changed_cell_is_noticed(archive: Path, key: str) -> None:
    _cell(archive, key)
    assert check_archive.check_table(archive / "slim" / "small.json").differences


def test_a_difference_is_made_only_under_the_conditions_of_the_published_row() -> None:
    runs = RESULTS / "measured" / "coco-subset" / "runs"
    record = read_record(next(runs.glob("linear-*")))
    split, episodes, features = record.split, record.episodes, record.features
    assert features is not None
    whole = split.model_copy(update={"subset": False, "id": "coco-52-12-16-open-v1"})
    papers = features.model_copy(update={"backbone": "resnet50"})
    same = record.model_copy(update={"split": whole, "features": papers})
    for number in (1, 3):  # the tables of one data set
        table = read_published(f"yan-2022-table{number}")
        assert is_counterpart(same, table, table.rows[-1].name)
    table = read_published("yan-2022-table1")
    for change in (
        {"split": split},
        {"split": split.model_copy(update={"subset": False})},  # unofficial
        {"split": whole.model_copy(update={"id": "voc-8-6-6-v1"})},
        {"episodes": episodes.model_copy(update={"count": 10})},
        {"episodes": episodes.model_copy(update={"protocol": "laso_k_shot-v1", "shots": 1})},
        {"features": features},
        {"features": papers.model_copy(update={"weights": "none"})},
        {"features": None},
    ):
        assert not is_counterpart(same.model_copy(update=change), table, "ResNet-50"), change
    assert not is_counterpart(same, table, "ResNet-101")
    assert not is_counterpart(same, read_published("yan-2022-table2"), "ResNet-50")


def _value(archive: Path) -> None:
    path = archive / "slim" / "small.runs.json.xz"
    value = json.loads(lzma.decompress(path.read_bytes()))
    linear = next(run for name, run in value["runs"].items() if name.startswith("linear"))
    linear["values"]["macro_ap"][-1] += 1_000_000
    write_packed(path.with_suffix(""), json.dumps(value).encode())


def _curve(archive: Path) -> None:
    line = (archive / "slim" / "more.csv").read_text().splitlines()[1]
    number = line.split(",")[5]
    _replace(archive / "slim" / "more.csv", number, f"{float(number) + 0.0001:.4f}")


def _record(old: str, new: str) -> Callable[[Path], None]:
    def change(archive: Path) -> None:
        path = next((archive / "full" / "runs").glob("random*")) / "record.json"
        _replace(path, old, new)

    return change


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_value, "small.json"),
        (_value, "small.runs.json"),
        (lambda a: _replace(a / "slim" / "small.md", "A small", "A smaller"), "small.json"),
        (lambda a: _replace(a / "slim" / "small.csv", "Linear", "Linea"), "small.json"),
        (lambda a: _replace(a / "slim" / "small.md", "Profile", "SUBSET Profile"), "small.json"),
        (_curve, "more.csv"),
        (lambda a: _replace(a / "slim" / "more.md", "| 30 |", "| 31 |"), "more.csv"),
        (_record('"dirty": false', '"dirty": true'), "random"),
        (_record('".../small.yaml"', '"/data/small.yaml"'), "random"),
        (_record('"--dataset"', '"--out=/data"'), "random"),
    ],
)
def test_a_changed_file_is_noticed(
    archive: Path, change: Callable[[Path], None], name: str
) -> None:
    change(archive)
    found = differences(archive)
    assert any(each.startswith(name) for each in found), found


def test_a_run_that_has_not_ended_is_refused(archive: Path) -> None:
    _record('"status": "success"', '"status": "started"')(archive)
    with pytest.raises(BenchError, match="has not ended well"):
        differences(archive)


def test_a_demo_is_archived_with_what_its_table_rests_on(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo, to = tmp_path / "demo", tmp_path / "kept"
    runs = made.parent / "out" / "scenes" / "runs"
    names = sorted(
        path.name
        for path in runs.iterdir()
        if open_result(path).meta.episodes.count == 2 and "30images" not in path.name
    )
    for name in names:
        shutil.copytree(runs / name, demo / "runs" / name)
    (demo / "runs" / names[0] / "checkpoints").mkdir(exist_ok=True)
    (demo / "runs" / names[0] / "checkpoints" / "history.jsonl").write_text("{}\n")
    monkeypatch.setattr(archive_demo, "runs_in", lambda folder, below: [below / n for n in names])
    monkeypatch.setattr(archive_demo, "margins", lambda runs: ("a lead",))
    text = as_markdown(*paper_tables([demo / "runs" / name for name in names]))
    (demo / "table.md").write_text(text + "\n- a lead\n")
    archive_demo.archive(demo, to)
    assert (to / "demo.md").read_text() == (demo / "table.md").read_text()
    assert not check_archive.check_demo(to / "demo.md").differences
    kept = sorted(path.relative_to(to / "demo").as_posix() for path in (to / "demo").rglob("*.*"))
    files = [f"{name}/{file}" for name in names for file in ("record.json", "order.npz.xz")]
    assert kept == sorted([*files, f"{names[0]}/history.jsonl"])
    _replace(demo / "table.md", "a lead", "another")
    with pytest.raises(BenchError, match="not the table of the runs"):
        archive_demo.archive(demo, to)
