"""Sweeps on this machine: files, points and keys, what is left, and workers that are killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.experiments.sweep import SweepOptions, plan_sweep
from mlfsic_bench.launchers import runs as work
from mlfsic_bench.launchers import slurm
from mlfsic_bench.launchers.local import local
from mlfsic_bench.launchers.runs import Done, PlannedRun, in_process
from mlfsic_bench.launchers.slurm import Slurm, SlurmJobs, slurm_jobs
from mlfsic_bench.locks import only_writer

pytestmark = pytest.mark.slow

FILE = """
schema_version: 1
title: A small sweep
splits: [scenes-12-6-6-v1]
backbones: [scenes-small]
episodes: 2
seeds: [0, 1]
methods:
  - method: random
  - method: protonet
    grid: {centre: [none, support]}
"""
HEAD = "schema_version: 1\ntitle: t\nsplits: [scenes-12-6-6-v1]\nbackbones: [scenes-small]\n"
METHODS = Path(__file__).with_name("methods.py")


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, "POLL", 0.05)
    Path("small.yaml").write_text(FILE)
    return Path("small.yaml")


def sweep(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["sweep", *words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def names(text: str) -> list[str]:
    Path("other.yaml").write_text(HEAD + text)
    return [run.folder.name for run in plan_sweep(Path("other.yaml"), SweepOptions()).runs]


def planned(text: str, **options: object) -> list[PlannedRun]:
    Path("other.yaml").write_text(HEAD + text)
    found = plan_sweep(Path("other.yaml"), SweepOptions(**options))  # type: ignore[arg-type]
    return list(found.runs)


def test_a_sweep_is_done_looked_at_and_read_like_any_runs(tmp_path: Path) -> None:
    assert "3 runs in sweeps/small/runs: 3 missing" in sweep("status", "small.yaml").stdout
    assert not Path("sweeps").exists()
    assert "not done" in sweep("collect", "small.yaml", code=1).stderr
    assert "3 of 3 runs done" in sweep("small.yaml").stdout
    before = {path: path.stat().st_mtime_ns for path in Path("sweeps").rglob("*.npz")}
    assert "3 of 3 runs done" in sweep("run", "small.yaml").stdout
    assert {path: path.stat().st_mtime_ns for path in Path("sweeps").rglob("*.npz")} == before
    assert "3 runs in sweeps/small/runs: 3 done" in sweep("-q", "status", "small.yaml").stdout
    collected = json.loads(sweep("collect", "small.yaml", "--format", "json").stdout)
    folders = sorted(map(str, Path("sweeps/small/runs").iterdir()))
    table = CliRunner().invoke(cli, ["table", *folders, "--format", "json"]).stdout
    assert len(collected["tables"][0]["rows"]) == len(json.loads(table)["tables"][0]["rows"]) == 3
    # the same run made in another way has the same key
    (random,) = Path("sweeps/small/runs").glob("random*")
    plan = RunPlan("random", "scenes-12-6-6-v1", "scenes-small", episodes=2, out=tmp_path / "one")
    assert read_record(run_method(plan)).key == read_record(random).key


def test_axes_that_a_method_does_not_have_make_no_points() -> None:
    every = "seeds: [3, 4]\nembeddings: [random, null]\nshots: [null, 2]\nmethods: [{method: %s}]\n"
    assert len(names(every % "protonet")) == 2  # shots
    assert len(names(every % "lpn")) == 4  # and seeds
    assert len(names(every % "kggr")) == 8  # and label embeddings
    assert all("seed3" in name for name in names(every % "protonet"))
    own = every.replace("}]", ", seeds: [7]}]") % "lpn"
    assert all("seed7" in name for name in names(own))


def test_every_one_of_several_embeddings_lies_below_the_data_root(tmp_path: Path) -> None:
    text = "methods: [{method: kggr}]\nembeddings: [v/a.txt+random+b.txt]\n"
    (run,) = planned(text, data_root=tmp_path)
    expected = f"{tmp_path / 'v/a.txt'}+random+{tmp_path / 'b.txt'}"
    assert run.plan.embeddings == Path(expected)


def test_a_sweep_shares_its_folders_with_a_reproduction() -> None:
    from mlfsic_bench.experiments.plan import Options, plan_rows
    from mlfsic_bench.experiments.schema import find_profile, read_experiment

    rows = plan_rows(read_experiment("table1")[1], find_profile("scenes"), Options("scenes"))
    (run,) = next(row for row in rows if row.spec.name == "ProtoNet").runs
    method = f"{{method: protonet, settings: {dict(run.plan.settings)}}}"
    (mine,) = planned(f"methods: [{method}]\n", out=Path("reproduce/scenes"))
    assert mine.folder == run.folder


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("method: []\n", "did you mean 'methods'"),
        ("methods: [{method: protonet, grids: {}}]\n", "did you mean 'grid'"),
        ("methods: [{method: protonett}]\n", "did you mean 'protonet'"),
        ("methods: [{method: protonet, grid: {centr: [none]}}]\n", "centre"),
        ("methods: [{method: protonet, grid: {centre: []}}]\n", "at least 1 item"),
        ("methods: [{method: protonet, grid: {centre: [none]}, settings: {centre: none}}]\n",
         "in both"),
        ("methods: [{method: ./a.py:Method}]\n", "--method NAME=path/to/file.py:Class"),
        ("methods: [{method: random}]\nslurm: {partitions: gpu}\n", "did you mean 'partition'"),
        ("methods: [{method: random}]\nslurm: {memory: lots}\n", "slurm.memory is not valid"),
        ("methods: [{method: random}]\nslurm: {partition: 'a b'}\n", "a name of letters, digits"),
        ("methods: [{method: random}]\nepisodes: many\n", "expected: a valid integer"),
        ("methods: [{method: random}]\nembeddings: [../glove.txt]\n", "embeddings.0"),
        ("methods: [{method: kggr}]\nembeddings: [glove.txt]\n", "--data-root FOLDER"),
        ("methods: [{method: kggr}]\nembeddings: [a/v.txt, b/v.txt]\n", "called 'v.txt'"),
        ("methods: [{method: kggr}]\nembeddings: [a.txt+v.txt, a.txt+b/v.txt]\n",
         "called 'a.txt+v.txt'"),
        ("methods: [{method: random}]\nweights: mine.pth\n", "weights"),
        (f"methods: [{{method: lpn}}]\nseeds: {[*range(10_001)]}\n", "too many points"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_one_error(
    text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    Path("small.yaml").write_text(HEAD + text)
    with pytest.raises(BenchError) as caught:
        sweep("status", "small.yaml")
    assert says in str(caught.value)


def test_the_file_of_the_documentation_is_a_sweep() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")
    Path("grid.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    found = plan_sweep(Path("grid.yaml"), SweepOptions())
    assert len(found.runs) == 6
    assert all(run.folder.name in page for run in found.runs)  # as the log on the page has them
    assert (found.sweep.slurm.partition, found.sweep.slurm.runs_per_job) == ("test", 3)


def test_reproduce_does_its_runs_with_the_launcher_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []

    def several(jobs: int, runs: list[PlannedRun], done: Done, log: work.Log) -> None:
        asked.append([f"{jobs} {run.plan.part} {run.folder.name}" for run in runs])
        done.failed |= {run.folder: "not here" for run in runs}

    monkeypatch.setattr("mlfsic_bench.launchers.local._several", several)
    Path("tuned.yaml").write_text(
        "schema_version: 1\nkind: table\ntitle: t\ntuned: true\nrows:\n"
        "- {name: A, method: random}\n"
    )
    words = ["reproduce", "tuned.yaml", "--dataset", "scenes"]
    done = CliRunner().invoke(cli, [*words, "--jobs", "2"], catch_exceptions=False)
    assert done.exit_code == 1, done.output
    trials, finals = asked  # of a row whose trials fail nothing is chosen
    assert [one.startswith("2 val random") for one in trials] == [True]
    assert finals == []
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BenchError, match=r"there is no SLURM here|needs the package submitit"):
        CliRunner().invoke(cli, [*words, "--launcher", "slurm"], catch_exceptions=False)


def test_split_and_backbone_may_be_said_on_the_command_line() -> None:
    bare = "schema_version: 1\ntitle: t\nepisodes: 2\nmethods: [{method: random}]\n"
    Path("bare.yaml").write_text(bare)
    with pytest.raises(BenchError, match="which split the sweep is about"):
        sweep("status", "bare.yaml")
    said = ("--split", "scenes-12-6-6-v1", "--backbone", "scenes-deep")
    assert "random-scenes_deep-seed0" in sweep("status", "bare.yaml", *said).stdout
    words = ("--out", "o", *said)  # the command that comes next needs them too
    follows = f"next: mlfsic-bench sweep collect bare.yaml {' '.join(words)}\n"
    assert sweep("bare.yaml", *words).stderr.endswith(follows)


@pytest.mark.parametrize(("key", "option"), [("split", "--split"), ("backbone", "--backbone")])
def test_a_split_or_backbone_in_a_file_is_said_by_an_option(key: str, option: str) -> None:
    text = f"schema_version: 1\ntitle: t\n{key}s: [./mine.json]\nmethods: [{{method: random}}]\n"
    Path("own.yaml").write_text(text)
    with pytest.raises(BenchError, match=f"is named by the option {option}"):
        sweep("status", "own.yaml")


def test_options_of_launchers_that_do_not_go_together() -> None:
    for words in (("--slurm", "cpus=1"), ("--launcher", "slurm", "--jobs", "2")):
        with pytest.raises(BenchError, match="does not go with --launcher"):
            sweep("small.yaml", *words)
    with pytest.raises(BenchError, match="unknown key 'gpu'"):
        sweep("small.yaml", "--launcher", "slurm", "--slurm", "gpu=1")
    block = slurm_jobs({"partition": "gpu", "cpus": "4"})
    both = slurm_jobs({"cpus": "8", "account": "12"}, block)
    assert (both.partition, both.cpus, both.account, both.minutes) == ("gpu", 8, "12", 60)


def test_without_submitit_or_slurm_the_error_says_what_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "submitit", None)
        with pytest.raises(BenchError) as caught:
            sweep("small.yaml", "--launcher", "slurm")
    assert "pip install 'mlfsic-bench[slurm]'" in str(caught.value)
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BenchError, match="there is no SLURM here"):
        sweep("small.yaml", "--launcher", "slurm")


def test_a_failed_run_says_why_and_the_same_command_tries_again() -> None:
    text = HEAD + "episodes: 2\nmethods: [{method: mine}, {method: random}]\n"
    Path("fails.yaml").write_text(text)
    given = ("--method", f"mine={METHODS}:Breaks")
    said = sweep("fails.yaml", *given, code=1)
    assert "1 of 2 runs done" in said.stdout
    assert "1 run failed" in said.stderr
    shown = sweep("status", "fails.yaml", *given).stdout
    assert re.search(r"failed +breaks-\S+: .*fails the contract test", shown)
    assert "1 failed, 1 done" in shown
    collected = sweep("collect", "fails.yaml", *given, code=1)
    assert "fails the contract test" in collected.stderr
    assert "Random" in collected.stdout
    Path("sound").touch()
    sweep("fails.yaml", *given)
    assert "2 runs in sweeps/fails/runs: 2 done" in sweep("status", "fails.yaml", *given).stdout


def test_workers_share_the_runs_and_one_that_is_killed_loses_its_run_only() -> None:
    one = "methods: [{method: mine}, {method: protonet}, {method: random}]\nepisodes: 2\n"
    runs = planned(one, methods={"mine": f"{METHODS}:Dies"})
    done, lines = Done(), []
    local(2)(runs, done, lines.append)
    died, *others = [run.folder for run in runs]
    assert done.finished == set(others)
    assert list(done.failed) == [died]
    assert f"killed by signal {signal.SIGKILL:d}" in done.failed[died]
    assert work.why_failed(runs[0]) == done.failed[died]
    Path("sound").touch()
    again = Done()
    local(1)(runs, again, lines.append)
    assert again.finished == {died, *others}


def test_a_command_that_waits_for_its_jobs_says_what_became_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = planned("methods: [{method: random}, {method: prior}]\nepisodes: 2\n")
    lines: list[str] = []
    name = runs[0].folder.name
    states = iter([{name: ("7_0", "pending")}, {name: ("7_0", "running")}, {}])

    def queued(self: Slurm) -> dict[str, tuple[str, str]]:
        state = next(states)
        if not state:  # the job has done one of its runs and died in the other
            in_process(runs[:1], Done(), lines.append)
        return state

    monkeypatch.setattr(slurm, "POLL", 0.0)
    monkeypatch.setattr(Slurm, "submit", lambda self, runs, log: [])
    monkeypatch.setattr(Slurm, "queued", queued)
    done = Done()
    Slurm(Path("slurm"), SlurmJobs())(runs, done, lines.append)
    assert done.finished == {runs[0].folder}
    assert "its job ended without it" in done.failed[runs[1].folder]
    assert [line for line in lines if line.startswith("runs in jobs")] == [
        "runs in jobs: 1 pending", "runs in jobs: 1 running", "runs in jobs: none",
    ]  # fmt: skip


def test_no_answer_of_slurm_is_not_taken_for_no_jobs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = planned("methods: [{method: random}]\nepisodes: 2\n")
    name, lines = runs[0].folder.name, list[str]()
    answers = iter([False, True, False])
    submitted = Path("slurm", "7.json")
    submitted.parent.mkdir()
    content = {"schema_version": 1, "kind": "mlfsic-bench slurm jobs", "jobs": {"7_0": [name]}}
    submitted.write_text(json.dumps(content))

    def squeue(*args: object, **options: object) -> SimpleNamespace:
        if not next(answers, True):
            raise subprocess.CalledProcessError(1, "squeue", stderr="slurm_load_jobs error")
        in_process(runs, Done(), lines.append)
        return SimpleNamespace(stdout="")

    monkeypatch.setattr(slurm, "POLL", 0.0)
    fake = SimpleNamespace(run=squeue, SubprocessError=subprocess.SubprocessError)
    monkeypatch.setattr(slurm, "subprocess", fake)
    cluster = Slurm(Path("slurm"), SlurmJobs())
    done = Done()
    with monkeypatch.context() as patch:
        patch.setattr(Slurm, "submit", lambda self, runs, log: [])
        cluster(runs, done, lines.append)
    assert done.finished == {runs[0].folder}
    assert any("slurm_load_jobs error; it is asked again" in line for line in lines)
    monkeypatch.setattr(Slurm, "_executor", lambda self: None)
    with pytest.raises(BenchError, match="does not say which jobs"):
        cluster.submit(runs, lines.append)  # it could submit them twice


def test_a_run_that_another_process_has_just_ended_is_not_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = planned("methods: [{method: random}]\nepisodes: 2\n")
    calls = iter([True])

    def once_busy(plan: RunPlan, *more: Any) -> Path:
        if next(calls, False):  # and nobody holds it any more
            raise work.BusyError("held", expected="", found="", remedy="")
        return run_method(plan, *more)

    monkeypatch.setattr("mlfsic_bench.evaluation.runner.run_method", once_busy)
    done = Done()
    work.attempt(runs[0], done, list[str]().append, patience=60)
    assert done.finished == {runs[0].folder}


def test_a_run_of_another_process_is_waited_for_and_not_done_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = planned("methods: [{method: random}, {method: prior}]\nepisodes: 2\n")
    lines: list[str] = []
    with only_writer(runs[0].folder):
        done = Done()
        in_process(runs, done, lines.append, patience=0.2)
    assert done.finished == {runs[1].folder}
    assert "another process is writing" in done.failed[runs[0].folder]
    # the other process ends its run while it is waited for
    with only_writer(runs[0].folder):
        assert work.is_held(runs[0].folder)
        held = iter([True, True, False])
        monkeypatch.setattr(work, "is_held", lambda folder: next(held, False))
        shown: list[bool] = []
        calls = iter([True])

        def again(*args: object) -> Path:
            if next(calls, False):
                raise work.BusyError("held", expected="", found="", remedy="")
            shown.append(True)
            raise BenchError("came through", expected="", found="", remedy="")

        monkeypatch.setattr("mlfsic_bench.evaluation.runner.run_method", again)
        work.attempt(runs[0], Done(opened=ResourceCache()), lines.append, patience=9.0)
        assert shown == [True]
