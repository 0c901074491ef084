"""`mlfsic-bench reproduce`: a table or picture of the paper, measured beside published values."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.options import LAUNCHING, METHOD_FILES, with_options
from mlfsic_bench.cli.streams import leave, say, say_always
from mlfsic_bench.errors import BenchError


@click.command("reproduce")
@click.argument("name", type=complete.EXPERIMENT, metavar="NAME|FILE.yaml")
@click.option(
    "--dataset",
    required=True,
    type=complete.PROFILE,
    metavar="PROFILE",
    help="scenes, coco-subset, voc-subset, coco, voc.",
)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder with the data sets, coco/ and VOCdevkit/ (default: MLFSIC_DATA).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reproduce"),
    show_default=True,
    help="All tables share the runs in this folder.",
)
@click.option("--only", metavar="ROW,ROW", help="Run only these rows.")
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="Seeds of trained methods.")
@click.option("--dry-run", is_flag=True, help="Say what would run; run nothing.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute.",
)
@click.option("--cache", type=click.Path(path_type=Path), help="Where features are kept.")
@click.option("--backbone", metavar="X", help="The network in place of the paper's ResNet-50.")
@click.option("--weights", default="default", metavar="W", help="That network's weights.")
@METHOD_FILES
@click.option(
    "--features",
    type=click.Choice(["stored", "live", "end-to-end"]),
    help="Of methods that train, instead of the profile's.",
)
@click.option(
    "--archive",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="If no run failed, also keep the table, records and values of each episode in DIR; rows "
    "that --only leaves out are taken from there.",
)
@click.option("--archive-scores", is_flag=True, help="With --archive: the order of the scores too.")
@click.option(
    "--archived",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Print the table in DIR, computed again from what is archived there; run nothing.",
)
@with_options(*LAUNCHING)
def reproduce(
    name: str,
    only: str | None,
    dry_run: bool,
    archive: Path | None,
    archive_scores: bool,
    archived: Path | None,
    launcher: str,
    jobs: int | None,
    asks: dict[str, str],
    **given: object,
) -> None:
    """Do the runs of an experiment that are missing, then print its table.

    NAME is table1 to table6, figure4, kggr, learning-curve, reality-check, one of its relatives
    (reality-check-disjoint, word-prior-study, learning-curve-labels, why-order, trained-backbone;
    docs/reproduce.md), or a YAML file of your own. The same command again goes on where it stopped.
    Exit code 1: a run has failed, and the table says so. With --launcher slurm it waits for its
    jobs, which go on if it is stopped.
    """
    from mlfsic_bench.cli.sweep import launcher_of
    from mlfsic_bench.experiments.archive import archive as keep
    from mlfsic_bench.experiments.carried import ArchivedTable
    from mlfsic_bench.experiments.outputs import write_outputs
    from mlfsic_bench.experiments.plan import Options, check_data_root, plan_rows, slug
    from mlfsic_bench.experiments.remake import remake
    from mlfsic_bench.experiments.render import render_terminal
    from mlfsic_bench.experiments.run import counted, describe_plan, run_rows, wanted_runs
    from mlfsic_bench.experiments.schema import find_profile, read_experiment

    if archive_scores and archive is None:
        raise BenchError(
            "--archive-scores goes with --archive",
            expected="--archive DIR beside it",
            found="no --archive",
            remedy="name the folder of the archive, or leave --archive-scores out",
        )
    rows_wanted = tuple(part.strip() for part in only.split(",") if part.strip()) if only else ()
    options = Options(only=rows_wanted, **given)  # type: ignore[arg-type]
    launch = launcher_of(launcher, jobs, asks, options.folder)
    stem, experiment = read_experiment(name)
    if options.backbone is not None:  # its tables lie beside those of the profile's network
        stem = f"{stem}-{slug(options.backbone)}"
    if archived is not None:
        made = remake(archived / f"{stem}.json", options.dataset)
        echo(render_terminal(made.table), nl=False)
        say(f"{archived / stem}.json: {made.said}")
        return
    profile = find_profile(options.dataset)
    rows = plan_rows(experiment, profile, options)
    check_data_root(experiment.splits.get(options.dataset, profile.split), options.data_root)
    if dry_run:
        echo(describe_plan(rows, options), nl=False)
        return

    there = None if archive is None else ArchivedTable(archive / f"{stem}.json")
    try:
        rows, done = run_rows(rows, say, launch, there)
        if there is not None:
            there.check_nothing_lost(rows, done)
        text, files = write_outputs(stem, experiment, profile, rows, done, options, say, there)
    except KeyboardInterrupt as stop:
        leave(stop, "cancelled; the same command goes on where it stopped")
    # A trial that failed is left out of the choice; a row that can't be shown is not.
    tried = ([run.folder for run in row.runs or [one.run for one in row.trials]] for row in rows)
    lost = any(folder in done.failed for own in tried for folder in own)
    if archive is not None and (lost or not files):
        say_always(f"nothing was archived in {archive}: a run has failed, or nothing was made")
    elif archive is not None:
        runs = [run.folder for row in rows for run in row.runs if done.place(run.folder)]
        trials = [one.run.folder for row in rows for one in row.trials]
        keep(
            files,
            runs,
            archive,
            experiment=experiment,
            scores=archive_scores,
            trials=[folder for folder in trials if folder in done],
        )
    echo(text, nl=False)
    # those of rows that are left out failed before
    failed = done.failed.keys() & {run.folder for run in wanted_runs(rows)}
    if failed:
        say_always(f"{counted(len(failed), 'run')} failed; the same command tries again")
        sys.exit(1)
