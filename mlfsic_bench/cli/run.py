"""`mlfsic-bench run`: fit a method and score the query images of every episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.options import EMBEDDINGS_FORMAT, PROTOCOL, with_options
from mlfsic_bench.cli.streams import leave, say
from mlfsic_bench.features.backbones.registry import backbone_names


@click.command("run")
@click.argument("method")
@click.option("--split", required=True, metavar="ID|FILE", help="A shipped split or a split file.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Where the images and labels lie (default: MLFSIC_DATA; scenes needs none).",
)
@click.option(
    "--backbone",
    required=True,
    metavar="NAME",
    help=f"The network that makes features: {', '.join(backbone_names())}; A+B for two of them.",
)
@click.option(
    "--weights",
    default="default",
    metavar="W",
    help="imagenet, none, or a file (default: the backbone's own pretrained ones); W1+W2 for A+B.",
)
@click.option("--embeddings", type=click.Path(path_type=Path), help="File of label embeddings.")
@EMBEDDINGS_FORMAT
@click.option("--available-only", is_flag=True, help="Only images on disk; marks a subset.")
@click.option("--min-pool", type=int, metavar="N", help="Labels with fewer images leave the parts.")
@click.option("--base-images", type=int, metavar="N", help="Train on the first N base images only.")
@click.option("--preset", metavar="P", help="A named set of the method's parameters.")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="One parameter; repeatable.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Training seed.")
@with_options(*PROTOCOL)
@click.option("--episodes", type=int, metavar="N", help="Only the first N episodes.")
@click.option("--episodes-file", type=click.Path(path_type=Path), help="Other novel episodes.")
@click.option(
    "--features",
    type=click.Choice(["stored", "live", "end-to-end"]),
    default="stored",
    show_default=True,
    help="Extracted once, computed each time, or with the backbone trained too.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the backbone that makes stored features.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="D",
    help="Where to compute: auto, cpu, cuda or cuda:N.",
)
@click.option("--cache", type=click.Path(path_type=Path), help="Where extracted features are kept.")
@click.option("--batch-size", type=click.IntRange(1), help="Images extracted together.")
@click.option("--workers", type=click.IntRange(1), help="Threads that decode images.")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder (default: runs/...)")
def run(method: str, settings: tuple[str, ...], protocol: str | None, **options: Any) -> None:
    """Fit METHOD (a name, or path/to/file.py:Class) on base, score the novel episodes.

    Running the same command again resumes, or says that the run is done. Exit code 1: a fresh
    process did not give the scores of some episodes again (docs/running.md, Audit).
    """
    from mlfsic_bench.episodes.protocol import DEFAULT, OPTIONS, find_protocol
    from mlfsic_bench.evaluation.audit.audit import failure_of
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.evaluation.record import read_record
    from mlfsic_bench.evaluation.runner import run_method
    from mlfsic_bench.methods.settings import parse_settings

    chosen = {name: options.pop(name) for name in OPTIONS}
    drawn_by = None
    if protocol or any(value is not None for value in chosen.values()):
        drawn_by = find_protocol(protocol or DEFAULT, **chosen)
    plan = RunPlan(method=method, settings=parse_settings(settings), protocol=drawn_by, **options)
    try:
        folder = run_method(plan, log=say)
    except KeyboardInterrupt as stop:
        leave(stop, "cancelled; the same command resumes the run")
    record = read_record(folder)
    ap = record.metrics["macro_ap"]
    if ap.mean is not None:
        half = "" if ap.half_width is None else f" ± {100 * ap.half_width:.2f}"
        say(f"macro-AP {100 * ap.mean:.2f}{half} (95 %, over episodes)")
    echo(str(folder))
    failure = failure_of(record, folder)
    if failure is not None:
        raise failure
