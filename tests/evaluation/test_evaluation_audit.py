"""Audits of whole runs: faulty methods by their kind, shipped ones that pass, and going on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mlfsic_bench.analysis.paper_table import paper_tables
from mlfsic_bench.analysis.score import score_files
from mlfsic_bench.cli.main import main
from mlfsic_bench.evaluation import runner as run
from mlfsic_bench.evaluation.audit import audit, fresh
from mlfsic_bench.evaluation.audit.audit import choose_episodes, failure_of
from mlfsic_bench.evaluation.audit.compare import ROUNDED, TOLERANCE
from mlfsic_bench.evaluation.inputs import Inputs
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import Audit, is_done, read_record
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.methods.registry import find_method, make_method
from mlfsic_bench.plugins.files import source_hash
from tests.fakes.world import fake_inputs, fake_run

# The contract tests that come before a run would refuse most of the methods here.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_contract_tests", "own_process")]
CHEATS = Path(__file__).parents[1] / "fakes" / "plugins" / "cheats.py"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many episodes and queries as on an idle machine."""
    monkeypatch.setattr(audit, "LEAST", 600.0)


@pytest.fixture
def no_contract_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "refuse_faulty", lambda *of_the_plan: None)


@pytest.fixture
def own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFSIC_TEST_PARENT", str(os.getpid()))


def inputs_of(spec: str, settings: dict[str, str] | None = None, **options: object) -> Inputs:
    """Inputs of a run on the fake split that another process can begin too."""
    settings = settings or {}
    cls = find_method(spec)
    made = fake_inputs(cls, embeddings=cls.needs_embeddings, **options)  # type: ignore[arg-type]
    return replace(
        made,
        method=make_method(spec, settings, None),
        make_method=lambda: make_method(spec, settings, None),
        method_source=source_hash(spec),
        plan=RunPlan(method=spec, split="fake", backbone="fake", settings=settings),
    )


def audited(folder: Path, spec: str, settings: dict[str, str] | None = None) -> Audit:
    """The audit of a run of 22 episodes, which are adapted to in two chunks."""
    execute(inputs_of(spec, settings, episodes=22), folder)
    record = read_record(folder)
    assert record.status == "success"
    assert record.audit is not None
    return record.audit


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Remembers", "memory between episodes"),
        ("Running", "memory between episodes"),
        ("Pools", "pooled supports"),
        ("Centres", "batch statistics over the query"),
        ("DecidesByQuery", "batch statistics over the query"),
        ("Counts", "order of the query"),
        ("CountsThough", "order of the query"),
        ("Forgets", "state that was not saved"),
        ("Draws", "unkeyed randomness"),
        ("Raises", "the method failed in a fresh process"),
        ("Exits", "the fresh process died"),
    ],
)
def test_c1_a_failed_audit_says_what_it_looks_like(tmp_path: Path, name: str, kind: str) -> None:
    found = audited(tmp_path / "run", f"{CHEATS}:{name}")
    assert (found.status, found.kind) == ("failed", kind)
    assert found.reason
    error = failure_of(read_record(tmp_path / "run"), tmp_path / "run")
    assert error is not None
    assert error.exit_code == 1
    assert kind in str(error)
    assert "methods check" in error.remedy
    assert not is_done(tmp_path / "run", read_record(tmp_path / "run"))
    if name == "Remembers":
        assert "episode" in found.reason
        assert found.largest_difference is not None
        assert found.largest_difference > 0.1


def test_what_the_last_bits_of_the_features_do_is_no_failure(tmp_path: Path) -> None:
    found = audited(tmp_path / "run", f"{CHEATS}:Amplifies")
    assert found.largest_difference is not None
    assert found.tolerance is not None
    assert TOLERANCE < found.largest_difference < found.tolerance <= ROUNDED
    assert found.status == "passed"
    assert "last bits of the features" in str(found.reason)


def test_scores_that_are_mostly_rounding_are_a_failure(tmp_path: Path) -> None:
    found = audited(tmp_path / "run", f"{CHEATS}:AmplifiesMore")
    assert (found.status, found.kind) == ("failed", "rounding")
    assert found.largest_difference is not None
    assert found.largest_difference > ROUNDED == found.tolerance
    assert "last bits of the features" in str(found.reason)
    error = failure_of(read_record(tmp_path / "run"), tmp_path / "run")
    assert error is not None
    assert "another processor" in error.remedy


def test_as_small_a_difference_that_rounding_does_not_make_is_a_failure(tmp_path: Path) -> None:
    found = audited(tmp_path / "run", f"{CHEATS}:PoolsALittle")
    assert found.largest_difference is not None
    assert TOLERANCE < found.largest_difference < ROUNDED
    assert (found.status, found.kind) == ("failed", "pooled supports")
    assert found.tolerance == TOLERANCE


def test_the_process_serves_on_after_a_session_that_told_an_error(tmp_path: Path) -> None:
    audited(tmp_path / "sound", f"{CHEATS}:Honest")
    before = fresh._server
    assert before is not None
    assert audited(tmp_path / "raises", f"{CHEATS}:Raises").kind == fresh.FAILED
    assert audited(tmp_path / "again", f"{CHEATS}:Honest").status == "passed"
    assert fresh._server is before
    assert audited(tmp_path / "exits", f"{CHEATS}:Exits").kind == fresh.DIED
    assert fresh._server is None


def test_a_fresh_process_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PATIENCE", 1.0)
    found = audited(tmp_path / "run", f"{CHEATS}:Hangs")
    assert (found.status, found.kind) == ("failed", "the fresh process hung")


@pytest.mark.parametrize("name", ["Honest", "Decides", "CentresAndSays"])
def test_sound_methods_pass(tmp_path: Path, name: str) -> None:
    found = audited(tmp_path / "run", f"{CHEATS}:{name}")
    assert found.status == "passed"
    assert found.kind is None
    assert {0, 21} < set(found.episodes)
    assert found.queries == 12 * len(found.episodes)
    assert is_done(tmp_path / "run", read_record(tmp_path / "run"))


@pytest.mark.parametrize(
    "name",
    ["random", "prior", "constant", "protonet", "linear", "laso", "pla", "kggr",
     "word-guided-attention", "lpn", "soft-kmeans-prototypes"],
)  # fmt: skip
def test_shipped_methods_pass_well_within_the_tolerance(tmp_path: Path, name: str) -> None:
    settings = dict(find_method(name).check_settings)
    execute(inputs_of(name, settings, episodes=4), tmp_path / "run")
    found = read_record(tmp_path / "run").audit
    assert found is not None
    assert found.status == "passed", found.reason
    assert found.largest_difference is not None
    assert found.largest_difference < TOLERANCE / 3


def test_methods_given_as_objects_are_not_audited(tmp_path: Path) -> None:
    found = read_record(fake_run(tmp_path / "run", episodes=3)).audit
    assert found is not None
    assert found.status == "not made"
    assert "without a file" in str(found.reason)


def test_a_file_that_was_changed_meanwhile_is_not_the_runs_method(tmp_path: Path) -> None:
    inputs = replace(inputs_of(f"{CHEATS}:Honest", episodes=3), method_source="sha256:other")
    execute(inputs, tmp_path / "run")
    found = read_record(tmp_path / "run").audit
    assert found is not None
    assert found.status == "failed"
    assert "no longer that of the run" in str(found.reason)


def test_a_run_stopped_in_its_audit_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Audit:
        raise KeyboardInterrupt

    inputs, folder = inputs_of(f"{CHEATS}:Honest", episodes=3), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run, "audit_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            execute(inputs, folder)
    record = read_record(folder)
    assert record.status == "cancelled"
    assert record.audit is None
    before = (folder / "scores.npz").stat().st_mtime_ns
    lines: list[str] = []
    execute(inputs, folder, lines.append)
    after = read_record(folder)
    assert (after.status, after.audit and after.audit.status) == ("success", "passed")
    assert (after.metrics, after.outputs) == (record.metrics, record.outputs)
    assert (folder / "scores.npz").stat().st_mtime_ns == before
    assert not any("scored" in line for line in lines)
    assert not (folder / "parts").exists()
    execute(inputs, folder, lines.append)
    assert "is done already" in lines[-1]


def test_queries_are_left_out_where_each_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "LEAST", 0.0)
    found = audited(tmp_path / "run", f"{CHEATS}:Slow")
    assert found.status == "passed"
    assert found.queries == 2 * len(found.episodes) == 6


def test_a_failed_audit_is_made_again_by_the_same_command(tmp_path: Path) -> None:
    inputs, folder = inputs_of(f"{CHEATS}:Raises", episodes=3), tmp_path / "run"
    lines: list[str] = []
    for _ in range(2):
        execute(inputs, folder, lines.append)
    assert sum(line.startswith("audit failed") for line in lines) == 2
    assert sum("has its scores; they are audited" in line for line in lines) == 1


def test_episodes_are_chosen_by_the_key_and_by_what_they_cost() -> None:
    one, other = (choose_episodes(key * 64, 200, 80.0, 900.0) for key in "ab")
    assert one[0] == 199
    assert one[-1] == 0
    assert one == sorted(one, reverse=True)
    assert len(set(one)) == len(set(other)) == 8
    assert one != other
    assert one == choose_episodes("a" * 64, 200, 80.0, 900.0)
    assert len(choose_episodes("a" * 64, 10, 10.4, 130.0)) == 3  # 13 s an episode
    assert choose_episodes("a" * 64, 2, 6.0, 1.0) == [1, 0]
    assert choose_episodes("a" * 64, 1, 6.0, 1.0) == [0]


def test_the_command_prints_a_failed_audit_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    execute(inputs_of(f"{CHEATS}:Raises", episodes=3), folder)
    monkeypatch.setattr(run, "run_method", lambda *_, **__: folder)
    with pytest.raises(SystemExit) as end:
        main(["run", "x", "--split", "s", "--backbone", "b"])
    assert end.value.code == 1
    printed = capsys.readouterr()
    assert printed.out.strip() == str(folder)
    assert "the audit of" in printed.err
    assert "not at home" in printed.err
    fake_run(tmp_path / "mean", episodes=3)
    (table,), _ = paper_tables([folder, tmp_path / "mean"])
    for lines in (table.caption, score_files([folder, tmp_path / "mean"]).notes):
        (line,) = [line for line in lines if "AUDIT FAILED" in line]
        assert "the method failed in a fresh process" in line
