"""`mlfsic-bench reproduce` on scenes: tables, resuming, failures, and every flag."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import stats
from sklearn.metrics import average_precision_score

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError

FILE = """
schema_version: 1
kind: table
title: A small table
published: yan-2022-table1
columns: [micro_precision, macro_ap]
reference: Linear
rows:
  - {name: Random, method: random, episodes: 4}
  - {name: ProtoNet, method: protonet, episodes: 6}
  - name: Linear
    published: ResNet-50
    method: linear
    settings: {tune_epochs: 5}
    episodes: 6
  - {name: Nothing, method: protonet, backbone: vgg, published: ViT}
"""


WITHOUT_LINEAR = FILE[: FILE.index("  - name: Linear")].replace("reference: Linear\n", "")


def reproduce(file: Path, *args: str, code: int = 0) -> Result:
    cache = ("--cache", str(file.parent / "cache"))
    out = ("--out", str(file.parent / "out"))
    result = CliRunner().invoke(
        cli,
        ["reproduce", str(file), "--dataset", "scenes", *out, *cache, *args],
        catch_exceptions=False,
    )
    assert result.exit_code == code, result.output
    return result


def small(folder: Path, text: str = FILE) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(the experiment file, what was printed) after a whole reproduction with two seeds."""
    file = small(tmp_path_factory.mktemp("reproduce"))
    return file, reproduce(file, "--seeds", "2").stdout


def result_of(file: Path) -> dict[str, dict]:
    value = json.loads((file.parent / "out" / "scenes" / "small.json").read_text())
    return {row["name"]: row for row in value["rows"]}


def scores_of(file: Path, row: dict) -> list[np.ndarray]:
    """Macro-AP [E] of every run of a row, by scikit-learn, from the files alone."""
    values = []
    for run in row["runs"]:
        folder = file.parent / "out" / "scenes" / "runs" / run["folder"]
        scores = np.load(folder / "scores.npz")["scores"]
        targets = np.load(folder / "answers.npz")["targets"]
        values.append(
            np.array(
                [
                    np.mean([average_precision_score(t[:, c], s[:, c]) for c in range(s.shape[1])])
                    for s, t in zip(scores, targets, strict=True)
                ]
            )
        )
    return values


def test_every_figure_of_a_cell_follows_from_the_scores(table: tuple[Path, str]) -> None:
    file, _ = table
    rows = result_of(file)
    seeds = scores_of(file, rows["Linear"])
    assert len(seeds) == 2
    cell = rows["Linear"]["cells"]["macro_ap"]
    mean = 100 * np.mean(seeds)
    assert cell["ours"] == pytest.approx(mean)
    assert cell["low"] == pytest.approx(100 * min(s.mean() for s in seeds))
    assert cell["high"] == pytest.approx(100 * max(s.mean() for s in seeds))
    assert cell["low"] < cell["high"]
    per_episode = 100 * np.mean(seeds, axis=0)
    half = stats.t.ppf(0.975, 5) * per_episode.std(ddof=1) / np.sqrt(6)
    assert cell["half_width"] == pytest.approx(half)
    assert cell["published"] == 19.67
    assert cell["difference"] == pytest.approx(mean - 19.67)
    assert cell["paired"] is None

    random = 100 * scores_of(file, rows["Random"])[0]
    gap = random - per_episode[:4]  # it has the first four episodes only
    low, high = stats.t.interval(0.95, 3, gap.mean(), gap.std(ddof=1) / 2)
    paired = rows["Random"]["cells"]["macro_ap"]
    assert paired["paired"] == pytest.approx(gap.mean())
    assert paired["paired_half_width"] == pytest.approx((high - low) / 2)
    assert paired["published"] is None
    assert paired["difference"] is None


def test_the_printed_table_and_its_files_say_the_same(table: tuple[Path, str]) -> None:
    file, printed = table
    rows = result_of(file)
    text = (file.parent / "out" / "scenes" / "small.md").read_text()
    for name in ("Random", "ProtoNet", "Linear"):
        cell = rows[name]["cells"]["macro_ap"]
        shown = f"{cell['ours']:.2f} ± {cell['image_half_width']:.2f}"
        assert shown in text
        assert f"{cell['ours']:.2f}" in printed
    lines = list(csv.DictReader((file.parent / "out/scenes/small.csv").read_text().splitlines()))
    linear = next(r for r in lines if r["row"] == "Linear" and r["metric"] == "macro_ap")
    assert float(linear["ours"]) == rows["Linear"]["cells"]["macro_ap"]["ours"]
    assert linear["seeds"] == "2"


def test_intervals_are_over_images_and_those_of_score_and_compare(table: tuple[Path, str]) -> None:
    from mlfsic_bench.report.compare import compare
    from mlfsic_bench.report.score import score_files

    file, _ = table
    rows = result_of(file)
    runs = file.parent / "out" / "scenes" / "runs"
    (random,) = (runs / run["folder"] for run in rows["Random"]["runs"])
    own = score_files([random]).files[0].metrics["macro_ap"]
    cell = rows["Random"]["cells"]["macro_ap"]
    assert cell["image_half_width"] == pytest.approx(100 * own.images)
    assert cell["half_width"] == pytest.approx(100 * own.episodes)
    paths = [runs / run["folder"] for name in ("ProtoNet", "Linear") for run in rows[name]["runs"]]
    (metric,) = compare(paths, metrics=["macro_ap"]).metrics
    linear = next(one for one in metric.entries if one.name.startswith("linear"))
    assert rows["Linear"]["cells"]["macro_ap"]["image_half_width"] == pytest.approx(
        100 * linear.images
    )
    paired = rows["ProtoNet"]["cells"]["macro_ap"]
    assert paired["paired_image_half_width"] == pytest.approx(100 * metric.pairs[0].images)
    assert paired["paired_image_half_width"] >= paired["paired_half_width"]
    value = json.loads((file.parent / "out" / "scenes" / "small.json").read_text())
    assert value["interval"] == "images"
    text = (file.parent / "out" / "scenes" / "small.md").read_text()
    shown = f"{paired['paired']:+.2f} ± {paired['paired_image_half_width']:.2f}"
    assert shown in text
    assert "95 % interval over images" in text
    # Four episodes of Random against the first four of Linear, two seeds.
    assert rows["Random"]["cells"]["macro_ap"]["paired_image_half_width"] > 0


def test_without_the_images_intervals_are_over_episodes_and_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.experiments import over_images

    def lost(*_: object) -> None:
        raise BenchError("the split is lost", expected="it", found="nothing", remedy="find it")

    monkeypatch.setattr(over_images, "truth_on", lost)
    file = small(tmp_path)
    reproduce(file, "--seeds", "1")
    cell = result_of(file)["Random"]["cells"]["macro_ap"]
    assert cell["image_half_width"] is cell["paired_image_half_width"] is None
    value = json.loads((tmp_path / "out" / "scenes" / "small.json").read_text())
    assert value["interval"] == "episodes"
    text = (tmp_path / "out" / "scenes" / "small.md").read_text()
    assert f"{cell['ours']:.2f} ± {cell['half_width']:.2f}" in text
    assert f"{cell['paired']:+.2f} ± {cell['paired_half_width']:.2f}" in text
    assert "there is none over images, because the split is lost" in text
    assert "paired t interval over episodes" in text


def test_the_caption_says_what_the_table_is(table: tuple[Path, str]) -> None:
    file, _ = table
    text = (file.parent / "out" / "scenes" / "small.md").read_text()
    for words in (
        "Split scenes-12-6-6-v1 (30fb1c32cf6a)",
        "200 episodes (",
        "Rows with settings of their own: Linear (tune\\_epochs=5).",
        "Networks in place of the paper's: scenes-small for resnet50.",
        "Nothing: not run: no weights at hand in place of vgg",
        "first 4 of 200 episodes",
        "not in the paper",
        "Training seeds: 1 for Random, ProtoNet; 2 for Linear",
        "AAAI 2022, Table 1",
        "The backbone is frozen",
        "no test of the paper's figure",
    ):
        assert words in text, words
    rows = result_of(file)
    assert rows["Nothing"]["cells"]["macro_ap"]["published"] == 16.94
    assert rows["Nothing"]["cells"]["macro_ap"]["ours"] is None


def test_chance_is_that_of_the_episodes_that_were_run(table: tuple[Path, str]) -> None:
    from mlfsic_bench.metrics.chance import chance_levels

    file, _ = table
    (run,) = result_of(file)["ProtoNet"]["runs"]  # on six episodes; the first row is on four
    folder = file.parent / "out" / "scenes" / "runs" / run["folder"]
    micro, macro = chance_levels(np.load(folder / "answers.npz")["targets"])
    text = (file.parent / "out" / "scenes" / "small.md").read_text()
    told = f"chance over the first 6: macro-AP {100 * macro:.2f}, micro-AP {100 * micro:.2f}."
    assert told in text


def runs_of(file: Path) -> dict[str, int]:
    runs = (file.parent / "out" / "scenes" / "runs").glob("*/scores.npz")
    return {path.parent.name: path.stat().st_mtime_ns for path in runs}


def test_what_is_done_is_left_and_what_is_lost_is_made_again(table: tuple[Path, str]) -> None:
    file, printed = table
    before = runs_of(file)
    assert len(before) == 4
    lost = next(name for name in before if name.startswith("random"))
    (file.parent / "out" / "scenes" / "runs" / lost / "scores.npz").unlink()
    dry = reproduce(file, "--seeds", "2", "--dry-run").stdout
    assert f"part        {lost}" in dry
    assert "4 runs in" in dry
    assert "1 part, 3 done" in dry
    assert reproduce(file, "--seeds", "2").stdout == printed
    after = runs_of(file)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {lost}


def test_an_archive_is_enough_to_compute_the_table_again(
    table: tuple[Path, str], tmp_path: Path
) -> None:
    file, _ = table
    other = file.parent / "out" / "scenes" / "small-other.md"  # of another experiment
    other.write_text("older")
    reproduce(file, "--seeds", "2", "--archive", str(tmp_path / "slim"))
    kept = {path.name for path in (tmp_path / "slim").iterdir()}
    assert kept == {"small.md", "small.csv", "small.json", "runs"}
    reproduce(file, "--seeds", "2", "--archive", str(tmp_path / "full"), "--archive-scores")
    assert (tmp_path / "slim" / "small.md").read_bytes() == (
        file.parent / "out" / "scenes" / "small.md"
    ).read_bytes()
    for row in result_of(file).values():
        means = []
        for run in row["runs"]:
            slim, full = (tmp_path / kind / "runs" / run["folder"] for kind in ("slim", "full"))
            assert not (slim / "scores.npz").exists()
            assert {path.name for path in full.iterdir()} >= {"scores.npz", "answers.npz"}
            assert json.loads((slim / "record.json").read_text())["key"] == run["key"]
            lines = list(csv.DictReader((slim / "episodes.csv").read_text().splitlines()))
            means.append(np.mean([float(line["macro_ap"]) for line in lines]))
        if means:
            assert row["cells"]["macro_ap"]["ours"] == pytest.approx(100 * np.mean(means))
    with pytest.raises(BenchError, match="goes with --archive"):
        reproduce(file, "--archive-scores")


def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    file = small(tmp_path)
    text = reproduce(file, "--dry-run").stdout
    assert text.count("missing     ") == 5
    assert "5 runs in" in text
    assert "Estimate on" in text
    assert "basis:" in text
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_runs_of_other_code_are_not_called_done(
    table: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.experiments import status

    monkeypatch.setattr(status, "package_code", lambda: "0" * 64)
    text = reproduce(table[0], "--seeds", "2", "--dry-run").stdout
    assert "4 other code" in text
    assert "use another --out" in text


def test_runs_of_other_code_are_refused_or_accepted_and_named(tmp_path: Path) -> None:
    file = small(tmp_path, WITHOUT_LINEAR)
    reproduce(file, "--only", "ProtoNet")
    folder = next((tmp_path / "out" / "scenes" / "runs").glob("protonet*"))
    record = json.loads((folder / "record.json").read_text())
    record["identity"]["package"]["code"] = "0" * 64
    record["key"] = record["key"][::-1]
    (folder / "record.json").write_text(json.dumps(record))
    refused = reproduce(file, "--only", "ProtoNet", code=1)
    assert "package.code" in refused.output
    before = runs_of(file)
    with pytest.raises(BenchError, match="do not belong together"):  # a key made up by hand
        reproduce(file, "--only", "ProtoNet", "--accept-other-code")
    assert runs_of(file) == before


def test_accepted_runs_of_other_code_are_named_in_the_caption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.experiments import status
    from mlfsic_bench.harness import plan

    file = small(tmp_path, WITHOUT_LINEAR)
    with monkeypatch.context() as earlier:
        earlier.setattr(plan, "package_code", lambda: "0" * 64)
        earlier.setattr(status, "package_code", lambda: "0" * 64)
        assert "another state" not in reproduce(file, "--only", "ProtoNet").stdout
    assert "FAILED" in reproduce(file, "--only", "ProtoNet", code=1).output
    text = reproduce(file, "--only", "ProtoNet", "--accept-other-code").stdout
    assert "Rows made by another state of the code: ProtoNet (" in " ".join(text.split())


def test_an_estimate_rests_on_earlier_runs_of_the_method(tmp_path: Path) -> None:
    rows = FILE[: FILE.index("  - name: Linear")].replace("reference: Linear\n", "")
    file = small(tmp_path, rows)
    reproduce(file, "--only", "ProtoNet")
    text = reproduce(small(tmp_path, rows.replace("6}", "5}")), "--dry-run").stdout
    assert "an earlier run of protonet in this folder" in text
    assert re.search(r"missing +protonet\S+  about ", text)
    assert re.search(r"missing +random\S+  about ", text)
    assert "basis: stated rates" in text  # those of the profile, for the method without a run


def test_only_runs_the_rows_named_and_shows_what_is_there(tmp_path: Path) -> None:
    file = small(tmp_path)
    text = reproduce(file, "--only", "Random").stdout
    assert [name.split("-")[0] for name in runs_of(file)] == ["random"]
    assert "Linear: not run: left out by --only" in text
    reproduce(file, "--only", "ProtoNet")
    rows = result_of(file)
    assert rows["Random"]["cells"]["macro_ap"]["ours"] is not None
    assert rows["Linear"]["state"] == "not run: left out by --only"
    with pytest.raises(BenchError, match="did you mean 'Random'"):
        reproduce(file, "--only", "Randon")


BROKEN = """
from mlfsic_bench.methods.contract import Method
class Broken(Method):
    name = "broken"
    def adapt(self, support):
        raise RuntimeError("this one breaks")
"""


def test_a_failing_run_does_not_stop_the_other_rows(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    row = f"  - {{name: Broken, method: '{tmp_path}/broken.py:Broken', episodes: 4}}\nrows_end"
    text = FILE.replace("rows:\n", "rows:\n" + row).replace("rows_end", "")
    file = small(tmp_path, text)
    keep = tmp_path / "kept"
    result = reproduce(file, "--seeds", "1", "--archive", str(keep), code=1)
    assert "this one breaks" in result.stderr
    assert "nothing was archived" in result.stderr
    assert not keep.exists()
    assert "1 run failed" in result.stderr
    rows = result_of(file)
    assert rows["Broken"]["state"].startswith("failed: ")
    assert rows["Broken"]["cells"]["macro_ap"]["ours"] is None
    assert rows["Linear"]["cells"]["macro_ap"]["ours"] is not None
    assert "failed" in result.stdout


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.harness import run

    file = small(tmp_path)
    whole = run.write_answers

    def interrupted(path: Path, answers: object) -> None:
        if "protonet" in str(path):
            raise KeyboardInterrupt
        whole(path, answers)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "write_answers", interrupted)
    result = reproduce(file, "--seeds", "1", code=130)
    assert "goes on where it stopped" in result.stderr
    assert [name.split("-")[0] for name in runs_of(file) if name.startswith("random")]
    assert not (tmp_path / "out" / "scenes" / "small.md").exists()
    monkeypatch.undo()
    random = next(mtime for name, mtime in runs_of(file).items() if name.startswith("random"))
    reproduce(file, "--seeds", "1")
    assert random in runs_of(file).values()
    assert result_of(file)["ProtoNet"]["cells"]["macro_ap"]["ours"] is not None


def test_backbone_and_weights_change_what_is_run(tmp_path: Path) -> None:
    rows = FILE[: FILE.index("  - name: Linear")].replace("reference: Linear\n", "")
    file = small(tmp_path, rows)
    seen = []
    for args in ((), ("--backbone", "scenes-patch"), ("--weights", "none")):
        text = reproduce(file, "--only", "ProtoNet", *args).stdout
        seen.append(result_of(file)["ProtoNet"]["cells"]["macro_ap"]["ours"])
        assert ("scenes-patch for resnet50" in text) == ("scenes-patch" in args)
    assert len(set(seen)) == 3


def test_features_and_cache(tmp_path: Path) -> None:
    rows = "  - {name: L, method: linear, settings: {tune_epochs: 1}, episodes: 1}\n"
    file = small(tmp_path, FILE[: FILE.index("reference")] + "rows:\n" + rows)
    reproduce(file, "--seeds", "1", "--features", "live")
    assert not (tmp_path / "cache").exists()
    reproduce(file, "--seeds", "1")
    assert (tmp_path / "cache").is_dir()
    modes = set()
    for path in (tmp_path / "out" / "scenes" / "runs").glob("*/record.json"):
        modes.add(json.loads(path.read_text())["features"]["mode"])
    assert modes == {"live", "stored"}


def test_device_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = small(tmp_path)
    with pytest.raises(BenchError, match="no GPU"):
        reproduce(file, "--dry-run", "--device", "cuda")
    result = reproduce(file, "--only", "Random", "--device", "cuda", code=1)
    assert "no GPU" in result.stderr


def test_a_data_root_is_asked_for_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    args = ["reproduce", "table1", "--dataset", "coco-subset", "--out", str(tmp_path / "out")]
    for more, says in (([], "needs a data root"), (["--data-root", "none"], "none")):
        for dry in ([], ["--dry-run"]):
            with pytest.raises(BenchError, match=says):
                CliRunner().invoke(cli, [*args, *more, *dry], catch_exceptions=False)
    with pytest.raises(BenchError, match="needs a data root"):  # no row of it has a run
        CliRunner().invoke(cli, ["reproduce", "table3", *args[2:]], catch_exceptions=False)
    command = [*args, "--data-root", str(tmp_path), "--dry-run"]
    with pytest.raises(BenchError, match="there is no"):
        CliRunner().invoke(cli, command, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_runs_of_one_command_share_split_and_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.features import backbones
    from mlfsic_bench.splits import resolve

    counts = {"split": 0, "network": 0}

    def counted(name: str, whole: object) -> object:
        def call(*args: object, **given: object) -> object:
            counts[name] += 1
            return whole(*args, **given)  # type: ignore[operator]

        return call

    monkeypatch.setattr(resolve, "resolve_split", counted("split", resolve.resolve_split))
    monkeypatch.setattr(backbones, "build_backbones", counted("network", backbones.build_backbones))
    reproduce(small(tmp_path), "--seeds", "2")
    assert counts == {"split": 1, "network": 1}


def test_a_published_row_that_is_not_there(tmp_path: Path) -> None:
    file = small(tmp_path, FILE.replace("published: ResNet-50", "published: ResNet-60"))
    with pytest.raises(BenchError, match="did you mean 'ResNet-50'"):
        reproduce(file, "--only", "Random")
    file = small(tmp_path, FILE.replace("yan-2022-table1", "yan-2022-table9"))
    with pytest.raises(BenchError, match="unknown published table"):
        reproduce(file, "--only", "Random")
    assert not (tmp_path / "out").exists()
