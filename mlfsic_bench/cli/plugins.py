"""What the commands on methods, backbones and data sets share: `list`, `check` and `new`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import say_next
from mlfsic_bench.cli.streams import say
from mlfsic_bench.text import LONGEST_NAME, LONGEST_SAID, for_terminal, said

if TYPE_CHECKING:
    from mlfsic_bench.plugins.doors import Listed
    from mlfsic_bench.testing.process import Checked, CheckResult


def rows_as_json(
    rows: Sequence[Listed[Any]], more: Callable[[Any], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Registered plug-ins as `list --format json` has them, with `more(loaded)` of each."""
    return [
        {
            "name": row.name,
            "origin": row.origin,
            "summary": _summary(row.loaded),
            "broken": row.reason or None,
            **more(row.loaded),
        }
        for row in rows
    ]


def echo_rows(rows: Sequence[Listed[Any]], more: Callable[[Any], str], end: str = "") -> None:
    """Print registered plug-ins: name, first line of the docstring, and `more(loaded)` if any.

    One that can't be loaded says why. `end` is put behind every name.
    """
    width = max((len(row.name + end) for row in rows), default=0)
    for row in rows:
        name = for_terminal(row.name) + end
        if row.loaded is None:
            echo(f"{name:{width}}  BROKEN: {for_terminal(row.reason, LONGEST_SAID)}")
            further = f"registered as {row.origin}"
        else:
            echo(f"{name:{width}}  {for_terminal(_summary(row.loaded))}")
            further = more(row.loaded)
        if further:
            echo(f"{'':{width}}  {for_terminal(further)}")


def _summary(loaded: object) -> str:
    """The docstring's first line."""
    text = None if loaded is None else loaded.__doc__
    return (text or "").strip().partition("\n")[0]


def write_template(file: Path, kind: str, name: str, package: str, template: str) -> None:
    """Write a template of the package to `file`, and name the command that checks it.

    Parameters
    ----------
    kind, name: what it is, `backbone` or `dataset`, and what it is called in the file.
    package, template: where the template is; FILE.py in it becomes the name of the file.
    """
    from importlib.resources import files

    from mlfsic_bench.errors import BenchError
    from mlfsic_bench.files import write_text
    from mlfsic_bench.paths import exists

    if file.suffix != ".py" or exists(file):
        raise BenchError(
            f"the template is not written to {file}",
            expected="a new file that ends in .py",
            found="a file that is there" if exists(file) else file.name,
            remedy="name another file",
        )
    text = files(package).joinpath(template).read_text("utf-8")
    write_text(file, text.replace("FILE.py", file.name))
    say(f"wrote {file}, a {kind} to be changed into yours")
    say_next(f"{kind}s", "check", f"{file}:{name}")


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
                echo(for_terminal(f"{name} with {joined(result.settings)}"))
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
    lines = [f"{result.status:4}  {result.name:22}  {result.shows}"]
    for heading, text in result.explanation:
        first, *rest = said(text).splitlines() or [""]
        lines.append(f"        {heading + ':':13} {first}")
        lines += [f"        {'':13} {line}" for line in rest]
    return "\n".join(lines)


def joined(values: Mapping[str, Any]) -> str:
    """Values by name, as an option says them."""
    from mlfsic_bench.experiments.schema import text_of

    return ", ".join(f"{name}={text_of(value)}" for name, value in values.items())
