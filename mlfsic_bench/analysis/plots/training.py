"""The course of a training: loss and val macro-AP over steps, and the step that was kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlfsic_bench.analysis.plots.frame import (
    COLOURS,
    DASHES,
    MARKERS,
    Plot,
    check_number,
    dress,
    legend_name,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import CHECKPOINTS
from mlfsic_bench.paths import is_file
from mlfsic_bench.results.conditions import MethodResult, ResultGroup
from mlfsic_bench.training.history import HISTORY_FILE, HistoryRow, read_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 10.0  # a loss that falls by more than this factor is drawn on a logarithmic axis
HEAD = ("run", "step", "loss", "val_macro_ap", "marked")


@dataclass(frozen=True, eq=False)
class _Course:
    """One run's history; `marked` is a step of it, `kept` whether that is known to be the kept one.

    A method with the parameter `select` at `best` keeps the highest val value, the earliest of
    equals; at `last`, or without val values, the last step. Of others only the highest is known.
    """

    run: str
    rows: Sequence[HistoryRow]
    marked: int
    kept: bool


def training(group: ResultGroup) -> Plot:
    """The plot of one or more trainings.

    Raises BenchError for scores files, for runs without a history, for a history that makes no
    sense and for too many runs.
    """
    check_number("training", len(group.methods))
    courses = [_course(one) for one in group.methods]
    rows = [
        (c.run, r["step"], r["loss"], None if r["value"] is None else 100 * r["value"],
         "" if r["step"] != c.marked else "kept" if c.kept else "highest on val")
        for c in courses
        for r in c.rows
    ]  # fmt: skip
    names = [legend_name(one.name, one.changed) for one in group.methods]
    return Plot(
        title=group.title("Training: loss and val macro-AP", novel=False),
        alt=" ".join([*map(_told, courses), *group.off_defaults]),
        head=HEAD,
        rows=tuple(rows),
        size=(7.6, 5.4 + 0.18 * len(courses)),
        draw=lambda figure: _draw(figure, courses, names),
    )


def _course(one: MethodResult) -> _Course:
    result = one.first
    folders = [result.path, result.path / CHECKPOINTS] if result.record else []
    found = [folder for folder in folders if is_file(folder / HISTORY_FILE)]
    if not found:
        raise BenchError(
            f"{result.path} has no training history",
            expected=f"the folder of a run whose method wrote {HISTORY_FILE}",
            found="a scores file" if result.record is None else f"no {HISTORY_FILE} in the folder",
            remedy="name runs of methods that train step by step",
        )
    rows = read_history(found[0])
    _check(found[0] / HISTORY_FILE, rows)
    select = result.method.parameters.get("select")
    valued = [(row["value"], -row["step"]) for row in rows if row["value"] is not None]
    if not valued or select == "last":
        return _Course(one.name, rows, rows[-1]["step"], True)
    return _Course(one.name, rows, -max(valued)[1], select == "best")


def _check(path: object, rows: Sequence[HistoryRow]) -> None:
    before, wrong = 0, "no rows" if not rows else ""
    for row in rows:
        step, loss, value = row["step"], row["loss"], row["value"]
        if not _number(step) or step != int(step) or step <= before:
            wrong = f"step {step!r} after step {before}"
        elif not _number(loss) or not (value is None or (_number(value) and 0 <= value <= 1)):
            wrong = f"loss {loss!r}, value {value!r} at step {step}"
        if wrong:
            break
        before = step
    if wrong:
        raise BenchError(
            f"{path} is not a readable training history",
            expected="rising steps, finite losses, val values from 0 to 1 or null",
            found=wrong[:200],
            remedy="run the method again, or restore the file",
        )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _told(course: _Course) -> str:
    first, last = course.rows[0], course.rows[-1]
    text = f"{course.run}: loss {first['loss']:.3g} at step {first['step']:,}, {last['loss']:.3g} "
    text += f"at step {last['step']:,}"
    value = next((r["value"] for r in course.rows if r["step"] == course.marked), None)
    mark = "step kept" if course.kept else "highest on val, step"
    text += f"; {mark}: {course.marked:,}"
    return text + (f", val macro-AP {100 * value:.1f}." if value is not None else ".")


def _draw(figure: Figure, courses: Sequence[_Course], names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    upper, lower = figure.subplots(2, 1, sharex=True)
    losses = [row["loss"] for course in courses for row in course.rows]
    log = min(losses) > 0 and max(losses) > WIDE * min(losses)
    for i, course in enumerate(courses):
        colour, dash = COLOURS[i], DASHES[i]
        steps = [row["step"] for row in course.rows]
        single = MARKERS[i] if len(steps) == 1 else ""  # one point makes no line
        upper.plot(steps, [row["loss"] for row in course.rows], color=colour, linestyle=dash,
                   marker=single, linewidth=1.4)  # fmt: skip
        valued = [(r["step"], 100 * r["value"]) for r in course.rows if r["value"] is not None]
        if valued:
            lower.plot(*zip(*valued, strict=True), color=colour, linestyle=dash, linewidth=1.4,
                       marker=MARKERS[i], markersize=3.5)  # fmt: skip
        for axes in (upper, lower):
            axes.axvline(course.marked, color=colour, linestyle=":", linewidth=1.2)
        high = dict(valued).get(course.marked)
        if high is not None:
            lower.plot([course.marked], [high], MARKERS[i], color=colour, markersize=9,
                       markeredgecolor="black")  # fmt: skip
    if log:
        upper.set_yscale("log")
        upper.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        upper.yaxis.set_minor_formatter(NullFormatter())
    upper.set_ylabel("training loss" + (" (logarithmic)" if log else ""), fontsize=9)
    lower.set_ylabel("val macro-AP (per cent)", fontsize=9)
    lower.set_xlabel("training step (number)", fontsize=9)
    lower.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if not any(row["value"] is not None for course in courses for row in course.rows):
        lower.text(0.5, 0.5, "nothing was evaluated on val", transform=lower.transAxes,
                   ha="center", va="center", fontsize=9, color="0.3")  # fmt: skip
        lower.set_yticks([])
    for axes in (upper, lower):
        dress(axes, "both")
    handles = [
        Line2D([], [], color=COLOURS[i], linestyle=DASHES[i], marker=MARKERS[i],
               label=f"{name}; {'kept' if c.kept else 'highest on val'} (dotted): step "
               f"{c.marked:,}")
        for i, (c, name) in enumerate(zip(courses, names, strict=True))
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=1, fontsize=8, frameon=False)
