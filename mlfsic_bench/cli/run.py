"""`mlfsic-bench run`: fit a method and score the query images of every episode."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.options import (
    BACKBONE,
    CACHE,
    DATA_ROOT,
    DATASET,
    DEVICE,
    EMBEDDINGS_FORMAT,
    FEATURES_PACK,
    LOADING,
    PARAMETERS,
    PARTIAL,
    PRECISION,
    PROTOCOL,
    SPLIT,
    TEMPLATES,
    WEIGHTS,
    needed_without,
    optional,
    say_next,
    with_options,
)
from mlfsic_bench.cli.streams import leave, say, say_always
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import folders_with

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.plan import RunPlan

MOST_NAMED = 3  # other runs in the command that a finished run proposes


@click.command("run")
@click.argument("method", type=complete.METHOD)
@with_options(optional(SPLIT), DATASET, DATA_ROOT, optional(BACKBONE), WEIGHTS, FEATURES_PACK)
@click.option(
    "--embeddings",
    type=click.Path(path_type=Path),
    metavar="FILE|backbone|DIR|random",
    help="Label embeddings: a file, the backbone's text side, a sentence encoder, or a control.",
)
@with_options(EMBEDDINGS_FORMAT, TEMPLATES)
@with_options(*PARTIAL)
@click.option("--base-images", type=int, metavar="N", help="Train on the first N base images only.")
@click.option(
    "--base-labels", type=int, metavar="N", help="Train on the N labels with the most images only."
)
@with_options(*PARAMETERS)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Training seed.")
@click.option(
    "--part",
    type=click.Choice(["novel", "val"]),
    default="novel",
    show_default=True,
    help="val: a trial, on the episodes that are there to choose by.",
)
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
@with_options(PRECISION, DEVICE, CACHE, *LOADING)
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder (default: runs/...)")
def run(method: str, settings: dict[str, str], protocol: str | None, **options: Any) -> None:
    """Fit METHOD (a name, or path/to/file.py:Class) on base, score the novel episodes.

    --split and --backbone are needed, unless a feature pack says them.

    The same command resumes, or says that the run is done. Exit code 1: the audit failed, that is,
    a fresh process did not give the scores of some episodes again (docs/running.md).
    """
    from mlfsic_bench.episodes.protocol import OPTIONS, find_protocol
    from mlfsic_bench.evaluation.finished import done_line, finished
    from mlfsic_bench.evaluation.plan import RunPlan

    for name in ("split", "backbone"):
        needed_without(name)
        options[name] = options[name] or ""
    chosen = {name: options.pop(name) for name in OPTIONS}
    drawn_by = None
    if protocol or any(value is not None for value in chosen.values()):
        drawn_by = find_protocol(protocol, **chosen)
    plan = RunPlan(method=method, settings=settings, protocol=drawn_by, **options)
    done = finished(plan)
    if done is not None:
        folder, record, failure = done.folder, done.record, None
        say(done_line(folder, record["key"], record["ended"]))
    else:
        folder, record, failure = _run(plan)
    ap = record["metrics"]["macro_ap"]
    if ap["mean"] is not None:
        half = "" if ap["half_width"] is None else f" ± {100 * ap['half_width']:.2f}"
        say_always(f"macro-AP {100 * ap['mean']:.2f}{half} (95 %, over episodes)")
    echo(str(folder))
    if failure is not None:
        raise failure
    runs = [folder, *_beside(folder, record)]
    say_next("table" if len(runs) == 1 else "compare", *runs)


def _run(plan: RunPlan) -> tuple[Path, dict[str, Any], BenchError | None]:
    """(folder, the JSON of its record, the error that its audit failed with) of a run."""
    just_begun = "torch" not in sys.modules
    from mlfsic_bench.evaluation.audit.audit import failure_of
    from mlfsic_bench.evaluation.audit.fresh import fork_early
    from mlfsic_bench.evaluation.record import read_record
    from mlfsic_bench.evaluation.runner import run_method

    if just_begun:
        fork_early()
    try:
        folder = run_method(plan, log=say)
    except KeyboardInterrupt as stop:
        leave(stop, "cancelled; the same command resumes the run")
    record = read_record(folder)
    return folder, record.model_dump(mode="json"), failure_of(record, folder)


def _beside(folder: Path, record: dict[str, Any]) -> list[Path]:
    """Finished runs in the same folder, of the same episodes of the same split."""
    from mlfsic_bench.evaluation.plan import RECORD
    from mlfsic_bench.files import read_json

    found: list[Path] = []
    for path in folders_with(folder.parent, RECORD):
        try:
            other = read_json(path / RECORD, kind="run record")
        except BenchError:  # what it is doesn't matter here
            continue
        same = isinstance(other, dict) and all(
            other.get(name) == record[name] for name in ("split", "episodes")
        )
        if same and other.get("status") == "success" and path.name != folder.name:
            found.append(path)
        if len(found) == MOST_NAMED:
            break
    return found
