"""A tuned experiment: what is tried on val, what is chosen, and what the table says of it."""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.scores import write_scores
from mlfsic_bench.experiments import schema
from mlfsic_bench.experiments.breakdown import read_breakdown
from mlfsic_bench.experiments.render import read_table
from mlfsic_bench.files import write_packed
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.metrics.intervals import (
    episode_images,
    holm,
    image_interval,
    p_of_interval,
    tied_ranks,
)
from mlfsic_bench.results.result import open_result
from mlfsic_bench.results.targets import targets_of
from mlfsic_bench.splits.files import compose, parts_of, write_split
from mlfsic_bench.splits.resolve import shipped_file
from mlfsic_bench.splits.split import Part
from tests.results.archived import publishable
from tools import check_archive
from tools.values import value

SCENES = Scenes(None)
IMAGES = 60  # of each part
METHOD = '''
from pathlib import Path
from mlfsic_bench.methods.contract import Method, MethodParams

class Params(MethodParams):
    sign: float = 1.0

class Mine(Method):
    """Mean prototypes, or their opposite; 0 can't be fitted."""

    name = "mine"
    Params = Params
    trains = True

    def fit(self, base, val, context):
        with Path(__file__).with_name("fits.txt").open("a") as file:
            file.write(f"{self.params.sign} {context.seed}\\n")
        if self.params.sign == 0:
            raise RuntimeError("this one breaks")

    def state(self):
        return {}

    def load_state(self, state):
        pass

    def adapt(self, support):
        f, Y = support.images.pooled(), support.targets
        p = Y.T @ f / Y.sum(0)[:, None]
        return lambda query: self.params.sign * query.pooled() @ p.T / f.shape[1]
'''
FILE = """
schema_version: 1
kind: table
title: A tuned table
reference: ProtoNet
tuned: true
rows:
  - {name: ProtoNet, method: protonet, episodes: 6}
  - {name: Mine, method: mine, episodes: 6}
"""


def tiny_split(folder: Path) -> Path:
    """The first images of each part of the synthetic scenes."""
    whole = shipped_file("scenes-12-6-6-v1")
    parts = {
        name: Part(part.labels, part.image_ids[:IMAGES], part.targets[:IMAGES])
        for name, part in parts_of(whole).items()
    }
    named = whole.definition().model_copy(update={"id": "tiny-12-6-6-v1"})
    path = folder / "tiny.json"
    write_split(compose(named, parts, None, None), path)
    return path


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, schema.Grid]]:
    """The grids of the profile, to be filled by a test; its split is a tiny one."""
    shipped = schema.read_profiles()
    found: dict[str, schema.Grid] = {}
    split = str(tiny_split(tmp_path_factory.mktemp("split")))
    changed = shipped.profiles["scenes"].model_copy(update={"settings": {}, "split": split})
    profiles = shipped.model_copy(
        update={"grids": found, "profiles": {**shipped.profiles, "scenes": changed}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "read_profiles", lambda: profiles)
        yield found


def reproduce(folder: Path, *more: str, code: int = 0) -> str:
    words = ["reproduce", str(folder / "tuned.yaml"), "--dataset", "scenes", "--seeds", "2"]
    words += ["--method", f"mine={folder}/mine.py:Mine", "--out", str(folder / "out"), *more]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, grids: dict[str, schema.Grid]) -> Path:
    """The folder of a tuned experiment that is done, and archived in `archive/scenes`."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "tuned.yaml").write_text(FILE)
    (folder / "mine.py").write_text(METHOD)
    grids["mine"] = {"sign": [-1.0, 1.0]}
    dry = reproduce(folder, "--dry-run")
    assert len(re.findall(r"missing +mine-\S*-val-seed0", dry)) == 2
    assert len(re.findall(r"missing +protonet-\S*-val-seed0", dry)) == 1
    (folder / "dry.txt").write_text(dry)
    to = folder / "archive" / "scenes"
    said = reproduce(folder, "--archive", str(to), "--archive-scores")
    (folder / "said.txt").write_text(said)
    return folder


def rows_of(folder: Path) -> dict[str, dict]:
    value = json.loads((folder / "out" / "scenes" / "tuned.json").read_text())
    return {row["name"]: row for row in value["rows"]}


def test_the_trial_with_the_highest_val_macro_ap_is_run_on_novel(made: Path) -> None:
    row = rows_of(made)["Mine"]
    runs = made / "out" / "scenes" / "runs"
    values = []
    for trial in row["trials"]:
        record = read_record(runs / trial["folder"])
        assert record.episodes.part == "val"
        assert record.method.seed == 0
        values.append(record.metrics["macro_ap"].mean)
        assert trial["macro_ap"] == pytest.approx(100 * values[-1], abs=1e-6)
    assert [trial["chosen"] for trial in row["trials"]] == [v == max(values) for v in values]
    assert [trial["settings"] for trial in row["trials"]] == [{"sign": "-1.0"}, {"sign": "1.0"}]
    for run in row["runs"]:
        record = read_record(runs / run["folder"])
        assert (record.episodes.part, record.method.parameters["sign"]) == ("novel", 1.0)
    assert [run["seed"] for run in row["runs"]] == [0, 1]
    (only,) = rows_of(made)["ProtoNet"]["trials"]
    assert only["chosen"]


def test_the_run_takes_over_the_fit_of_its_trial(made: Path) -> None:
    fits = (made / "fits.txt").read_text().split("\n")[:-1]
    assert [line.split()[0] for line in fits] == ["-1.0", "1.0", "1.0"]
    assert len(set(fits)) == 3  # two trials with seed 0, and seed 1
    assert "taking what mine-" in (made / "said.txt").read_text()


def test_the_same_command_again_leaves_all_as_it_is(made: Path) -> None:
    folder = made / "out" / "scenes"
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")}
    texts = {p.name: p.read_text() for p in folder.glob("tuned.*")}
    assert sum("-val-" in p.parent.name and p.name == "scores.npz" for p in before) == 3
    reproduce(made)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")} == before
    assert {p.name: p.read_text() for p in folder.glob("tuned.*")} == texts
    assert "missing" not in reproduce(made, "--dry-run")


def test_a_failing_point_is_left_out_of_the_choice_and_a_row_of_failures_has_failed(
    made: Path, grids: dict[str, schema.Grid]
) -> None:
    kept = (made / "fits.txt").read_text()
    grids["mine"] = {"sign": [0.0, 1.0]}
    said = reproduce(made, "--archive", str(made / "again"), code=1)
    assert "this one breaks" in said
    assert (made / "again" / "tuned.trials.json.xz").exists()
    row = rows_of(made)["Mine"]
    assert [trial["chosen"] for trial in row["trials"]] == [False, True]
    assert row["trials"][0]["macro_ap"] is None
    assert row["cells"]["macro_ap"]["measured"] is not None
    assert "failed" in (made / "out" / "scenes" / "tuned.md").read_text()
    grids["mine"] = {"sign": [0.0]}
    said = reproduce(made, "--archive", str(made / "never"), code=1)
    assert "nothing was archived" in said
    assert not (made / "never").exists()
    row = rows_of(made)["Mine"]
    assert row["state"].startswith("failed: ")
    assert row["cells"]["macro_ap"]["measured"] is None
    grids["mine"] = {"sign": [-1.0, 1.0]}
    (made / "fits.txt").write_text(kept)
    reproduce(made)


def test_nothing_is_chosen_where_a_trial_of_another_version_is_in_the_way(
    made: Path, tmp_path: Path
) -> None:
    import shutil

    copy = shutil.copytree(made / "out", tmp_path / "out")
    first = copy / "scenes" / "runs" / rows_of(made)["Mine"]["trials"][0]["folder"]
    shutil.rmtree(first)
    fits = (made / "fits.txt").read_text()
    (made / "mine.py").write_text(METHOD.replace("this one breaks", "it breaks"))
    said = reproduce(made, "--out", str(copy), code=1)
    (made / "mine.py").write_text(METHOD)
    (made / "fits.txt").write_text(fits)
    assert "holds another run" in said
    assert read_record(first).status == "success"
    row = rows_of(tmp_path)["Mine"]
    assert row["state"].startswith("failed: ")
    assert not any(trial["chosen"] for trial in row["trials"])


def test_ranks_are_those_of_all_pairs_after_holm(made: Path) -> None:
    rows = rows_of(made)
    names = [run["folder"] for row in rows.values() for run in row["runs"]]
    results = [open_result(made / "out" / "scenes" / "runs" / name) for name in names]
    targets = targets_of(results)
    images = episode_images(targets.query, targets.support, targets.drawn_for)
    for metric in ("macro_ap", "micro_ap"):
        each = [r.values([metric], targets)[metric] for r in results]
        queries = [r.influence([metric], targets)[metric] for r in results]
        a, b = each[0], np.mean(each[1:], axis=0)
        gap = image_interval(a - b, queries[0] - np.mean(queries[1:], axis=0), images)
        differ = p_of_interval(gap.mean, gap.half_width) < 0.05
        expected = [1 + differ * bool(gap.mean < 0), 1 + differ * bool(gap.mean > 0)]
        assert [rows[name]["cells"][metric]["rank"] for name in rows] == expected
    text = (made / "out" / "scenes" / "tuned.md").read_text()
    assert "|  | rank | 1 |" in text
    assert "after Holm over all 1 pairs" in text


def test_ranks_of_many_rows_by_a_naive_count() -> None:
    rng = np.random.default_rng(3)
    means = rng.normal(size=9).tolist()
    pairs = list(combinations(range(9), 2))
    p = {pair: float(rng.uniform() ** 6) for pair in pairs}
    gaps = {(i, j): (means[i] - means[j], p[i, j]) for i, j in pairs}
    adjusted = dict(zip(pairs, holm(list(p.values())), strict=True))
    naive = []
    for i in range(9):
        above = [j for j in range(9) if means[j] > means[i]]
        naive.append(1 + sum(adjusted[min(i, j), max(i, j)] < 0.05 for j in above))
    assert tied_ranks(9, gaps) == naive
    assert len(set(naive)) > 2
    assert tied_ranks(2, {(0, 1): (-0.1, float("nan"))}) == [1, 1]


def test_decision_rules_follow_from_the_scores(made: Path) -> None:
    folder = made / "out" / "scenes"
    row = rows_of(made)["Mine"]
    ruled = row["decisions"]
    (chosen,) = (trial["folder"] for trial in row["trials"] if trial["chosen"])
    on_val = np.load(folder / "runs" / chosen / "scores.npz")["scores"].astype(float)
    targets = np.load(folder / "runs" / chosen / "targets.npz")["targets"].astype(bool)

    def mean_f1(decided: np.ndarray, truth: np.ndarray) -> float:
        each = [
            2 * (d & t).sum() / (d.sum() + t.sum()) for d, t in zip(decided, truth, strict=True)
        ]
        return 100 * float(np.mean(each))

    best = mean_f1(on_val > ruled["threshold"], targets)
    others = np.quantile(on_val, np.linspace(0, 0.99, 12))
    assert all(best >= mean_f1(on_val > t, targets) - 1e-6 for t in others)
    counts = np.load(folder / "counts" / ruled["counts"])["counts"][:6]
    found: dict[str, list[float]] = {"own": [], "val": [], "count": []}
    for run in row["runs"]:
        scores = np.load(folder / "runs" / run["folder"] / "scores.npz")["scores"]
        truth = np.load(folder / "runs" / run["folder"] / "targets.npz")["targets"].astype(bool)
        place = np.argsort(np.argsort(-scores, axis=2, kind="stable"), axis=2)
        found["own"].append(mean_f1(scores > 0, truth))
        found["val"].append(mean_f1(scores > ruled["threshold"], truth))
        found["count"].append(mean_f1(place < counts[:, :, None], truth))
    for rule, each in found.items():
        assert ruled["values"][rule]["micro_f1"] == pytest.approx(np.mean(each), abs=1e-6), rule
    address = "out/scenes/tuned.json"
    assert value(made, address, "Mine|micro_f1|val") == f"{ruled['values']['val']['micro_f1']:.2f}"
    assert value(made, address, "ProtoNet|macro_ap|rank") in "12"
    text = (folder / "tuned.md").read_text()
    shown = [f"{ruled['values'][rule]['micro_f1']:.2f}" for rule in found]
    line = next(x for x in text.split("**Decision rules**")[1].split("\n") if "| Mine |" in x)
    assert [cell.strip() for cell in line.split("|")][2:8:2] == shown


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """The archive, as if it were made from a clean commit."""
    import shutil

    copy = shutil.copytree(made / "archive", tmp_path / "archive")
    for path in copy.rglob("record.json"):
        path.write_text(json.dumps(publishable(json.loads(path.read_text()))))
    _change(copy, publishable)
    return copy


def _change(archive: Path, change: object) -> None:
    """Change each record of a trial."""
    path = archive / "scenes" / "tuned.trials.json.xz"
    value = json.loads(lzma.decompress(path.read_bytes()))
    for run in value["runs"].values():
        change(run["record"])
    write_packed(path.with_suffix(""), json.dumps(value).encode())


def test_a_tuned_table_is_computed_again_from_its_archive(archive: Path) -> None:
    reports = list(check_archive.check_all(archive))
    assert not [report.line for report in reports if report.differences]
    names = {report.name for report in reports}
    assert {"tuned.json", "tuned.trials.json", "tuned-breakdown.json"} <= names
    table = read_table(archive / "scenes" / "tuned.json")
    assert table is not None
    assert table.ranked


def test_a_row_is_added_to_a_table_whose_other_runs_are_archived(
    made: Path, tmp_path: Path
) -> None:
    import shutil

    to = shutil.copytree(made / "archive", tmp_path / "archive") / "scenes"
    before = {p.name: p.read_bytes() for p in to.iterdir() if p.is_file()}
    # ProtoNet is not there yet; of Mine nothing is here.
    elsewhere = tmp_path / "elsewhere"
    more = ["--out", str(elsewhere), "--archive", str(to), "--archive-scores"]
    for name in ("tuned.json", "tuned.md"):
        (to / name).write_text((to / name).read_text().replace("ProtoNet", "Another"))
    said = reproduce(made, "--only", "ProtoNet", *more)
    assert "left out by --only" not in said
    assert not list((elsewhere / "scenes" / "runs").glob("mine-*"))
    after = {p.name: p.read_bytes() for p in to.iterdir() if p.is_file()}
    assert {name for name in before if before[name] != after.get(name)} <= {"tuned.trials.json.xz"}


def test_a_run_that_is_archived_keeps_its_values(made: Path, tmp_path: Path) -> None:
    """Another processor rounds otherwise; one run then has one value, the archived one."""
    import shutil

    to = shutil.copytree(made / "archive", tmp_path / "archive") / "scenes"
    out = shutil.copytree(made / "out", tmp_path / "out")
    before = (to / "tuned.json").read_bytes()
    folder = out / "scenes" / "runs" / rows_of(made)["ProtoNet"]["runs"][0]["folder"]
    result = open_result(folder)
    moved = replace(result.scores, scores=result.scores.scores[:, ::-1])
    record = json.loads((folder / "record.json").read_text())
    write_scores(folder / "scores.npz", moved)
    record["outputs"]["scores.npz"] = hash_file(folder / "scores.npz")
    (folder / "record.json").write_text(json.dumps(record))
    said = reproduce(made, "--out", str(out), "--archive", str(to), "--archive-scores")
    assert "as it is archived" in said
    assert (to / "tuned.json").read_bytes() == before
    reproduce(made, "--out", str(out))
    assert (out / "scenes" / "tuned.json").read_bytes() != before


def test_rows_that_are_left_out_show_the_training_seeds_that_are_there(
    made: Path, tmp_path: Path
) -> None:
    import shutil

    to = shutil.copytree(made / "archive", tmp_path / "archive") / "scenes"
    more = ["--out", str(tmp_path / "out"), "--archive", str(to), "--archive-scores"]
    reproduce(made, "--only", "ProtoNet", "--seeds", "1", *more)
    assert [run["seed"] for run in rows_of(tmp_path)["Mine"]["runs"]] == [0, 1]
    reproduce(made, "--only", "Mine", "--seeds", "1", *more)
    assert [run["seed"] for run in rows_of(tmp_path)["Mine"]["runs"]] == [0]
    reproduce(made, "--only", "ProtoNet", "--seeds", "1", "--out", str(tmp_path / "out"))
    assert [run["seed"] for run in rows_of(tmp_path)["Mine"]["runs"]] == [0]


def test_a_row_left_out_keeps_its_choice_where_a_trial_had_failed(
    made: Path, grids: dict[str, schema.Grid], tmp_path: Path
) -> None:
    kept = (made / "fits.txt").read_text()
    grids["mine"] = {"sign": [0.0, 1.0]}
    here, to = tmp_path / "out", tmp_path / "archive" / "scenes"
    more = ["--archive", str(to), "--archive-scores"]
    # in a table without Mine its trials have no values either, and have not failed
    reproduce(made, "--only", "ProtoNet", "--out", str(here), *more)
    assert rows_of(tmp_path)["Mine"]["state"] == "not run: left out by --only"
    reproduce(made, "--only", "ProtoNet", "--out", str(here), *more)
    assert rows_of(tmp_path)["Mine"]["state"] == "not run: left out by --only"
    reproduce(made, "--out", str(here), *more, code=1)
    before = (to / "tuned.json").read_bytes()
    for out in (here, tmp_path / "elsewhere"):  # where it failed, and where nothing is
        reproduce(made, "--only", "ProtoNet", "--out", str(out), *more)
        assert (to / "tuned.json").read_bytes() == before
        row = rows_of(tmp_path)["Mine"]
        assert [trial["chosen"] for trial in row["trials"]] == [False, True]
    grids["mine"] = {"sign": [-1.0, 1.0]}
    (made / "fits.txt").write_text(kept)


def test_no_archived_row_is_lost(made: Path, tmp_path: Path) -> None:
    import shutil

    to = shutil.copytree(made / "archive", tmp_path / "archive") / "scenes"
    for path in to.glob("runs/mine-*/order.npz*"):
        path.unlink()
    before = (to / "tuned.json").read_bytes()
    more = ["--out", str(tmp_path / "elsewhere"), "--archive", str(to)]
    with pytest.raises(BenchError, match="rows that the new table would not have") as error:
        reproduce(made, "--only", "ProtoNet", *more)
    assert "Mine" in error.value.found
    assert (to / "tuned.json").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rank": 1', '"rank": 2'),
        ('"chosen": false}, {', '"chosen": true}, {'),
        ('"micro_f1": ', '"micro_f1": 1'),
    ],
)
def test_a_changed_rank_choice_or_rule_is_noticed(archive: Path, old: str, new: str) -> None:
    path = archive / "scenes" / "tuned.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert check_archive.check_table(path).differences


def test_the_breakdown_is_that_of_the_best_rows(made: Path) -> None:
    folder = made / "out" / "scenes"
    found = json.loads((folder / "tuned-breakdown.json").read_text())
    assert [(c["name"], c["why"]) for c in found["columns"]] == [
        ("ProtoNet", "the reference"),
        ("Mine", "best trained on the base part"),
    ]
    runs = [folder / "runs" / run["folder"] for run in found["columns"][1]["runs"]]
    label, own = 2, []
    size: list[list[float]] = []
    for run in runs:
        scores = np.load(run / "scores.npz")["scores"].astype(float)
        stored = np.load(run / "targets.npz")
        targets, query = stored["targets"].astype(bool), stored["query"]
        own += [np.nanmean([ap(scores[e, :, label], targets[e, :, label]) for e in range(6)])]
        size.append([_ap_of_small(scores[e], targets[e], query[e]) for e in range(6)])
    lines = {(line["by"], line["name"]): line for line in found["lines"]}
    named = [name for by, name in lines if by == "label"][label]
    assert lines["label", named]["values"][1] == pytest.approx(100 * np.mean(own), abs=1e-6)
    middle = lines["object size", "1 to 5 %"]
    expected = 100 * np.mean([np.nanmean(one) for one in size])
    assert middle["values"][1] == pytest.approx(expected, abs=1e-6)
    text = (folder / "tuned-breakdown.md").read_text()
    assert f"{middle['values'][1]:.2f}" in text
    assert "the reference" in text


def ap(scores: np.ndarray, targets: np.ndarray) -> float:
    """By the definition: the mean over positives of the precision at their score."""
    at = [(targets & (scores >= s)).sum() / (scores >= s).sum() for s in scores[targets]]
    return float(np.mean(at)) if at else float("nan")


def _ap_of_small(scores: np.ndarray, targets: np.ndarray, query: np.ndarray) -> float:
    """Mean AP of labels over positives that cover 1 to 5 % of the image, others removed."""
    labels = shipped_file("scenes-12-6-6-v1").labels.novel
    found = []
    for c, label in enumerate(labels):
        kept, wanted = [], []
        for q, image in enumerate(query):
            area = SCENES.masks(image.decode())[label].mean() if targets[q, c] else 0
            if not targets[q, c] or 0.01 <= area < 0.05:
                kept.append(q)
                wanted.append(bool(targets[q, c]))
        if any(wanted):
            found.append(ap(scores[kept, c], np.array(wanted)))
    return float(np.mean(found)) if found else float("nan")


def test_a_changed_breakdown_is_noticed(archive: Path) -> None:
    path = archive / "scenes" / "tuned-breakdown.json"
    path.write_text(path.read_text().replace('"values": [', '"values": [1', 1))
    breakdown = read_breakdown(path)
    assert breakdown is not None
    assert check_archive.check_breakdown(path, breakdown).differences


def test_a_trial_on_novel_is_noticed(archive: Path) -> None:
    _change(archive, lambda record: record["episodes"].update(part="novel"))
    path = archive / "scenes" / "tuned.trials.json"
    assert any("not val" in one for one in check_archive.check_runs(path).differences)


def test_a_grid_is_small() -> None:
    with pytest.raises(BenchError, match="8 points; a grid has at most 6"):
        schema.checked(
            {
                "schema_version": 1,
                "grids": {"protonet": {"a": [1, 2, 3, 4], "b": [1, 2]}},
                "profiles": {
                    "x": {
                        "about": "a",
                        "split": "s",
                        "backbones": {"resnet50": "scenes-small"},
                        "seeds": {"trained": 1},
                    }
                },
            },
            schema.Profiles,
            "the profiles",
        )
