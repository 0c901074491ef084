"""Faulty plug-ins, each with what catches it: the class is refused, a test fails, the audit."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.methods.registry import find_method, make_method
from mlfsic_bench.plugins.files import source_hash
from mlfsic_bench.plugins.surroundings import Surroundings, watching
from mlfsic_bench.testing.check import ALL_CHECKS, BEFORE_A_RUN, refuse_faulty
from mlfsic_bench.testing.contract import run_check
from mlfsic_bench.testing.core import Bench
from mlfsic_bench.testing.process import Checked, CheckJob, check_in_process
from tests.fakes.plugins.minimal import Minimal
from tests.fakes.world import fake_inputs
from tests.plugins_corpus.answers import AUDITED, SEEN
from tests.plugins_corpus.changes import CHANGING, KEPT, TESTS
from tests.plugins_corpus.says import REFUSED

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CHECKS = {check.name: check for check in ALL_CHECKS}


def name_of(value):
    return value.__name__ if isinstance(value, type) else str(value)


def result_of(method, name):
    return run_check(CHECKS[name], Bench(method))


def text_of(result):
    return "\n".join(text for _, text in result.explanation)


def test_there_are_enough_of_them():
    assert len(REFUSED) + len(CHANGING) + len(SEEN) + len(AUDITED) >= 40


@pytest.mark.parametrize("method", REFUSED, ids=name_of)
def test_c4_the_class_is_refused(method, monkeypatch):
    monkeypatch.setattr("mlfsic_bench.plugins.doors.object_in_file", lambda *_: method)
    with pytest.raises(BenchError) as caught:
        make_method("mine.py:Mine", {}, None)
    assert REFUSED[method] in str(caught.value)
    assert "mine.py:Mine" in caught.value.what or "'minimal'" in caught.value.what


@pytest.mark.parametrize("what", CHANGING)
def test_c5_a_change_is_seen_and_put_back(what):
    before = Surroundings()
    try:
        result = result_of(CHANGING[what], TESTS[what])
    finally:
        while KEPT:
            KEPT.pop().__exit__(None, None, None)
    with watching() as changed:
        before.restore()
    assert changed == set()
    assert result.status == "fail"
    assert what in text_of(result)


@pytest.mark.parametrize("method", SEEN, ids=name_of)
def test_a_contract_test_sees_it(method):
    name, word = SEEN[method]
    result = result_of(method, name)
    assert result.status == "fail", result
    assert word in text_of(result)
    assert len(text_of(result)) < 4000
    assert text_of(result).replace("\n", "").isprintable()


@pytest.mark.parametrize("method", [m for m in SEEN if not m.trains], ids=name_of)
def test_a_run_refuses_it_before_it_starts(method, monkeypatch):
    assert SEEN[method][0] in BEFORE_A_RUN
    monkeypatch.setattr("mlfsic_bench.plugins.doors.object_in_file", lambda *_: method)
    with pytest.raises(BenchError, match="so it is not run"):
        refuse_faulty("mine.py:Mine", {}, None)


def audit_of(spec, folder, **options):
    made = fake_inputs(find_method(spec), **options)
    plan = RunPlan(method=spec, split="fake", backbone="fake")
    execute(replace(made, plan=plan, method_source=source_hash(spec)), folder)
    return read_record(folder).audit


@pytest.mark.parametrize("method", AUDITED, ids=name_of)
def test_the_audit_sees_what_the_contract_tests_do_not(method, tmp_path):
    spec = f"{HERE / 'answers.py'}:{method.__name__}"
    refuse_faulty(spec, {}, None)
    audit = audit_of(spec, tmp_path / "run", episodes=22)
    assert (audit.status, audit.kind) == ("failed", AUDITED[method])


def test_an_audit_gives_no_label_vectors_that_the_run_did_not_give(tmp_path):
    spec = f"{HERE / 'answers.py'}:UsesWordsWhereThere"
    assert audit_of(spec, tmp_path / "run", episodes=3, embeddings=True).status == "passed"


def test_c7_probabilities_are_a_warning():
    class Probabilities(Minimal):
        def adapt(self, support):
            good = super().adapt(support)
            return lambda query: good(query).sigmoid()

    result = result_of(Probabilities, "float32")
    assert result.status == "warn"
    assert "probabilities" in text_of(result)
    assert result_of(Minimal, "float32").status == "pass"


def test_c2_a_file_can_not_take_a_registered_name(tmp_path):
    path = tmp_path / "linear.py"
    path.write_text(
        "from mlfsic_bench.methods.contract import Method\n"
        "class M(Method):\n    name = 'linear'\n    def adapt(self, support): return None\n"
    )
    with pytest.raises(BenchError, match="name of a registered method") as caught:
        find_method(f"{path}:M")
    assert "'my-linear'" in caught.value.remedy


def test_c6_a_process_that_ends_early_is_a_failed_check():
    result = CliRunner().invoke(cli, ["methods", "check", f"{HERE / 'ends.py'}:Killed"])
    assert result.exit_code == 1
    assert f"ended with signal {int(signal.SIGKILL)}" in result.output
    assert "1 failed" in result.output


def test_c1_what_is_kept_in_the_class_is_missed_in_a_fresh_process(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path))
    spec = f"{HERE / 'ends.py'}:LearnsInTheClass"
    results = {
        result.name: result.status
        for result in check_in_process(CheckJob(spec, {}, None, 300.0))
        if not isinstance(result, Checked)
    }
    assert results["save-load"] == "pass"
    assert results["fresh-process"] == "fail"
    assert list(tmp_path.iterdir()) == []  # no mark of a passed check


def test_c8_one_expanded_value_is_saved_as_one(tmp_path):
    from mlfsic_bench.methods.saved_state import ready_to_save, wrong_in_state

    state = {"w": torch.ones(1).expand(3 << 30), "view": torch.zeros(1 << 20)[:2]}
    assert wrong_in_state(state) == ""
    torch.save(ready_to_save(state), tmp_path / "state.pt")
    assert (tmp_path / "state.pt").stat().st_size < 10_000
    assert torch.load(tmp_path / "state.pt")["w"].shape == (3 << 30,)


def test_a_class_in_a_file_does_not_pass_for_a_shipped_one(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\nfrom mlfsic_bench.methods.contract import Method\n"
        "class M(Method):\n    name = 'mine'\n    __module__ = 'mlfsic_bench.methods'\n"
        "    def adapt(self, support):\n"
        "        return lambda query: torch.full((len(query), len(support.labels)), torch.nan)\n"
    )
    with pytest.raises(BenchError, match="so it is not run"):
        refuse_faulty(f"{path}:M", {}, None)


def test_what_code_does_to_a_torch_that_it_imports_itself_is_put_back() -> None:
    code = """
import sys
from mlfsic_bench.plugins.foreign import plugin_call
assert "torch" not in sys.modules
with plugin_call("dataset", "mine", "while it was read"):
    import torch
    from mlfsic_bench.plugins.torch_state import AT_FIRST, PARTS
    assert {name: PARTS[name][0]() for name in AT_FIRST} == AT_FIRST
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_float32_matmul_precision("medium")
print(torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_float32_matmul_precision())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch.float32", "True", "highest"]
