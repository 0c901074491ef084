"""`mlfsic-bench methods`: list, show and check methods."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import PARAMETERS, text_form, with_options
from mlfsic_bench.text import LONGEST_NAME, LONGEST_SAID, for_terminal, lines_for_terminal, said

if TYPE_CHECKING:
    from mlfsic_bench.methods.contract import Method
    from mlfsic_bench.testing.process import Checked, CheckResult

METHOD = click.argument("spec", type=complete.METHOD, metavar="METHOD")


@click.group("methods")
def methods() -> None:
    """List, show and check methods."""


@methods.command("list")
@text_form("text", "json")
def list_command(form: str) -> None:
    """List the registered methods; one that can't be loaded says why."""
    from mlfsic_bench.methods.registry import list_methods

    rows = list_methods()
    if form == "json":
        found = [
            {
                "name": row.name,
                "origin": row.origin,
                "summary": _summary(row.loaded),
                "tracks": _tracks(row.loaded),
                "presets": sorted(row.loaded.presets) if row.loaded else [],
                "broken": row.reason or None,
            }
            for row in rows
        ]
        echo_json(found)
        return
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        if row.loaded is None:
            name, reason = for_terminal(row.name), for_terminal(row.reason, LONGEST_SAID)
            echo(f"{name:{width}}  BROKEN: {reason}")
            echo(f"{'':{width}}  registered as {for_terminal(row.origin)}")
            continue
        tracks = _tracks(row.loaded)
        echo(f"{row.name:{width}}  {for_terminal(_summary(row.loaded))}")
        if tracks:
            echo(f"{'':{width}}  {', '.join(tracks)}")


@methods.command("show")
@METHOD
@text_form("text", "json")
def show_command(spec: str, form: str) -> None:
    """Show what METHOD is, its parameters and presets.

    METHOD is a registered name, or path/to/file.py:Class.
    """
    import inspect

    from mlfsic_bench.methods.params import describe_parameter
    from mlfsic_bench.methods.registry import find_method

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
    echo(for_terminal(f"{method.name} ({method.__module__}.{method.__qualname__})") + "\n")
    echo(lines_for_terminal(text or "(no docstring)") + "\n")
    echo(for_terminal(f"citation: {method.citation or '(none)'}"))
    echo(f"tracks:   {', '.join(_tracks(method)) or 'learns nothing, needs no label embeddings'}")
    echo("\nparameters (--set name=value):" if fields else "\nno parameters")
    for name, info in fields.items():
        echo(for_terminal(f"  {name} = {info.default}  ({kinds[name]})"))
        if info.description:
            echo(for_terminal(f"      {info.description}"))
    echo("\npresets (--preset name):" if method.presets else "\nno presets")
    for name, values in method.presets.items():
        echo(for_terminal(f"  {name}: {_joined(values)}"))


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


def report_checks(
    kind: str, name: str, results: Iterable[Checked | CheckResult], form: str
) -> None:
    """Print the results of contract tests as they come; exit with 1 when one failed.

    Parameters
    ----------
    kind, name: what is tested, `method`, `backbone` or `dataset`, and its name until a Checked says
        another.
    """
    from mlfsic_bench.testing.process import Checked

    name, told = for_terminal(name, LONGEST_NAME), []
    counts = {"pass": 0, "warn": 0, "fail": 0, "skip": 0}
    for result in results:
        if isinstance(result, Checked):
            name = for_terminal(result.name, LONGEST_NAME)
            if result.settings and form == "text":
                echo(for_terminal(f"{name} with {_joined(result.settings)}"))
            continue
        counts[result.status] += 1
        told.append(asdict(result))
        if form == "text":
            echo(_lines(result))
    if form == "json":
        echo_json({kind: name, "counts": counts, "tests": told})
    else:
        warned = f", {counts['warn']} with a warning" if counts["warn"] else ""
        echo(
            f"\n{name}: {counts['pass']} passed{warned}, {counts['fail']} failed, "
            f"{counts['skip']} skipped"
        )
        if counts["fail"]:
            echo(f"Each test is explained in docs/{kind}s.md.")
    if counts["fail"]:
        sys.exit(1)


def _lines(result: CheckResult) -> str:
    """The result of a contract test, with its explanation."""
    lines = [f"{result.status:4}  {result.name:21}  {result.shows}"]
    for heading, text in result.explanation:
        first, *rest = said(text).splitlines() or [""]
        lines.append(f"        {heading + ':':13} {first}")
        lines += [f"        {'':13} {line}" for line in rest]
    return "\n".join(lines)


def _joined(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _summary(method: type[Method] | None) -> str:
    """The docstring's first line."""
    return ((method.__doc__ if method else None) or "").strip().partition("\n")[0]


def _tracks(method: type[Method] | None) -> list[str]:
    if method is None:
        return []
    flags = {
        "needs label embeddings": method.needs_embeddings and not method.needs_text_side,
        "needs a text side": method.needs_text_side,
        "uses label embeddings": method.uses_embeddings and not method.needs_embeddings,
        "trains on base": method.trains,
        "adapts by gradient": method.adapts_by_gradient,
    }
    return [name for name, value in flags.items() if value]
