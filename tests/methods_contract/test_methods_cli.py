"""The verb `methods`: what it prints, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli, main
from mlfsic_bench.cli.plugins import _lines
from mlfsic_bench.methods.registry import find_method, method_names
from mlfsic_bench.testing.check import ALL_CHECKS
from mlfsic_bench.testing.process import CheckResult, note_on_checks
from mlfsic_bench.testing.state_tests import FRESH

pytestmark = pytest.mark.slow

PLUGINS = Path(__file__).parents[1] / "fakes" / "plugins"


def call(*arguments):
    return CliRunner().invoke(cli, ["methods", *arguments])


def test_list():
    result = call("list")
    assert result.exit_code == 0
    assert all(name in result.output for name in method_names())


def test_list_json():
    rows = json.loads(call("list", "--format=json").output)
    assert [row["name"] for row in rows] == list(method_names())
    linear = next(row for row in rows if row["name"] == "linear")
    assert linear["tracks"] == ["trains on base", "adapts by gradient"]
    assert linear["broken"] is None


def test_show():
    output = call("show", "linear").output
    for part in ("tune_epochs = 40", "integer >= 0", "paper:", "AAAI 2022", "adapts by gradient"):
        assert part in output
    assert "select_every = none  (" in output  # as `--set` takes it
    own = f"{PLUGINS / 'minimal.py'}:Minimal"
    assert "no parameters" in call("show", own).output
    assert f"({own})\n" in call("show", own).output


def test_check_passes_with_0_and_takes_settings_and_leaves_a_mark(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    path = tmp_path / "my_method.py"
    path.write_text(text.partition("```python\n")[2].partition("```")[0])
    result = call("check", f"{path}:MyMethod", "--set", "scale=3")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("my-method with scale=3\n")
    assert all(f"pass  {check.name} " in result.output for check in (*ALL_CHECKS, FRESH))
    assert f"{len(ALL_CHECKS) + 1} passed, 0 failed" in result.output
    method = find_method(f"{path}:MyMethod")
    assert "has passed" in note_on_checks(f"{path}:MyMethod", method)
    path.write_text(path.read_text() + "\n# another version\n")
    assert "has not passed" in note_on_checks(f"{path}:MyMethod", method)


def test_check_fails_with_1_and_explains():
    result = call("check", f"{PLUGINS / 'faulty_scores.py'}:QueryBatch")
    assert result.exit_code == 1
    assert "fail  query-independence " in result.output
    for heading in ("done:", "expected:", "came:", "likely cause:", "remedy:"):
        assert heading in result.output
    assert "1 failed" in result.output


@pytest.mark.parametrize("spec", ["protonett", "none.py:A"])
def test_what_can_not_be_loaded_exits_with_2(spec, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["methods", "check", spec])
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error


def test_help_imports_nothing_heavy():
    code = (
        "import sys, mlfsic_bench.cli.methods\n"
        "print({'torch', 'pydantic', 'numpy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_results_stand_below_each_other():
    lines = [
        _lines(CheckResult(check.name, "what it shows", "pass")) for check in (*ALL_CHECKS, FRESH)
    ]
    assert len({line.index("what it shows") for line in lines}) == 1


def test_every_contract_test_is_in_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    assert all(f"| `{check.name}` |" in text for check in (*ALL_CHECKS, FRESH))


def test_check_gives_a_test_the_seconds_of_timeout():
    spec = f"{PLUGINS / 'never_scoring.py'}:Hangs"
    command = [sys.executable, "-m", "mlfsic_bench", "methods", "check", spec, "--timeout", "0.4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "an end within 0.4 s" in done.stdout
    assert "skip" in done.stdout
