"""`score`: figures against a script of its own, foreign files, answers nobody can forge."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from sklearn import metrics as sk

from mlfsic_bench.cli.main import cli
from mlfsic_bench.episodes.episode import EpisodeSet
from mlfsic_bench.episodes.files import named_set, sample_episode_set, write_episode_set
from mlfsic_bench.episodes.run_files import runs_for, sampled_file, write_runs
from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.arrays import read_arrays, write_arrays
from mlfsic_bench.harness.cards import SCHEMA_FILE, meta_schema
from mlfsic_bench.harness.parts import select_parts
from mlfsic_bench.harness.record import read_record
from mlfsic_bench.harness.run import execute
from mlfsic_bench.harness.scores import read_scores
from mlfsic_bench.hashing import canonical_json, hash_file
from mlfsic_bench.metrics.image_interval import episode_images, image_interval
from mlfsic_bench.metrics.influence import query_influence
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.report import score as score_module
from mlfsic_bench.report.pairs import auc_against
from mlfsic_bench.report.score import score_files
from mlfsic_bench.report.score_notes import smallest_pool
from mlfsic_bench.report.score_render import RENDERERS
from mlfsic_bench.report.score_report import (
    Breakdown,
    Figure,
    FileScore,
    Group,
    ScoreReport,
    SeedFigure,
    SeedsScore,
)
from mlfsic_bench.report.truth import SplitPlace, Truth
from mlfsic_bench.splits.resolve import resolve_split
from mlfsic_bench.splits.split import Split
from tests.fakes.laso_world import SPLIT as LASO
from tests.fakes.laso_world import laso_root
from tests.fakes.world import Trained, fake_inputs, fake_run

ROOT = Path(__file__).resolve().parents[2]
SPLIT = json.loads((ROOT / "splits/scenes-12-6-6-v1.json").read_text("utf-8"))
DRAWN = json.loads((ROOT / "splits/scenes-12-6-6-v1.novel-episodes.json").read_text("utf-8"))
LABELS = SPLIT["labels"]["novel"]
HAS = dict(SPLIT["images"]["novel"])
E, Q, L = 12, 24, 6


def truth() -> np.ndarray:
    """bool [E, Q, L], from the files alone."""
    return np.array(
        [
            [[k in HAS[image] for k in range(L)] for image in episode["query"]]
            for episode in DRAWN["episodes"][:E]
        ]
    )


def foreign(path: Path, scores: np.ndarray | None = None, **changes: Any) -> Path:
    """A file that plain NumPy wrote; `changes` are to its meta, `decisions` to its members."""
    if scores is None:
        scores = np.random.default_rng(0).normal(size=(E, Q, L)) + truth()
    decisions = changes.pop("decisions", None)
    method = {"name": "mine", "seed": 0, "trains": True, "uses_words": False}
    meta = {
        "schema_version": 1,
        "kind": "mlfsic-bench scores",
        "labels": LABELS,
        "split": {"id": SPLIT["id"], "hash": SPLIT["hash"], "dataset": "scenes", "rule": "open",
                  "subset": False},
        "episodes": {"protocol": DRAWN["protocol"], "part": "novel", "hash": DRAWN["hash"],
                     "total": 200, "count": len(scores)},
        "method": {**method, "adapts_by_gradient": False},
    }  # fmt: skip
    for key, value in changes.items():
        meta[key] = {**meta.get(key, {}), **value} if isinstance(value, dict) else value
    members = {"scores": scores.astype(np.float32), "meta": np.array(json.dumps(meta))}
    np.savez(path, **members, **({} if decisions is None else {"decisions": decisions}))
    return path


def script(s: np.ndarray, y: np.ndarray, d: np.ndarray) -> dict[str, list[float]]:
    """All metrics of every episode by scikit-learn, in the order of the definitions."""
    rows: dict[str, list[float]] = {name: [] for name in METRICS}
    for s_e, y_e, d_e in zip(s, y, d, strict=True):
        p, r, f, _ = sk.precision_recall_fscore_support(y_e, d_e, average=None, zero_division=0)
        mp, mr, mf, _ = sk.precision_recall_fscore_support(
            y_e, d_e, average="micro", zero_division=0
        )
        P, R = p.mean(), r.mean()
        rows["micro_precision"].append(mp)
        rows["micro_recall"].append(mr)
        rows["micro_f1"].append(mf)
        rows["micro_ap"].append(sk.average_precision_score(y_e, s_e, average="micro"))
        rows["macro_precision"].append(P)
        rows["macro_recall"].append(R)
        rows["macro_f1"].append(2 * P * R / (P + R) if P + R else 0.0)
        rows["macro_ap"].append(sk.average_precision_score(y_e, s_e, average="macro"))
        rows["f1_label_mean"].append(f.mean())
    return rows


def given(kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    s = np.random.default_rng(1).normal(size=(E, Q, L)).astype(np.float32)
    return {
        "random": (s, None),
        "tied": (np.round(s), None),
        "constant": (np.full_like(s, 0.5), None),
        "all negative": (-1 - np.abs(np.round(s)), None),
        "the targets": (truth().astype(np.float32), None),
        "own decisions": (s, np.random.default_rng(2).random(s.shape) < 0.2),
        "nothing decided": (s, np.zeros(s.shape, bool)),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["random", "tied", "constant", "all negative", "the targets", "own decisions",
     "nothing decided"],
)  # fmt: skip
def test_every_cell_agrees_with_a_script_of_its_own(kind: str, tmp_path: Path) -> None:
    s, d = given(kind)
    report = score_files([foreign(tmp_path / "a.npz", s, decisions=d)])
    found = report.files[0].metrics
    for name, values in script(s, truth(), s > 0 if d is None else d).items():
        assert found[name].mean == pytest.approx(np.mean(values), abs=1e-10), name
        t = stats.t.ppf(0.975, E - 1) * np.std(values, ddof=1) / np.sqrt(E)
        assert found[name].episodes == pytest.approx(t, abs=1e-10), name
        assert found[name].images >= found[name].episodes - 1e-15, name
    assert list(found) == list(METRICS)


def test_the_scores_of_a_run_agree_too(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--split", SPLIT["id"], "--backbone", "scenes-small", "--episodes", str(E)]
    CliRunner().invoke(
        cli, ["run", "random", *options, "--out", str(folder)], catch_exceptions=False
    )
    report = score_files([folder])
    s = read_scores(folder / "scores.npz").scores
    for name, values in script(s, truth(), s > 0).items():
        assert report.files[0].metrics[name].mean == pytest.approx(np.mean(values), abs=1e-10)
        kept = read_record(folder).metrics[name]
        assert report.files[0].metrics[name].mean == kept.mean
        assert report.files[0].metrics[name].episodes == kept.half_width
    assert report.targets == "rebuilt"
    assert report.files[0].run == read_record(folder).key


def test_intervals_are_those_of_the_rooms(tmp_path: Path) -> None:
    s = given("random")[0]
    figure = score_files([foreign(tmp_path / "a.npz", s)]).files[0].metrics["macro_ap"]
    episodes = DRAWN["episodes"][:E]
    images = episode_images(
        np.array([e["query"] for e in episodes]), [e["support"] for e in episodes],
        np.arange(Q) // 4,
    )  # fmt: skip
    values = np.array(script(s, truth(), s > 0)["macro_ap"])
    influence = query_influence(s, truth(), names=["macro_ap"])["macro_ap"]
    right = image_interval(values, influence, images).half_width
    assert figure.images == pytest.approx(right, abs=1e-10)
    assert figure.images > figure.episodes


def example() -> str:
    page = (ROOT / "docs" / "scores-format.md").read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)[0]


def test_the_example_of_the_page_writes_a_file_that_is_scored(tmp_path: Path) -> None:
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= 22
    assert "mlfsic_bench" not in example()
    (tmp_path / "splits").mkdir()
    for name in (f"{SPLIT['id']}.json", f"{SPLIT['id']}.novel-episodes.json"):
        (tmp_path / "splits" / name).write_bytes((ROOT / "splits" / name).read_bytes())
    (tmp_path / "example.py").write_text(example(), encoding="utf-8")
    subprocess.run([sys.executable, "-W", "error", "example.py"], cwd=tmp_path, check=True)
    report = score_files([tmp_path / "scores.npz"])
    assert (report.files[0].run, report.episodes.count) == (None, 200)
    assert report.chance["macro_ap"] == pytest.approx(
        report.files[0].metrics["macro_ap"].mean, abs=0.02
    )


def test_the_schema_that_ships_is_that_of_the_code() -> None:
    for folder in ("mlfsic_bench/harness", "docs"):
        text = (ROOT / folder / SCHEMA_FILE).read_text("utf-8")
        assert text == meta_schema(), (
            f"python -m mlfsic_bench.harness.cards > {folder}/{SCHEMA_FILE}"
        )
    schema = json.loads(meta_schema())
    assert schema["required"] == ["episodes", "kind", "labels", "method", "schema_version", "split"]
    assert set(schema["$defs"]["MethodCard"]["required"]) == {
        "name", "seed", "trains", "uses_words", "adapts_by_gradient"
    }  # fmt: skip
    page = (ROOT / "docs" / "scores-format.md").read_text("utf-8")
    for part in (schema, schema["$defs"]["MethodCard"], schema["$defs"]["EpisodesCard"]):
        assert all(f"`{key}`" in page for key in part["properties"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split": {"hash": "0" * 64}}, "the split found is not the one"),
        ({"split": {"rule": "strict"}}, "rule strict"),
        ({"split": {"subset": True}}, "add --available-only or --min-pool"),
        ({"split": {"id": "scenes-12-6-6-v2"}}, "no split called 'scenes-12-6-6-v2'"),
        ({"split": {"id": "../../somewhere/split.json"}}, "no split called"),
        ({"episodes": {"hash": "0" * 64}}, "the episodes found are not the ones"),
        ({"episodes": {"protocol": "one_per_label-v2"}}, "one_per_label-v2"),
        ({"episodes": {"total": 199}}, "the episodes found are not the ones|total 200"),
        ({"episodes": {"total": 50_000}}, "total 50000|not drawn here|total 200"),
        ({"labels": LABELS[::-1]}, "other columns"),
        ({"labels": [*LABELS[:5], "else"]}, "other columns"),
        ({"episodes": {"count": 11}}, "11 episodes"),
        ({"episodes": {"part": "val"}}, "part"),
        ({"method": {"seed": "0"}}, "method.seed"),
        ({"method": {"lr": 1}}, "method.lr"),
        ({"runn": None}, r"unknown key 'runn' \(nearest known: 'run'\)"),
    ],
)
def test_what_a_description_gets_wrong_is_said(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BenchError, match=reason):
        score_files([foreign(tmp_path / "a.npz", **changes)])


def test_missing_queries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="a score for every query image"):
        score_files([foreign(tmp_path / "a.npz", np.zeros((E, Q - 1, L)))])


def forge(folder: Path) -> None:
    """Answers that are always right, with a record that vouches for them."""
    path = folder / "answers.npz"
    arrays = read_arrays(path, kind="answers", required=("targets", "query", "meta"))
    decided = read_scores(folder / "scores.npz").scores > 0
    write_arrays(path, arrays | {"targets": decided.astype(np.uint8)})
    record = json.loads((folder / "record.json").read_text("utf-8"))
    record["outputs"]["answers.npz"] = hash_file(path)
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def test_forged_answers_change_no_figure(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--split", SPLIT["id"], "--backbone", "scenes-small", "--episodes", str(E)]
    CliRunner().invoke(
        cli, ["run", "random", *options, "--out", str(folder)], catch_exceptions=False
    )
    honest = score_files([folder])
    forge(folder)
    split = SplitPlace(split=str(ROOT / "splits" / f"{SPLIT['id']}.json"))
    for place in (SplitPlace(), split):
        assert score_files([folder], place) == honest
    (folder / "answers.npz").unlink()
    assert score_files([folder / "scores.npz"]).files[0].metrics == honest.files[0].metrics


def test_stored_answers_are_said_to_be_stored(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=4)
    report = score_files([folder], by="label")
    assert (report.targets, report.image_intervals) == ("stored", "query images only")
    assert any("stored" in note for note in report.notes)
    assert report.files[0].metrics["macro_ap"].images is not None
    with pytest.raises(BenchError, match="--by pair needs the support images"):
        score_files([folder], by="pair")
    with pytest.raises(BenchError, match="no split called 'fake-4-3-3-v1'"):
        score_files([folder / "scores.npz"])
    other = fake_run(tmp_path / "other", episodes=4, seed=1)
    assert len(score_files([folder, other]).files) == 2
    forge(other)
    with pytest.raises(BenchError, match="stored different answers"):
        score_files([folder, other])


def test_seeds_are_grouped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [
        foreign(tmp_path / f"{seed}.npz", rng.normal(size=(E, Q, L)), method={"seed": seed})
        for seed in range(3)
    ]
    other = foreign(tmp_path / "o.npz", rng.normal(size=(E, Q, L)), method={"uses_words": True})
    report = score_files([*paths, other])
    assert [(group.method, group.seeds) for group in report.seeds] == [("mine", [0, 1, 2])]
    means = [file.metrics["macro_ap"].mean for file in report.files[:3]]
    mean, half = t_interval(means)
    assert report.seeds[0].metrics["macro_ap"].model_dump() == {"mean": mean, "seeds": half}
    assert "± seeds" in RENDERERS["terminal"](report)
    assert score_files(paths[:1]).seeds == []


def test_seeds_are_runs_that_are_equal_but_for_the_seed(tmp_path: Path) -> None:
    folders = [fake_run(tmp_path / f"r{seed}", Trained, episodes=4, seed=seed) for seed in (0, 1)]
    worded = fake_run(tmp_path / "words", Trained, episodes=4, seed=2, words=True)
    inputs = fake_inputs(Trained, episodes=4, seed=3)
    cut = replace(inputs, selection=select_parts(inputs.split, 40))
    few = execute(cut, tmp_path / "few")
    report = score_files([*folders, worded, few])
    assert len({canonical_json(f.method.model_dump(exclude={"seed"})) for f in report.files}) == 1
    assert [group.seeds for group in report.seeds] == [[0, 1]]
    made = "backbone fake (weights none, frozen, fp32)"
    for line in (
        f"r0: {made}, no words, all base images.",
        f"words: {made}, words fake-words (not used), all base images.",
        f"few: {made}, no words, 40 of 80 base images.",
    ):
        assert line in report.notes
    apart = [line for line in report.notes if "not taken together" in line]
    assert len(apart) == 2
    assert "words: None -> " in apart[0]
    assert "base_images: None -> 40" in apart[1]
    assert score_files([worded, few]).seeds == []


def test_files_without_a_record_are_seeds_by_what_they_state(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def one(seed: int, **changes: Any) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        return foreign(path, rng.normal(size=(E, Q, L)), method={"seed": seed}, **changes)

    cut = {"used": 200, "of": 3000}
    whole, part = [one(0), one(1)], [one(2, base_images=cut), one(3, base_images=cut)]
    report = score_files([*whole, *part])
    assert [group.seeds for group in report.seeds] == [[0, 1], [2, 3]]
    assert f"{part[0].name}: trained on 200 of 3,000 base images, as the file says." in report.notes
    lost = [one(seed, run=str(seed) * 64) for seed in (4, 5)]
    report = score_files(lost)
    assert report.seeds == []
    assert sum("without its folder" in line for line in report.notes) == 2


def test_small_pools_are_said() -> None:
    names = np.array([[f"{e}-{q}" for q in range(4)] for e in range(100)])
    targets = np.zeros((100, 4, 3), bool)
    targets[:, :2, 0] = True
    targets[:49, 3, 1] = True  # the third label is never shown
    one = Truth(targets, names, None, None, None, "stored")
    assert smallest_pool(one) == (49, 1)
    again = np.where(np.arange(100)[:, None] < 98, names, names[:1])  # shown twice, counted once
    targets[49:98, 3, 1] = True
    assert smallest_pool(Truth(targets, again, None, None, None, "stored")) == (98, 1)
    again[:, 3] = np.tile([f"x{i}" for i in range(50)], 2)
    assert smallest_pool(Truth(targets, again, None, None, None, "stored")) == (50, 1)


@pytest.mark.parametrize(("images", "said"), [(49, True), (50, False)])
def test_the_note_on_small_pools_begins_below_fifty(
    images: int, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = score_module.truth_of

    def limited(*args: Any) -> Truth:
        found = truth(*args)
        y = np.zeros_like(found.targets)
        y[:, :, 0] = True
        y.reshape(-1, L)[:images, 2] = True
        query = np.array([[f"{e}-{q}" for q in range(Q)] for e in range(E)])
        return replace(found, targets=y, query=query)

    monkeypatch.setattr(score_module, "truth_of", limited)
    report = score_files([foreign(tmp_path / "a.npz")])
    small = [line for line in report.notes if line.startswith("SMALL POOL")]
    assert len(small) == said
    if said:
        assert f"show {LABELS[2]} in only 49 images" in small[0]
        assert small[0] in RENDERERS["markdown"](report).replace("\\", "")


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    a = foreign(tmp_path / "a.npz")
    few = foreign(tmp_path / "few.npz", np.zeros((3, Q, L)))
    with pytest.raises(BenchError, match=r"few\.npz was not made on the episodes of"):
        score_files([a, few])
    with pytest.raises(BenchError, match="was not made on the split of"):
        score_files([a, fake_run(tmp_path / "run", episodes=3)])
    (tmp_path / "copy.npz").write_bytes(a.read_bytes())
    with pytest.raises(BenchError, match=r"copy\.npz holds the same scores"):
        score_files([a, tmp_path / "copy.npz"])
    with pytest.raises(BenchError, match="nothing to score"):
        score_files([])
    with pytest.raises(BenchError, match="unknown breakdown 'labels'") as caught:
        score_files([a], by="labels")
    assert "'label'" in caught.value.remedy


def test_by_label_and_cardinality(tmp_path: Path) -> None:
    s, y = given("random")[0], truth()
    path = foreign(tmp_path / "a.npz", s)
    part = score_files([path], by="label").files[0].breakdown
    assert part is not None
    assert [group.name for group in part.groups] == LABELS
    for k, group in enumerate(part.groups):
        ap = [sk.average_precision_score(y[e, :, k], s[e, :, k]) for e in range(E)]
        recall = [sk.recall_score(y[e, :, k], s[e, :, k] > 0) for e in range(E)]
        assert group.figures["ap"].mean == pytest.approx(np.mean(ap), abs=1e-10)
        assert group.figures["recall"].mean == pytest.approx(np.mean(recall), abs=1e-10)
        assert group.figures["ap"].images >= group.figures["ap"].episodes
        assert group.counts == {"episodes": E, "positives": int(y[:, :, k].sum())}
    part = score_files([path], by="cardinality").files[0].breakdown
    assert part is not None
    size = np.minimum(y.sum(axis=2), 4)
    assert [group.name for group in part.groups] == [str(n) for n in np.unique(size)]
    for group in part.groups:
        chosen = size == int(group.name)
        rows = [e for e in range(E) if chosen[e].any()]
        each = [(y[e][chosen[e]], s[e][chosen[e]]) for e in rows]
        micro = [sk.average_precision_score(a.ravel(), b.ravel()) for a, b in each]
        f1 = [sk.f1_score(a, b > 0, average="micro", zero_division=0) for a, b in each]
        own = [sk.average_precision_score(a, b, average="samples") for a, b in each]
        assert group.figures["micro_ap"].mean == pytest.approx(np.mean(micro), abs=1e-10)
        assert group.figures["micro_f1"].mean == pytest.approx(np.mean(f1), abs=1e-10)
        assert group.figures["ap_sample"].mean == pytest.approx(np.mean(own), abs=1e-10)
        assert group.counts == {"episodes": len(rows), "queries": int(chosen.sum())}


def test_by_support_count_and_pair(tmp_path: Path) -> None:
    s, y = given("tied")[0], truth()
    path = foreign(tmp_path / "a.npz", s)
    support = [[HAS[image] for image in e["support"]] for e in DRAWN["episodes"][:E]]
    shown = [[sum(k in image for image in images) for k in range(L)] for images in support]
    part = score_files([path], by="support-count").files[0].breakdown
    assert part is not None
    assert [group.name for group in part.groups] == sorted(
        {str(min(n, 4)) for row in shown for n in row}
    )
    for group in part.groups:
        rows = []
        for e in range(E):
            cells = [k for k in range(L) if min(shown[e][k], 4) == int(group.name)]
            if cells:
                rows.append(
                    np.mean([sk.average_precision_score(y[e, :, k], s[e, :, k]) for k in cells])
                )
        assert group.figures["ap"].mean == pytest.approx(np.mean(rows), abs=1e-10)
        assert group.counts["episodes"] == len(rows)
    part = score_files([path], by="pair").files[0].breakdown
    assert part is not None
    pairs = {group.name: group for group in part.groups}
    for a in range(L):
        for b in range(L):
            both = int((y[:, :, a] & y[:, :, b]).sum())
            beside = [any(a in i and b in i for i in images) for images in support]
            name = f"{LABELS[a]} / {LABELS[b]}"
            if a == b or not (both or any(beside)):
                assert name not in pairs
                continue
            values = []
            for e in range(E):
                use = y[e, :, a] | y[e, :, b]
                one = y[e, use, a]
                values.append(
                    sk.roc_auc_score(one, s[e, use, a]) if 0 < one.sum() < use.sum() else np.nan
                )
            found = pairs[name]
            assert found.counts == {"queries_with_both": both, "episodes_shared": sum(beside)}
            assert found.figures["auc"].mean == pytest.approx(np.nanmean(values), abs=1e-10)
            if any(beside):
                shared = np.nanmean(np.array(values)[beside])
                assert found.figures["auc_shared"].mean == pytest.approx(shared, abs=1e-10)


def test_without_the_label_there_is_no_auc() -> None:
    y = np.array([[[1, 0], [0, 0]]], bool)
    assert np.isnan(auc_against(np.zeros((1, 2)), y[:, :, 1], y)).all()


def run(*args: str | Path) -> str:
    return str(CliRunner().invoke(cli, ["score", *map(str, args)], catch_exceptions=False).output)


def test_formats_say_the_same(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.npz")
    report = ScoreReport.model_validate_json(run(path, "--format", "json", "--by", "label"))
    assert report == score_files([path], by="label")
    ap = report.files[0].metrics["macro_ap"]
    rows = list(csv.DictReader(io.StringIO(run(path, "--format", "csv", "--by", "label"))))
    row = next(r for r in rows if r["figure"] == "macro_ap")
    assert [float(row[key]) for key in ("mean", "episodes", "images")] == [
        100 * ap.mean, 100 * ap.episodes, 100 * ap.images
    ]  # fmt: skip
    assert {r["group"] for r in rows if r["section"] == "label"} == set(LABELS)
    line = f"{100 * ap.mean:.2f} ±{100 * ap.episodes:.2f} ±{100 * ap.images:.2f}"
    assert f"macro_ap {line}" in " ".join(run(path).split())
    cells = f"macro\\_ap | {line.replace(' ', ' | ')}"
    assert cells in run(path, "--format", "markdown")
    out = tmp_path / "out.md"
    assert run(path, "--format", "markdown", "--out", out) == ""
    assert out.read_text("utf-8") == run(path, "--format", "markdown")


def test_conventions_are_printed_with_their_definitions(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.npz")
    text = run(path, "--conventions")
    assert "ap_voc11_pooled_macro" in text
    assert "11-point interpolated AP per label over the pooled queries" in text
    assert "ap_voc11_pooled_macro" not in run(path)
    report = score_files([path], conventions=True)
    values = report.files[0].conventions
    assert values is not None
    assert values["ap_episode_macro"] == pytest.approx(report.files[0].metrics["macro_ap"].mean)


def drawn_from(split: Split, episodes: EpisodeSet, path: Path) -> Path:
    """Scores for all these episodes of any split, alike in all episodes."""
    first = episodes.episodes[0]
    shape = (len(episodes.episodes), len(first.query), len(split.novel.labels))
    shots = {} if episodes.shots is None else {"shots": episodes.shots}
    rng = np.random.default_rng(0)
    return foreign(
        path,
        rng.normal(size=shape[1:]) + 0.3 * rng.normal(size=shape),
        labels=list(split.novel.labels),
        split={"id": split.id, "hash": split.hash, "dataset": split.dataset, "rule": split.rule,
               "subset": split.subset is not None},
        episodes={"protocol": episodes.protocol, "hash": episodes.hash, "total": shape[0], **shots},
    )  # fmt: skip


def refused(*args: str | Path) -> str:
    with pytest.raises(BenchError) as caught:
        CliRunner().invoke(cli, ["score", *map(str, args)], catch_exceptions=False)
    return str(caught.value)


def test_the_options_that_limit_a_split(tmp_path: Path) -> None:
    for name, options in {
        "available": {"available_only": True},
        "pool": {"min_pool": 2},
    }.items():
        split = resolve_split(SPLIT["id"], data_root=None, **options)
        path = drawn_from(split, sample_episode_set(split, "novel", 3), tmp_path / f"{name}.npz")
        flags = ["--available-only"] if name == "available" else ["--min-pool", "2"]
        assert "SUBSET" in run(path, *flags)
        assert "add --available-only or --min-pool" in refused(path)
        whole = foreign(tmp_path / "whole.npz")
        assert "leave --available-only and --min-pool out" in refused(whole, *flags)


def test_the_options_that_name_split_and_episodes(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.npz")
    whole = run(path)
    assert run(path, "--split", ROOT / "splits" / f"{SPLIT['id']}.json") == whole
    assert "the split found is not the one" in refused(path, "--split", "voc-8-6-6-v1")
    official = ROOT / f"splits/{SPLIT['id']}.novel-episodes.json"
    assert run(path, "--episodes-file", official) == whole
    split = resolve_split(SPLIT["id"], data_root=None)
    turned = sample_episode_set(split, "novel", 4).episodes[::-1]
    other = named_set(split.id, split.hash, "novel", turned)
    write_episode_set(other, tmp_path / "other.json")
    own = drawn_from(split, other, tmp_path / "own.npz")
    assert "the episodes found are not the ones" in refused(own)
    assert "micro_ap" in run(own, "--episodes-file", tmp_path / "other.json")


def test_runs_of_laso_and_a_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    root = laso_root(tmp_path / "root")
    split = resolve_split(LASO, data_root=root)
    content = sampled_file(split, 2, 3)
    write_runs(content, tmp_path / "runs.json")
    runs = runs_for(content, split, "runs.json")
    path = drawn_from(split, runs, tmp_path / "a.npz")
    assert "needs a data root" in refused(path)
    place = SplitPlace(data_root=root, episodes_file=tmp_path / "runs.json")
    report = score_files([path], place)
    assert (report.episodes.shots, report.targets) == (2, "rebuilt")
    novel = split.novel
    y = np.stack([novel.targets_of(runs.episodes[0].query)] * 3)
    s = read_scores(path).scores
    ap = [
        np.mean([sk.average_precision_score(b[:, k], a[:, k]) for k in range(16)])
        for a, b in zip(s, y, strict=True)
    ]
    assert report.files[0].metrics["macro_ap"].mean == pytest.approx(np.mean(ap), abs=1e-10)
    # all runs are tested on the same images, so other images would move all of them together
    figure = report.files[0].metrics["macro_ap"]
    assert figure.images > figure.episodes
    text = run(path, "--data-root", root, "--episodes-file", tmp_path / "runs.json")
    assert f"{100 * figure.mean:.2f}" in text


def test_subset_and_few_episodes_are_said(tmp_path: Path) -> None:
    report = score_files([foreign(tmp_path / "a.npz")])
    assert report.notes[0] == f"Only the first {E} of 200 episodes were scored."
    measured = ROOT / "results" / "measured" / "coco-open-subset" / "random"
    assert any("SUBSET" in note for note in score_files([measured]).notes)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.npz", method={"name": "=x|<b>[red]\u202e`"})
    report = score_files([path])
    for form in ("terminal", "markdown"):
        assert "\u202e" not in RENDERERS[form](report)
    assert "<b>" not in RENDERERS["markdown"](report)
    assert "[red]" in RENDERERS["terminal"](report)


def test_the_page_names_every_key_of_the_report() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    for model in (ScoreReport, FileScore, SeedsScore, Breakdown, Group, Figure, SeedFigure):
        assert all(f"`{key}`" in page for key in model.model_fields), model
