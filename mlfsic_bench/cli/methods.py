"""`mlfsic-bench methods`: list, show and check methods, and begin a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import PARAMETERS, text_form, with_options
from mlfsic_bench.cli.plugins import (
    echo_rows,
    joined,
    report_checks,
    rows_as_json,
    write_template,
)
from mlfsic_bench.text import for_terminal, lines_for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.methods.registry import Described

METHOD = click.argument("spec", type=complete.METHOD, metavar="METHOD")


@click.group("methods")
def methods() -> None:
    """List, show and check methods, and begin a new one."""


@methods.command("list")
@text_form("text", "json")
def list_command(form: str) -> None:
    """List the registered methods; one that can't be loaded says why."""
    from mlfsic_bench.methods.registry import list_methods

    rows = list_methods()
    if form == "json":
        echo_json(
            rows_as_json(
                rows,
                lambda method: {
                    "tracks": _tracks(method),
                    "presets": sorted(method.presets) if method else [],
                },
            )
        )
        return
    echo_rows(rows, lambda method: ", ".join(_tracks(method)))


@methods.command("show")
@METHOD
@text_form("text", "json")
def show_command(spec: str, form: str) -> None:
    """Show what METHOD is, its parameters and presets.

    METHOD is a registered name, or path/to/file.py:Class.
    """
    import inspect

    from mlfsic_bench.experiments.schema import text_of
    from mlfsic_bench.methods.params import describe_parameter
    from mlfsic_bench.methods.registry import find_method
    from mlfsic_bench.plugins.files import names_a_file

    method = find_method(spec)
    fields = method.Params.model_fields
    kinds = {name: describe_parameter(method.Params, name) for name in fields}
    # a class without a docstring would inherit the contract's own
    text = inspect.cleandoc(method.__doc__) if method.__doc__ else ""
    if form == "json":
        echo_json(
            {
                "name": method.name,
                "class": f"{method.__module__}.{method.__qualname__}",
                "about": text,
                "citation": method.citation,
                "tracks": _tracks(method),
                "parameters": {
                    name: {"default": info.default, "kind": kinds[name], "about": info.description}
                    for name, info in fields.items()
                },
                "presets": method.presets,
            }
        )
        return
    place = spec if names_a_file(spec) else f"{method.__module__}.{method.__qualname__}"
    echo(for_terminal(f"{method.name} ({place})") + "\n")
    echo(lines_for_terminal(text or "(no docstring)") + "\n")
    echo(for_terminal(f"citation: {method.citation or '(none)'}"))
    echo(f"tracks:   {', '.join(_tracks(method)) or 'learns nothing, needs no label embeddings'}")
    echo("\nparameters (--set name=value):" if fields else "\nno parameters")
    for name, info in fields.items():
        echo(for_terminal(f"  {name} = {text_of(info.default)}  ({kinds[name]})"))
        if info.description:
            echo(for_terminal(f"      {info.description}"))
    echo("\npresets (--preset name):" if method.presets else "\nno presets")
    for name, values in method.presets.items():
        echo(for_terminal(f"  {name}: {joined(values)}"))


@methods.command("new")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.py")
def new_command(file: Path) -> None:
    """Write FILE.py, a small method to be changed into yours."""
    write_template(file, "method", "MyMethod", "mlfsic_bench.methods", "template.py")


@methods.command("check")
@METHOD
@with_options(*PARAMETERS)
@click.option(
    "--timeout",
    default=300.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="A test that takes longer fails, and those after it are skipped.",
)
@text_form("text", "json")
def check_command(
    spec: str, settings: dict[str, str], preset: str | None, timeout: float, form: str
) -> None:
    """Run the contract tests on METHOD, on small synthetic features.

    METHOD is a registered name, or path/to/file.py:Class. A method may name short settings for
    these tests (`check_settings`); --set overrides them. Exit code 1 when a test fails.
    """
    from mlfsic_bench.testing.process import CheckJob, check_in_process

    results = check_in_process(CheckJob(spec, settings, preset, timeout))
    report_checks("method", spec, results, form)


def _tracks(method: Described | None) -> list[str]:
    if method is None:
        return []
    flags = {
        "needs label embeddings": method.needs_embeddings and not method.needs_text_side,
        "needs a text side": method.needs_text_side,
        "uses label embeddings": method.uses_embeddings and not method.needs_embeddings,
        "trains on base": method.trains,
        "adapts by gradient": method.adapts_by_gradient,
        "transductive": method.transductive,
    }
    return [name for name, value in flags.items() if value]
