"""What the command line imports before it has to, and that every verb is there."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import COMMANDS, cli

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

if sys.argv[1] == "--help":
    try:
        main(["--help"])
    except SystemExit as end:
        assert not end.code
else:
    visit(cli, ["mlfsic-bench"], [sys.argv[1]])
print("\\n" + json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


def modules_after(argument: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, argument], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_imports_nothing_heavy():
    assert not modules_after("--help") & set(TOP_LEVEL)


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_of_a_verb_and_of_what_is_under_it_imports_nothing_heavy(verb):
    assert not modules_after(verb) & set(HEAVY)


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


def test_listing_methods_imports_nothing_heavier_than_torch():
    code = (
        "import json, sys\n"
        "from mlfsic_bench.methods.registry import list_methods\n"
        "assert all(row.loaded for row in list_methods())\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert not set(json.loads(done)) & {*HEAVY[1:], "torch._dynamo", "PIL"}
