"""What a reproduction leaves behind and prints, for each kind of experiment."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.caption import caption_of, data_lines, settings_lines
from mlfsic_bench.experiments.carried import ArchivedTable
from mlfsic_bench.experiments.decisions import with_rules
from mlfsic_bench.experiments.plan import Options, PlannedRow
from mlfsic_bench.experiments.render import RENDERERS, json_lines, render_terminal
from mlfsic_bench.experiments.schema import Experiment, Profile
from mlfsic_bench.experiments.table import build_table
from mlfsic_bench.files import write_text
from mlfsic_bench.launchers.runs import Done, Log, PlannedRun
from mlfsic_bench.paths import exists
from mlfsic_bench.results.table import table, to_markdown
from mlfsic_bench.text import for_markdown

if TYPE_CHECKING:
    from mlfsic_bench.analysis.attention.pointing import Pointing
    from mlfsic_bench.experiments.table import ReproducedTable
    from mlfsic_bench.results.reopen import RunPaths
    from mlfsic_bench.results.result import Result


def write_outputs(
    name: str,
    experiment: Experiment,
    profile: Profile,
    rows: list[PlannedRow],
    done: Done,
    options: Options,
    log: Log,
    archived: ArchivedTable | None = None,
) -> tuple[str, list[Path]]:
    """Write the files of the experiment below `options.folder`.

    `archived` is the table with the rows that --only left out. Returns the text for the terminal
    and the files that were written.
    """
    stem = options.folder / name
    if experiment.kind == "table":
        return _table(stem, experiment, profile, rows, done, options, log, archived)
    if experiment.kind == "curve":
        return _curve(stem, experiment, profile, rows, done)
    return _attention(stem, experiment, profile, rows, done, options, log)


def _table(
    stem: Path,
    experiment: Experiment,
    profile: Profile,
    rows: list[PlannedRow],
    done: Done,
    options: Options,
    log: Log,
    archived: ArchivedTable | None,
) -> tuple[str, list[Path]]:
    made, results = build_table(experiment, rows, done)
    made = replace(made, caption=caption_of(made, results, rows, profile, options))
    beside: list[Path] = []
    if experiment.tuned:
        place = None if archived is None else archived.path.parent
        made, beside = with_rules(made, results, rows, done, options, log, place)
        made = made if archived is None else archived.with_rules(made, done)
        beside += _breakdown(stem, made, results, rows, options)
    files = [_beside(stem, ending) for ending in RENDERERS]
    for path, render in zip(files, RENDERERS.values(), strict=True):
        write_text(path, render(made))
    return render_terminal(made) + f"\ntable: {files[0]} (.csv, .json)\n", files + beside


def _breakdown(
    stem: Path,
    made: ReproducedTable,
    results: list[list[Result]],
    rows: list[PlannedRow],
    options: Options,
) -> list[Path]:
    from mlfsic_bench.data.registry import dataset_of
    from mlfsic_bench.experiments.breakdown import (
        break_down_table,
        breakdown_json,
        render_breakdown,
    )

    named = {one.meta.split.dataset for own in results for one in own}
    try:
        datasets = [dataset_of(name, options.data_root) for name in named]
    except BenchError:  # a data set in a file: its objects are not looked for
        datasets = []
    found = break_down_table(made, results, rows, datasets[0] if datasets else None)
    if found is None:
        return []
    files = [_beside(stem, f"-breakdown{ending}") for ending in (".md", ".json")]
    write_text(files[0], render_breakdown(found))
    write_text(files[1], breakdown_json(found))
    return files


def _curve(
    stem: Path, experiment: Experiment, profile: Profile, rows: list[PlannedRow], done: Done
) -> tuple[str, list[Path]]:
    from mlfsic_bench.analysis.curve import curve
    from mlfsic_bench.analysis.curve_tables import as_csv, as_table
    from mlfsic_bench.analysis.plots import curve as curve_picture
    from mlfsic_bench.results.result import open_result
    from mlfsic_bench.results.table import to_markdown

    finished = {run.folder: run for row in rows for run in row.runs if run.folder in done.finished}
    if not finished:
        nothing = "No curve was drawn: none of its runs is finished."
        old = _beside(stem, ".md")
        if exists(old):
            nothing += f" {old} and the files beside it are of an earlier call."
        return _bullets([*_states(rows, done), nothing]), []
    read = {folder: open_result(done.place(folder) or folder) for folder in finished}
    splits = {run.plan.split: done.opened.split(run.plan) for run in finished.values()}
    drawn = curve(list(read.values()), list(splits.values()))
    lines = settings_lines(_shown(rows, done), profile) + _states(rows, done)
    text = to_markdown([as_table(drawn)])
    text = f"# {for_markdown(experiment.title)}\n\n{text}\n" + _bullets(lines)
    files = [_beside(stem, ending) for ending in (".md", ".csv", ".png")]
    write_text(files[0], text)
    write_text(files[1], as_csv(drawn))
    curve_picture.draw(drawn, files[2])
    return f"{text}\ntable: {files[0]} (.csv), picture: {files[2]}\n", files


def _attention(
    stem: Path,
    experiment: Experiment,
    profile: Profile,
    rows: list[PlannedRow],
    done: Done,
    options: Options,
    log: Log,
) -> tuple[str, list[Path]]:
    from mlfsic_bench.analysis.attention.pointing import WRITERS, measure
    from mlfsic_bench.results.result import open_result

    finished = [
        (row.spec.name, run) for row in rows for run in row.runs if run.folder in done.finished
    ]
    runs = [run for _, run in finished]
    lines = [f"# {for_markdown(experiment.title)}", ""]
    shown, pictures = _pictures(stem, experiment, finished, log)
    files = [_beside(stem, ".md"), _beside(stem, ".json"), *pictures]
    lines += shown
    measured = []
    tables = []
    for name, run in finished:
        try:
            log(f"measuring where the attention of {run.folder.name} looks")
            pointing = measure(run.folder, _where(run))
        except BenchError as error:
            what = f"{name}, training seed {run.plan.seed}: {error.what}; {error.found}"
            lines += ["", for_markdown(f"Not measured: {what}.")]
            continue
        title = f"{name}, training seed {run.plan.seed}:"
        tables += ["", for_markdown(title), "", WRITERS["markdown"](pointing)]
        measured.append((name, run, pointing))
    lines += [*_summary(measured), *tables]
    read = {run.folder: open_result(run.folder) for run in runs}
    told = data_lines(list(read.values())) + settings_lines(_shown(rows, done), profile)
    text = "\n".join([*lines, "", ""]) + _bullets([*told, *_states(rows, done)])
    write_text(files[0], text)
    values = [{"row": r, "folder": run.folder.name, **p.as_dict()} for r, run, p in measured]
    write_text(files[1], json_lines({"title": experiment.title, "runs": _rounded(values)}, "runs"))
    return text + f"\nfigures: {files[0]} (.json, .png)\n", files


def _pictures(
    stem: Path, experiment: Experiment, finished: list[tuple[str, PlannedRun]], log: Log
) -> tuple[list[str], list[Path]]:
    """Draw the attention of the experiment's first row; the lines that show it, and the files."""
    from mlfsic_bench.analysis.attention.picture import draw_attention

    row = experiment.rows[0].name
    run = next((run for name, run in finished if name == row), None)
    if run is None:
        return [f"No pictures: they show the first row, {for_markdown(row)}, which has no run."], []
    whose = f"{row}, training seed {run.plan.seed}"
    lines = [f"The pictures show {for_markdown(whose)}."]
    files = []
    for episode in experiment.pictures:
        path = stem.with_name(f"{stem.name}-episode{episode}.png")
        files.append(path)
        said = draw_attention(run.folder, _where(run), path, episode=episode, whose=whose)
        log(said)
        alt = f"{whose}: attention in novel episode {episode}"
        lines += ["", f"![{for_markdown(alt)}]({quote(path.name)})", ""]
        hits = said.removeprefix(f"wrote {path}").removeprefix("; ")
        lines.append(f"Novel episode {episode}" + (f": {hits}." if hits else "."))
    return lines, files


def _summary(measured: list[tuple[str, PlannedRun, Pointing]]) -> list[str]:
    """One line for each run: all heads together, in per cent."""
    if not measured:
        return []
    heads = ("row", "seed", "pointing", "by chance", "15 px", "share", "by chance")
    rows = []
    for name, run, pointing in measured:
        one = pointing.summed
        values = (
            *(one.pointing.mean, one.pointing.chance, one.tolerant.mean),
            *(one.share.mean, one.share.chance),
        )
        rows.append([name, str(run.plan.seed), *(f"{100 * value:.1f}" for value in values)])
    return ["", to_markdown([table(heads, rows)]).rstrip()]


def _where(run: PlannedRun) -> RunPaths:
    from mlfsic_bench.results.reopen import RunPaths

    return RunPaths(**{each.name: getattr(run.plan, each.name) for each in fields(RunPaths)})


def _rounded(value: Any) -> Any:
    """JSON values with all fractions to 8 decimals."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 8) if isinstance(value, float) else value


def _shown(rows: list[PlannedRow], done: Done) -> list[PlannedRow]:
    """The rows of which something is shown."""
    return [row for row in rows if any(run.folder in done.finished for run in row.runs)]


def _states(rows: list[PlannedRow], done: Done) -> list[str]:
    lines = [f"{row.spec.name}: not run: {row.not_run}" for row in rows if row.not_run]
    for row in rows:
        lines += [
            f"{row.spec.name}: failed ({run.folder.name}): {done.failed[run.folder]}"
            for run in row.runs
            if run.folder in done.failed
        ]
        if row.left_out and any(run.folder not in done.finished for run in row.runs):
            lines.append(f"{row.spec.name}: not run: left out by --only")
    return lines


def _bullets(lines: list[str]) -> str:
    return "".join(f"- {for_markdown(line)}\n" for line in lines)


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)
