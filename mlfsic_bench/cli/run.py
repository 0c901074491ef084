"""`mlfsic-bench run`: fit a method and score the query images of every episode."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import replace
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
    TRAINING,
    WEIGHTS,
    needed_without,
    optional,
    say_next,
    training_of,
    with_options,
)
from mlfsic_bench.cli.streams import leave, say, say_always
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import exists, folders_with

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.evaluation.resources import ResourceCache

MOST_NAMED = 3  # other runs in the command that a finished run proposes


@click.command("run")
@click.argument("methods", nargs=-1, required=True, type=complete.METHOD, metavar="METHOD...")
@with_options(optional(SPLIT), DATASET, DATA_ROOT, optional(BACKBONE), WEIGHTS, FEATURES_PACK)
@click.option(
    "--embeddings",
    type=click.Path(path_type=Path),
    metavar="FILE|backbone|DIR|random",
    help="Label embeddings: a file, the backbone's text side, a sentence encoder, or a control; "
    "A+B for two of them.",
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
@with_options(PRECISION, DEVICE, CACHE, *LOADING, *TRAINING)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The run's folder, or that of several runs (default: runs/...)",
)
def run(
    methods: tuple[str, ...], settings: dict[str, str], protocol: str | None, **options: Any
) -> None:
    """Fit METHOD (a name, or path/to/file.py:Class) on base, score the novel episodes.

    Several METHODs run one after the other, share what is opened, and --out is then the folder of
    their runs. --set NAME=VALUE is for all of them, --set METHOD.NAME=VALUE for one. One that fails
    does not stop the others.

    --split and --backbone are needed, unless a feature pack says them.

    The same command resumes, or says that the run is done. Exit code 1: the audit failed, that is,
    a fresh process did not give the scores of some episodes again (docs/running.md).
    """
    from mlfsic_bench.episodes.protocol import OPTIONS, find_protocol
    from mlfsic_bench.evaluation.plan import RunPlan, settings_of

    for name in ("split", "backbone"):
        needed_without(name)
        options[name] = options[name] or ""
    chosen = {name: options.pop(name) for name in OPTIONS}
    drawn_by = None
    if protocol or any(value is not None for value in chosen.values()):
        drawn_by = find_protocol(protocol, **chosen)
    options["training"] = training_of(options)
    methods = tuple(dict.fromkeys(methods))
    plans = [
        RunPlan(one, settings=settings_of(one, methods, settings), protocol=drawn_by, **options)
        for one in methods
    ]
    if len(plans) > 1:
        _run_several(plans)
        return
    folder, record, failure = _run(plans[0])
    if failure is not None:
        raise failure
    runs = [folder, *_beside(folder, record)]
    say_next("table" if len(runs) == 1 else "compare", *runs)


def _run(
    plan: RunPlan, opened: ResourceCache | None = None, before: str = ""
) -> tuple[Path, dict[str, Any], BenchError | None]:
    """Make a run, unless it is known to be done, and print its result.

    Returns (folder, the JSON of its record, the error that its audit failed with).
    """
    from mlfsic_bench.evaluation.finished import done_line, finished

    done = finished(plan)
    if done is not None:
        folder, record, failure = done.folder, done.record, None
        say(done_line(folder, record["key"], record["ended"]))
    else:
        folder, record, failure = _made(plan, opened)
    ap = record["metrics"]["macro_ap"]
    if ap["mean"] is not None:
        half = "" if ap["half_width"] is None else f" ± {100 * ap['half_width']:.2f}"
        say_always(f"{before}macro-AP {100 * ap['mean']:.2f}{half} (95 %, over episodes)")
    echo(str(folder))
    return folder, record, failure


def _checked(plans: Sequence[RunPlan], opened: ResourceCache) -> list[RunPlan]:
    """The plans of several methods, each with its folder and only the embeddings it uses.

    BenchError for what is wrong with any of them, before the first is run.
    """
    from mlfsic_bench.evaluation.inputs import open_inputs
    from mlfsic_bench.evaluation.maker import maker_of
    from mlfsic_bench.evaluation.record import RECORD
    from mlfsic_bench.evaluation.runner import folder_of

    out = plans[0].out
    if out is not None and exists(out / RECORD):
        raise BenchError(
            f"{out} is the folder of one run",
            expected="with several methods, a folder to make their runs in",
            found=f"{RECORD} in it",
            remedy="name another folder with --out",
        )
    checked = []
    for plan in plans:
        try:
            method = maker_of(plan).make()
        except BenchError as error:
            if plan.settings or plan.preset:
                error.remedy += "; --set METHOD.NAME=VALUE is for one method alone, and a preset "
                error.remedy += "that not all of them have needs a command of its own"
            raise
        if not (method.needs_embeddings or method.uses_embeddings):  # the key of a run alone
            plan = replace(plan, embeddings=None, embeddings_format="auto", templates=())
        checked.append(plan)
    inputs = [open_inputs(plan, opened) for plan in checked]
    if out is None:
        return checked
    pairs = zip(checked, inputs, strict=True)
    return [replace(plan, out=out / folder_of(one).name) for plan, one in pairs]


def _run_several(plans: Sequence[RunPlan]) -> None:
    """Make these runs; BenchError at the end that names the methods that failed."""
    from mlfsic_bench.evaluation.resources import ResourceCache

    opened = ResourceCache()
    plans = _checked(plans, opened)
    runs: list[Path] = []
    failed: dict[str, BenchError] = {}
    for number, plan in enumerate(plans, start=1):
        say(f"-- {number} of {len(plans)}: {plan.spec}")
        failure: BenchError | None
        try:
            folder, _, failure = _run(plan, opened, f"{plan.spec}: ")
            runs.append(folder)
        except BenchError as error:
            failure = error
        if failure is not None:
            say_always(f"FAILED: {plan.spec}: {failure}")
            failed[plan.spec] = failure
    if failed:
        summary = BenchError(
            f"{len(failed)} of {len(plans)} methods failed: {', '.join(failed)}",
            expected="runs that end, and whose audit passes",
            found="; ".join(dict.fromkeys(one.what for one in failed.values())),
            remedy="see each error above; the same command leaves the other runs as they are",
        )
        summary.exit_code = max(one.exit_code for one in failed.values())
        raise summary
    say_next("table", *runs)


def _made(
    plan: RunPlan, opened: ResourceCache | None
) -> tuple[Path, dict[str, Any], BenchError | None]:
    """(folder, the JSON of its record, the error that its audit failed with) of a run."""
    just_begun = "torch" not in sys.modules
    if just_begun:
        gc.disable()  # what is loaded stays: it need not be searched for garbage again and again
    from mlfsic_bench.evaluation.audit.audit import failure_of
    from mlfsic_bench.evaluation.audit.fresh import fork_early
    from mlfsic_bench.evaluation.record import read_record
    from mlfsic_bench.evaluation.runner import run_method

    if just_begun:
        gc.freeze()
        gc.enable()
        fork_early()
    try:
        folder = run_method(plan, say, opened)
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
