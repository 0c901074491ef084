"""Options that every command has, the formats of what it shows, and what a shell completes."""

import json
import marshal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from mlfsic_bench.cli.main import COMMANDS, cli, main
from mlfsic_bench.cli.options import FORMATS
from tests.packaging.test_packaging_imports import HEAVY

SPLIT = "scenes-12-6-6-v1"
SHOWING = {"list", "show", "info", "check", "verify", "audit", "claims"}


def commands(group: click.Group, words: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """`splits list` -> its command, for every command that does something."""
    found = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= commands(command, (*words, name))
        else:
            found[" ".join((*words, name))] = command
    return found


ALL = commands(cli)


def completed(*words: str) -> list[str]:
    shell = ShellComplete(cli, {}, "mlfsic-bench", "_MLFSIC_BENCH_COMPLETE")
    *before, incomplete = words
    return [item.value for item in shell.get_completions(list(before), incomplete)]


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_short_help_quiet_and_verbose(name):
    options = [option for param in ALL[name].params for option in param.opts]
    assert {"-q", "--quiet", "-v", "--verbose"} <= set(options)
    assert len(options) == len(set(options))
    assert CliRunner().invoke(cli, [*name.split(), "-h"]).exit_code == 0


@pytest.mark.parametrize("name", ALL)
def test_a_format_is_called_alike_everywhere(name):
    forms = [tuple(p.type.choices) for p in ALL[name].params if "--format" in p.opts]
    for choices in forms:
        assert set(choices) <= set(FORMATS.values())
        assert choices[0] == "text"
    if name.split()[-1] in SHOWING:
        assert forms, name
        assert "json" in forms[0]


@pytest.mark.parametrize("group", sorted({name.split()[0] for name in ALL if " " in name}))
def test_the_list_of_commands_cuts_no_sentence(group):
    assert "..." not in CliRunner().invoke(cli, [group, "-h"]).output.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["spl"], ["splits"]),
        (["splits", "ver"], ["verify"]),
        (["splits", "show", "voc"], ["voc-8-6-6-strict-v1", "voc-8-6-6-v1"]),
        (["run", "pro"], ["protonet"]),
        (["run", "protonet", "--split", "scenes-12-6-6-v"], [SPLIT]),
        (["run", "protonet", "--backbone", "scenes-small+resnet1"], ["scenes-small+resnet101"]),
        (["run", "protonet", "--preset", ""], ["centred"]),
        (["run", "word-guided-attention", "--preset", "pa"], ["paper"]),
        (["methods", "check", "pla", "--preset", ""], ["glove", "mla", "sigmoid"]),
        (["run", "no-such-method", "--preset", ""], []),
        (["reproduce", "table1", "--dataset", "s"], ["scenes"]),
        (["compare", "a", "b", "--metric", "macro_a"], ["macro_ap"]),
        (["table", "runs", "--format", "m"], ["markdown"]),
        (["features", "extract", "--weights", "i"], ["imagenet"]),
    ],
    ids=" ".join,
)  # fmt: skip
def test_completion(words, expected):
    assert completed(*words) == expected


def test_a_method_in_a_file_completes_its_presets_without_being_run(tmp_path):
    (tmp_path / "mine.py").write_text(
        "raise SystemExit\nclass Mine:\n    presets = {'fast': {}, 'slow': {}}\n"
    )
    assert completed("run", f"{tmp_path}/mine.py:Mine", "--preset", "f") == ["fast"]


def test_completion_imports_nothing_heavy_and_every_shell_has_its_script():
    code = (
        "import json, sys\n"
        "from click.shell_completion import ShellComplete, get_completion_class\n"
        "from mlfsic_bench.cli.main import cli\n"
        "shell = ShellComplete(cli, {}, 'mlfsic-bench', '_MLFSIC_BENCH_COMPLETE')\n"
        "for words in (['run'], ['run', 'linear', '--preset'], ['run', 'linear', '--split'],\n"
        "              ['compare', '--metric'], ['reproduce', 'x', '--dataset']):\n"
        "    assert shell.get_completions(words, ''), words\n"
        "for name in ('bash', 'zsh', 'fish'):\n"
        "    assert '_MLFSIC_BENCH_COMPLETE' in get_completion_class(name).source_template % {\n"
        "        'complete_func': '', 'complete_var': '_MLFSIC_BENCH_COMPLETE', 'prog_name': ''}\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout)) & set(HEAVY)


def ended(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(args)
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_quiet_leaves_results_and_errors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    build = ["splits", "build", SPLIT]
    code, result, notes = ended(build, capsys)
    assert (code, notes) == (
        0,
        f"next: mlfsic-bench run METHOD --split {SPLIT}.json --backbone NAME\n",
    )
    assert ended(["-q", *build], capsys) == ended([*build, "--quiet"], capsys) == (0, result, "")
    code, result, errors = ended(["splits", "show", "no-such", "-q"], capsys)
    assert (code, result) == (2, "")
    assert errors.startswith("error: unknown split 'no-such'")
    assert ended(build, capsys)[2]  # the next command is no longer quiet


def test_the_next_command_repeats_what_it_needs_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw = ["episodes", "sample", SPLIT, "--count", "1", "--out", "one.json"]
    follows = f"next: mlfsic-bench run METHOD --split {SPLIT} --episodes-file one.json"
    monkeypatch.setenv("MLFSIC_DATA", str(tmp_path))  # is there for the next command as well
    assert ended(draw, capsys)[2] == f"{follows} --backbone NAME\n"
    limits = ["--data-root", "a b", "--available-only", "--min-pool", "2"]
    said = "--data-root 'a b' --available-only --min-pool 2"
    assert ended([*draw, *limits], capsys)[2] == f"{follows} --backbone NAME {said}\n"


def test_verbose_names_files_and_the_place_of_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ended(["splits", "build", SPLIT], capsys)
    show = ["splits", "show", f"{SPLIT}.json"]
    assert f"read {SPLIT}.json\n" in ended([*show, "-v"], capsys)[2]
    assert ended(show, capsys)[2] == ""
    Path(f"{SPLIT}.json").write_text("{}")
    errors = ended(["-v", *show], capsys)[2]
    assert errors.index("  to do: ") < errors.index("Traceback (most recent call last)")
    assert "Traceback" not in ended(show, capsys)[2]


def test_quiet_and_verbose_together_are_refused():
    result = CliRunner().invoke(cli, ["-q", "splits", "list", "-v"])
    assert result.exit_code == 2
    assert "do not go together" in result.output


def test_every_command_of_the_table_exists():
    assert {name.split()[0] for name in ALL} == set(COMMANDS)


def test_compiled_code_that_was_cut_off_is_said_to_be(monkeypatch):
    """What a full disk leaves in `__pycache__` ends an import with an EOFError."""
    monkeypatch.setattr("mlfsic_bench.splits.names.shipped_ids", lambda: marshal.loads(b"\xe3"))
    result = CliRunner().invoke(cli, ["splits", "list"])
    assert "Aborted" not in result.output
    assert "__pycache__" in str(result.exception)
