"""`mlfsic-bench claims`: published values compared with arithmetic and chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import text_form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlfsic_bench.analysis.claims import Claim

METRICS = ("micro_f1", "macro_f1", "micro_ap", "macro_ap")


@click.command("claims")
@text_form("text", "json")
def claims(form: str) -> None:
    """Check every published value that can be checked without scores.

    F1 averaged over episodes cannot exceed the harmonic mean of the averaged P and R; an AP is
    compared with that of a random ranking. The exit code is 0 whatever is found (docs/claims.md).
    """
    from dataclasses import asdict

    from mlfsic_bench.analysis.claims import table_claims
    from mlfsic_bench.results.published import published_names, read_published

    tables = {name: read_published(name) for name in published_names()}
    found = {name: table_claims(name, table) for name, table in tables.items()}
    if form == "json":
        rows = [asdict(claim) for each in found.values() for claim in each]
        echo_json(rows)
        return
    for name, each in found.items():
        source = tables[name].source
        origin = f"{source.authors.split(',')[0]} et al., {source.venue} {source.year}"
        echo(f"{name}: {tables[name].caption} ({origin})")
        if not each:
            echo("  nothing to check: no P, R and F1, and no query size\n")
            continue
        echo(_grid(each))
        echo(_levels(each))
    echo(_summary([claim for each in found.values() for claim in each]))


def _grid(claims: Sequence[Claim]) -> str:
    """One line a row of the table, a cell of value and verdict for each metric that it has."""
    from mlfsic_bench.results.table import aligned

    metrics = [metric for metric in METRICS if any(claim.metric == metric for claim in claims)]
    heads = ["row", *(metric.replace("_f1", "-F1").replace("_ap", "-AP") for metric in metrics)]
    lines = [heads]
    # a table may have a name twice, with another backbone
    for row in dict.fromkeys((claim.row, claim.backbone) for claim in claims):
        own = {claim.metric: claim for claim in claims if (claim.row, claim.backbone) == row}
        lines.append([row[0], *(_cell(own.get(metric)) for metric in metrics)])
    return "\n".join(f"  {line}" for line in aligned(lines, left=range(len(heads))))


def _cell(claim: Claim | None) -> str:
    if claim is None:
        return "-"
    bound = f" (<= {claim.high:.2f})" if claim.metric.endswith("_f1") else ""
    return f"{claim.printed:.2f}{bound} {claim.verdict}"


def _levels(claims: Sequence[Claim]) -> str:
    """The chance levels of the table, which are those of all its rows."""
    levels = {claim.metric: claim for claim in claims if claim.metric.endswith("_ap")}
    parts = [
        f"{metric.replace('_ap', '-AP')} {claim.low:.2f} (lowest) to {claim.high:.2f}"
        for metric, claim in sorted(levels.items(), reverse=True)
    ]
    return f"  chance: {'; '.join(parts)}\n" if parts else ""


def _summary(claims: Sequence[Claim]) -> str:
    """How many values of each kind got which verdict."""
    lines = []
    for kind, end in (("F1", "_f1"), ("AP", "_ap")):
        verdicts = [claim.verdict for claim in claims if claim.metric.endswith(end)]
        counts = [f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts)]
        lines.append(f"{len(verdicts)} values of {kind}: {', '.join(counts)}")
    return "\n".join(lines)
