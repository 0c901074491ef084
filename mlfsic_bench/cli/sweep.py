"""`mlfsic-bench sweep`: a grid of runs, on this machine or on a cluster; its state, its table."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.options import (
    CACHE,
    DATA_ROOT,
    DATASET,
    DEVICE,
    LAUNCHING,
    METHOD_FILES,
    PATH,
    say_next,
    text_form,
    with_options,
)
from mlfsic_bench.cli.streams import leave, say, say_always
from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    from mlfsic_bench.experiments.sweep import PlannedSweep
    from mlfsic_bench.launchers.runs import Launch
    from mlfsic_bench.launchers.slurm import Slurm, SlurmJobs


class RunByDefault(click.Group):
    """A group whose command `run` need not be named: `sweep FILE.yaml` is `sweep run FILE.yaml`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it, with `run` where no command is named."""
        return super().parse_args(ctx, self.with_run(args))

    def with_run(self, args: list[str]) -> list[str]:
        """The arguments, with `run` before those that name none of the commands."""
        first = next((one for one in args if not one.startswith("-")), None)
        return args if first is None or first in self.commands else ["run", *args]


@click.group("sweep", cls=RunByDefault)
def sweep() -> None:
    """Do a grid of runs, on this machine or on a cluster (docs/scale.md shows a file)."""


_WHICH = with_options(
    click.argument("file", type=PATH, metavar="FILE.yaml"),
    click.option("--out", type=PATH, metavar="DIR", help="The sweep's folder.  [default: sweeps/"
                 "NAME, after the file]"),
    click.option("--split", type=complete.SPLIT, metavar="ID|FILE",
                 help="Instead of the file's splits."),
    click.option("--backbone", type=complete.BACKBONE, metavar="NAME",
                 help="Instead of the file's backbones."),
    METHOD_FILES,
    DATA_ROOT,
)  # fmt: skip

_PLACES = ("out", "split", "backbone", "methods", "data_root")  # the options above


@sweep.command("run")
@_WHICH
@with_options(DATASET, DEVICE, CACHE, *LAUNCHING)
def run(file: Path, launcher: str, jobs: int | None, asks: dict[str, str], **options: Any) -> None:
    """Do what is missing of a sweep; `sweep FILE.yaml` for short.

    The same command goes on where it stopped, and leaves done runs as they are. With --launcher
    slurm it submits jobs and ends. Exit code 1: a run has failed.
    """
    from mlfsic_bench.experiments.plan import check_data_root
    from mlfsic_bench.experiments.run import counted
    from mlfsic_bench.launchers.runs import Done
    from mlfsic_bench.launchers.slurm import Slurm

    planned = _planned(file, options)
    launch = launcher_of(launcher, jobs, asks, planned.out, planned.sweep.slurm)
    if options["dataset"] is None:
        for split in {str(run.plan.split): None for run in planned.runs}:
            check_data_root(split, options["data_root"])
    if isinstance(launch, Slurm):
        launch.submit(planned.runs, say)
        say_next("sweep", "status", file, again=_PLACES)
        return
    done = Done()
    try:
        launch(planned.runs, done, say)
    except KeyboardInterrupt as stop:
        leave(stop, "cancelled; the same command goes on where it stopped")
    echo(f"{len(done.finished)} of {counted(len(planned.runs), 'run')} done in {planned.out}")
    if done.failed:
        say_always(f"{counted(len(done.failed), 'run')} failed; the same command tries again")
        sys.exit(1)
    say_next("sweep", "collect", file, again=_PLACES)


@sweep.command("status")
@_WHICH
def status(file: Path, **options: Any) -> None:
    """Say which runs are done, running, queued, failed or missing."""
    from mlfsic_bench.experiments.sweep import describe_states, states_of

    planned = _planned(file, options)
    states = states_of(planned.runs, _queued(planned))
    echo(describe_states(states, planned.out / "runs"), nl=False)


@sweep.command("collect")
@_WHICH
@text_form("text", "markdown", "latex", "csv", "json", "html")
def collect(file: Path, form: str, **options: Any) -> None:
    """Print the table of runs that are done, then what is not, and why.

    Exit code 1: a run is not done. `table` and `compare` read the same folders: OUT/runs/*.
    """
    from mlfsic_bench.analysis.paper_table import WRITERS, paper_tables
    from mlfsic_bench.experiments.sweep import describe_states, states_of
    from mlfsic_bench.results.targets import SplitPlace

    planned = _planned(file, options)
    states = states_of(planned.runs, _queued(planned))
    done = tuple(one.run.folder for one in states if one.state == "done")
    left = [one for one in states if one.state != "done"]
    if done:
        place = SplitPlace(split=options["split"], data_root=options["data_root"])
        tables, left_out = paper_tables(done, place)
        echo(WRITERS[form](tables, left_out), nl=False)
    if left:
        say_always("not done:\n" + describe_states(left, planned.out / "runs").rstrip())
        sys.exit(1)


def _queued(planned: PlannedSweep) -> dict[str, tuple[str, str]]:
    """What is in a job, as far as SLURM says; the results that are there can be seen without it."""
    try:
        return _cluster(planned).queued()
    except BenchError as error:
        say_always(f"note: {error.what}: {error.found}; what is in a job is not shown as that")
        return {}


def _planned(file: Path, options: dict[str, Any]) -> PlannedSweep:
    from mlfsic_bench.experiments.sweep import SweepOptions, plan_sweep

    return plan_sweep(file, SweepOptions(**options))


def _cluster(planned: PlannedSweep) -> Slurm:
    from mlfsic_bench.launchers.slurm import Slurm

    return Slurm(planned.out / "slurm", planned.sweep.slurm)


def launcher_of(
    name: str,
    jobs: int | None,
    asks: Mapping[str, str],
    out: Path,
    block: SlurmJobs | None = None,
) -> Launch:
    """The launcher that the options LAUNCHING name, for runs in `OUT/runs`.

    `asks` is what --slurm says, which comes before what the `block` of a file says. BenchError for
    options that don't go together.
    """
    from mlfsic_bench.launchers.local import local
    from mlfsic_bench.launchers.slurm import Slurm, slurm_jobs

    wrong = "--slurm" if asks and name == "local" else "--jobs" if jobs and name == "slurm" else ""
    if wrong:
        raise BenchError(
            f"{wrong} does not go with --launcher {name}",
            expected="--jobs with --launcher local, --slurm with --launcher slurm",
            found=f"{wrong} with --launcher {name}",
            remedy=f"leave {wrong} out, or name the other launcher",
        )
    if name == "local":
        return local(jobs or 1)
    return Slurm(out / "slurm", slurm_jobs(asks, block))
