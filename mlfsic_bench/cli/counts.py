"""`mlfsic-bench counts`: how many labels each query image shows, for the decision rule `count`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.options import (
    BACKBONE,
    CACHE,
    DATA_ROOT,
    DATASET,
    DEVICE,
    FEATURES_PACK,
    LOADING,
    PARTIAL,
    PATH,
    PRECISION,
    PROTOCOL,
    SPLIT,
    WEIGHTS,
    needed_without,
    optional,
    refuse_input,
    say_next,
    with_options,
)
from mlfsic_bench.cli.streams import say


@click.command("counts")
@with_options(optional(SPLIT), DATASET, DATA_ROOT, optional(BACKBONE), WEIGHTS, FEATURES_PACK)
@with_options(*PARTIAL)
@with_options(*PROTOCOL)
@click.option("--episodes-file", type=PATH, help="Other novel episodes.")
@with_options(PRECISION, DEVICE, CACHE, *LOADING)
@click.option("--out", type=PATH, required=True, metavar="FILE", help="The counts; an .npz file.")
def counts(protocol: str | None, out: Path, **options: Any) -> None:
    """Predict from the features alone how many labels each query image shows.

    Split, network and images are named as for `run`. A label-count head is trained on the base
    part, its settings are chosen on val, and it knows no method: the file serves all runs on these
    episodes (`score --decisions count --counts FILE`).
    """
    from mlfsic_bench.episodes.protocol import OPTIONS, find_protocol
    from mlfsic_bench.evaluation.counts import label_counts, write_counts
    from mlfsic_bench.evaluation.plan import RunPlan

    for name in ("split", "backbone"):
        needed_without(name)
        options[name] = options[name] or ""
    refuse_input(out)
    chosen = {name: options.pop(name) for name in OPTIONS}
    drawn_by = None
    if protocol or any(value is not None for value in chosen.values()):
        drawn_by = find_protocol(protocol, **chosen)
    found = label_counts(RunPlan(method="", protocol=drawn_by, **options), say)
    write_counts(out, found)
    val, k = found.meta.val, found.counts
    if val is not None:
        echo(
            f"on val: {100 * val.accuracy:.1f} % right, mean absolute error {val.error:.2f} "
            f"(always 1: {100 * val.accuracy_of_one:.1f} %, {val.error_of_one:.2f})"
        )
    shares = ", ".join(f"{n}: {100 * (k == n).mean():.1f} %" for n in range(1, int(k.max()) + 1))
    echo(f"{k.size} query images of {len(k)} episodes; predicted labels {shares}")
    echo(str(out))
    say_next("score", "RUN", "--decisions", "count", "--counts", out)
