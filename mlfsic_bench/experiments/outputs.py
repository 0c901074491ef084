"""What a reproduction leaves behind and prints, for each kind of experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.caption import caption_of, data_lines, settings_lines
from mlfsic_bench.experiments.engine import Done, Log
from mlfsic_bench.experiments.plan import Options, PlannedRow, PlannedRun
from mlfsic_bench.experiments.render import (
    render_csv,
    render_json,
    render_markdown,
    render_terminal,
)
from mlfsic_bench.experiments.results import build_result
from mlfsic_bench.experiments.schema import Experiment, Profile
from mlfsic_bench.files import write_json, write_text
from mlfsic_bench.report.escape import markdown

if TYPE_CHECKING:
    from mlfsic_bench.report.pointing import Pointing
    from mlfsic_bench.report.reopen import Whereabouts


def write_outputs(
    name: str,
    experiment: Experiment,
    profile: Profile,
    rows: list[PlannedRow],
    done: Done,
    options: Options,
    log: Log,
) -> str:
    """Write the files of the experiment below `options.folder`; the text for the terminal."""
    stem = options.folder / name
    if experiment.kind == "table":
        return _table(stem, experiment, profile, rows, done, options)
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
) -> str:
    result = build_result(experiment, rows, done)
    caption = caption_of(result, profile, options)
    write_text(_beside(stem, ".md"), render_markdown(result, caption))
    write_text(_beside(stem, ".csv"), render_csv(result, caption))
    write_text(_beside(stem, ".json"), render_json(result, caption))
    return render_terminal(result, caption) + f"\ntable: {_beside(stem, '.md')} (.csv, .json)\n"


def _curve(
    stem: Path, experiment: Experiment, profile: Profile, rows: list[PlannedRow], done: Done
) -> str:
    from mlfsic_bench.report import curve_picture, curve_text
    from mlfsic_bench.report.curve import curve
    from mlfsic_bench.report.runs import read_run

    folders = dict.fromkeys(run.folder for row in rows for run in row.runs)
    runs = [read_run(folder) for folder in folders if folder in done.finished]
    if not runs:
        return _states(rows, done)
    drawn = curve(runs)
    lines = [*settings_lines(rows, profile), *_states(rows, done).splitlines()]
    text = curve_text.render_markdown(drawn)
    text = f"# {experiment.title}\n\n{text}\n" + "".join(f"- {line}\n" for line in lines)
    write_text(_beside(stem, ".md"), text)
    write_text(_beside(stem, ".csv"), curve_text.render_csv(drawn))
    curve_picture.draw(drawn, _beside(stem, ".png"))
    return f"{text}\ntable: {_beside(stem, '.md')} (.csv), picture: {_beside(stem, '.png')}\n"


def _attention(
    stem: Path,
    experiment: Experiment,
    profile: Profile,
    rows: list[PlannedRow],
    done: Done,
    options: Options,
    log: Log,
) -> str:
    from mlfsic_bench.report.pointing_render import RENDERERS
    from mlfsic_bench.report.runs import read_run

    finished = [
        (row.spec.name, run) for row in rows for run in row.runs if run.folder in done.finished
    ]
    runs = [run for _, run in finished]
    lines = [f"# {experiment.title}", ""]
    if runs:
        lines += _pictures(stem, experiment, runs[0], log)
    measured = []
    tables = []
    for name, run in finished:
        try:
            pointing = _measure(run, log)
        except BenchError as error:
            lines += ["", f"Not measured: {error.what}; {error.found}."]
            break
        title = f"{name}, training seed {run.plan.seed}:"
        tables += ["", title, "", RENDERERS["markdown"](pointing)]
        measured.append((name, run, pointing))
    lines += [*_summary(measured), *tables]
    told = data_lines([read_run(run.folder) for run in runs]) + settings_lines(rows, profile)
    lines += ["", *(f"- {line}" for line in told), *(_states(rows, done).splitlines())]
    text = "\n".join(lines) + "\n"
    write_text(_beside(stem, ".md"), text)
    values = [{"row": r, "folder": run.folder.name, **p.as_dict()} for r, run, p in measured]
    write_json(_beside(stem, ".json"), {"title": experiment.title, "runs": values})
    return text + f"\nfigures: {_beside(stem, '.md')} (.json, .png)\n"


def _pictures(stem: Path, experiment: Experiment, run: PlannedRun, log: Log) -> list[str]:
    from mlfsic_bench.report.attention_run import draw_attention

    lines = []
    for episode in experiment.pictures:
        path = stem.with_name(f"{stem.name}-episode{episode}.png")
        said = draw_attention(run.folder, _where(run), path, episode=episode)
        log(said)
        lines.append(f"![attention in novel episode {episode}]({path.name})")
        lines += ["", said.replace(str(path), path.name), ""]
    return lines


def _summary(measured: list[tuple[str, PlannedRun, Pointing]]) -> list[str]:
    """One line for each run: all heads together, in per cent."""
    if not measured:
        return []
    heads = ("row", "seed", "pointing", "by chance", "15 px", "share", "by chance")
    lines = ["", "| " + " | ".join(heads) + " |", "|:--|--:|--:|--:|--:|--:|--:|"]
    for name, run, pointing in measured:
        hit, near, share = (
            pointing.summed.pointing,
            pointing.summed.tolerant,
            pointing.summed.share,
        )
        values = (hit.mean, hit.chance, near.mean, share.mean, share.chance)
        cells = (f"{100 * value:.1f}" for value in values)
        lines.append(f"| {markdown(name)} | {run.plan.seed} | " + " | ".join(cells) + " |")
    return lines


def _measure(run: PlannedRun, log: Log) -> Pointing:
    from mlfsic_bench.report.pointing import measure

    log(f"measuring where the attention of {run.folder.name} looks")
    return measure(run.folder, _where(run))


def _where(run: PlannedRun) -> Whereabouts:
    from mlfsic_bench.report.reopen import Whereabouts

    plan = run.plan
    return Whereabouts(
        method=plan.method if ":" in plan.method else None,
        split=plan.split,
        data_root=plan.data_root,
        words=plan.words,
        weights=plan.weights,
        cache=plan.cache,
    )


def _states(rows: list[PlannedRow], done: Done) -> str:
    lines = [f"- {row.spec.name}: not run: {row.not_run}" for row in rows if row.not_run]
    for row in rows:
        lines += [
            f"- {row.spec.name}: failed ({run.folder.name}): {done.failed[run.folder]}"
            for run in row.runs
            if run.folder in done.failed
        ]
        if row.left_out and any(run.folder not in done.finished for run in row.runs):
            lines.append(f"- {row.spec.name}: not run: left out by --only")
    return "".join(f"{line}\n" for line in lines)


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)
