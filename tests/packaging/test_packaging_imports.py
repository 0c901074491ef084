"""What the command line imports before it has to, and that every verb is there."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import COMMANDS, cli
from mlfsic_bench.methods.registry import find_method
from tests.fakes.world import fake_run

pytestmark = pytest.mark.slow

# Never before a command runs; numpy and pydantic are let in for a verb, not for `--help` alone.
HEAVY = ("torch", "torchvision", "pandas", "scipy", "sklearn", "matplotlib", "pycocotools")
TOP_LEVEL = (*HEAVY, "numpy", "pydantic", "PIL", "yaml", "rich", "jinja2", "pooch")

PROBE = """
import json, sys
import click
from mlfsic_bench.cli.main import COMMANDS, cli, main

def visit(command, words, verbs):
    with click.Context(command, info_name=words[-1]) as ctx:
        command.get_help(ctx)
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx) if len(words) > 1 else verbs:
                visit(command.get_command(ctx, name), [*words, name], verbs)

found = {}
for command in json.loads(sys.argv[1]):
    if command[0] == "help of":
        visit(cli, ["mlfsic-bench"], command[1:])
    else:
        try:
            main(command)
        except SystemExit as end:
            assert not end.code, command
    found[" ".join(command[:3])] = sorted(name for name in sys.modules if "." not in name)
print("\\n" + json.dumps(found))
"""


def modules_after(*commands: list[str]) -> dict[str, set[str]]:
    """The first words of each command -> the modules imported after it, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {command: set(modules) for command, modules in found.items()}


def test_help_and_commands_that_read_results_import_nothing_heavy(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    runs = [str(fake_run(tmp_path / name, find_method(name))) for name in ("protonet", "prior")]
    after = modules_after(
        ["--help"],
        ["methods", "list"],
        ["backbones", "list"],
        ["splits", "list"],
        ["claims"],
        ["table", *runs],
        ["compare", *runs],
        ["score", *runs],
        ["score", "--by", "label", *runs],
        ["cite", *runs],
        ["leaderboard", "build", "--out", str(tmp_path / "board")],
    )
    assert not after["--help"] & set(TOP_LEVEL)
    for command, modules in after.items():
        assert not modules & set(HEAVY), command


def test_help_of_a_verb_and_of_what_is_under_it_imports_nothing_heavy():
    for command, modules in modules_after(*(["help of", verb] for verb in COMMANDS)).items():
        assert not modules & set(HEAVY), command


@pytest.mark.parametrize("verb", COMMANDS)
def test_verb_answers_help(verb):
    result = CliRunner().invoke(cli, [verb, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: cli {verb}")


def test_help_lists_every_verb_with_its_line():
    output = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    for verb, (_, line) in COMMANDS.items():
        assert f"{verb} {line}" in output


def test_unknown_verb_is_a_usage_error():
    result = CliRunner().invoke(cli, ["no-such-verb"])
    assert result.exit_code == 2
    assert "no-such-verb" in result.output


def test_module_and_console_script_are_one_program():
    done = subprocess.run(
        [sys.executable, "-m", "mlfsic_bench", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("mlfsic-bench, version ")


def test_a_misspelt_verb_suggests_the_right_one():
    result = CliRunner().invoke(cli, ["runn"])
    assert result.exit_code == 2
    assert "Did you mean 'run'?" in result.output


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_has_a_help_text(verb):
    def without(command, words):
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from without(inner, [*words, name])
        for option in command.params:
            if isinstance(option, click.Option) and not option.help:
                yield " ".join([*words, option.opts[0]])

    command = cli.get_command(click.Context(cli), verb)
    assert list(without(command, [verb])) == []
