"""Paired comparisons over episodes: every pair, or all against one, for each metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mlfsic_bench.analysis.estimates import (
    Covered,
    Report,
    covered,
    estimate,
    half_width,
    number,
    per_cent,
    points,
)
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.evaluation.meta import BaseImages, EpisodesMeta, SplitMeta
from mlfsic_bench.evaluation.record import RECORD
from mlfsic_bench.metrics.intervals import (
    LEVEL,
    Float64,
    average_ranks,
    holm,
    image_interval,
    paired,
)
from mlfsic_bench.metrics.registry import METRICS_VERSION, check_names
from mlfsic_bench.paths import is_file, same_place
from mlfsic_bench.results.captions import count_labels, disjoint_note, limits_of
from mlfsic_bench.results.conditions import MethodResult, ResultGroup, Seeds, open_group
from mlfsic_bench.results.table import Table, table, to_html, to_markdown, to_text
from mlfsic_bench.results.targets import SplitPlace, note_on
from mlfsic_bench.text import csv_text, for_json


class Compared(Report):
    """One method: its name, its method, its files and the training seeds averaged over.

    `changed`: the parameters that are not at the method's defaults, with their values.
    `base_images`: on how many it was trained, null for all and where that is not stated.
    """

    name: str
    method: str
    files: list[str]
    seeds: list[int]
    changed: dict[str, Any]
    base_images: BaseImages | None


class MethodSummary(Report):
    """One method under one metric: mean over episodes, half widths, average rank over episodes."""

    name: str
    mean: float | None
    episodes: float | None
    images: float | None
    rank: float | None


class Pair(Report):
    """a minus b: mean, half widths of its 95 % intervals, p values raw and after Holm, counts.

    `n` episodes in which both are defined; `wins` are those in which a is above b.
    """

    a: str
    b: str
    n: int
    mean: float | None
    episodes: float | None
    images: float | None
    t_p: float | None
    t_holm: float | None
    wilcoxon_p: float | None
    wilcoxon_holm: float | None
    wins: int
    ties: int
    losses: int


class MetricComparison(Report):
    """All methods and all pairs of the family under one metric."""

    metric: str
    undefined: int
    methods: list[MethodSummary]
    pairs: list[Pair]


class CompareReport(Report):
    """Everything that was compared, on the same split and episodes.

    `against`: the name of the reference when the family is all others against it, else null.
    `targets`, `image_intervals`: as in the report of `mlfsic-bench score`.
    """

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench compare"] = "mlfsic-bench compare"
    metrics_version: str
    split: SplitMeta
    episodes: EpisodesMeta
    labels: list[str]
    targets: Literal["rebuilt", "stored"]
    image_intervals: Covered
    against: str | None
    methods: list[Compared]
    metrics: list[MetricComparison]
    notes: list[str]


def compare(
    paths: Sequence[Path],
    place: SplitPlace | None = None,
    *,
    metrics: Sequence[str] = ("macro_ap",),
    against: str | None = None,
    seeds: Seeds = "mean",
) -> CompareReport:
    """Compare runs and scores files of the same episodes.

    Parameters
    ----------
    paths: scores files, or folders of finished runs.
    place: where split and episodes are found, if not by what the results say.
    metrics: names in the registry; each has a family of pairs of its own.
    against: a name or a path; the family is then all others against that one, instead of all pairs.
    seeds: `mean` averages over the training seeds of a method, `each` keeps them as they are.

    Raises BenchError for what can't be compared, for fewer than two entries and unknown names.
    """
    names = check_names(metrics)
    given = list(paths)
    reference = _as_path(against)
    if reference is not None and all(not same_place(path, reference) for path in given):
        given.append(reference)
    group = open_group(given, place, seeds=seeds)
    _check_number(group)
    one = None if against is None else _reference(group, against, reference)
    targets, meta = group.targets, group.meta
    made = [_metric(name, group, one) for name in dict.fromkeys(names)]
    return CompareReport(
        metrics_version=METRICS_VERSION,
        split=meta.split,
        episodes=meta.episodes,
        labels=meta.labels,
        targets=targets.origin,
        image_intervals=covered(group.images),
        against=one.name if one else None,
        methods=[_compared(one) for one in group.methods],
        metrics=made,
        notes=_notes(group, made),
    )


def _metric(name: str, group: ResultGroup, reference: MethodResult | None) -> MetricComparison:
    measured = [one.measured([name], group.targets) for one in group.methods]
    values, influence = ([each[i][name] for each in measured] for i in (0, 1))
    ranks = average_ranks(np.stack(values))
    summaries = []
    for i, one in enumerate(group.methods):
        found = estimate(values[i], influence[i], group.images)
        rank = number(float(ranks[i]))
        summaries.append(MethodSummary(name=one.name, rank=rank, **found.model_dump()))
    family = list(combinations(range(len(values)), 2))
    if reference is not None:
        against = group.methods.index(reference)
        family = [(i, against) for i in range(len(values)) if i != against]
    pairs = [_pair(group, values, influence, i, j) for i, j in family]
    nan = float("nan")
    t = holm([nan if p.t_p is None else p.t_p for p in pairs])
    w = holm([nan if p.wilcoxon_p is None else p.wilcoxon_p for p in pairs])
    return MetricComparison(
        metric=name,
        undefined=int(np.isnan(np.stack(values)).any(axis=0).sum()),
        methods=summaries,
        pairs=[
            pair.model_copy(update={"t_holm": number(a), "wilcoxon_holm": number(b)})
            for pair, a, b in zip(pairs, t, w, strict=True)
        ],
    )


def _pair(
    group: ResultGroup,
    values: Sequence[Float64],
    influence: Sequence[Float64],
    i: int,
    j: int,
) -> Pair:
    """Method i minus method j; Holm's values follow when the whole family is known."""
    result = paired(values[i], values[j])
    # A metric's influence is a difference of its values, so that of a - b is the difference.
    over_images = image_interval(values[i] - values[j], influence[i] - influence[j], group.images)
    return Pair(
        a=group.methods[i].name,
        b=group.methods[j].name,
        n=result.n,
        mean=number(result.mean),
        episodes=number(result.half_width),
        images=number(over_images.half_width),
        t_p=number(result.t_p),
        t_holm=None,
        wilcoxon_p=number(result.wilcoxon_p),
        wilcoxon_holm=None,
        wins=result.wins,
        ties=result.ties,
        losses=result.losses,
    )


def _compared(one: MethodResult) -> Compared:
    return Compared(
        name=one.name,
        method=one.method.name,
        files=[result.path.name or str(result.path) for result in one.results],
        seeds=list(one.seeds),
        changed=one.changed,
        base_images=one.base_images,
    )


def _check_number(group: ResultGroup) -> None:
    if len(group.methods) > 1:
        return
    (one,) = group.methods
    several = len(one.results) > 1
    raise BenchError(
        "a comparison needs two methods",
        expected="runs of at least two methods, or of one with two settings",
        found=f"{len(one.results)} training seeds of {one.name}" if several else one.name,
        remedy="add --seeds each to compare the seeds" if several else "name another run",
    )


def _as_path(against: str | None) -> Path | None:
    """`against` as a path, if a run or a file lies there; it is a name otherwise."""
    if against is None:
        return None
    path = Path(against)
    try:
        return path if is_file(path) or is_file(path / RECORD) else None
    except BenchError:
        if len(path.parts) > 1:
            raise
        return None  # a name too long for a path, or with a NUL


def _reference(group: ResultGroup, against: str, path: Path | None) -> MethodResult:
    named = [one for one in group.methods if one.name == against]
    if path is not None:
        named = [
            one
            for one in group.methods
            if any(same_place(result.path, path) for result in one.results)
        ]
    if not named:
        named = [one for one in group.methods if one.method.name == against]
    if len(named) == 1:
        return named[0]
    if named:
        raise BenchError(
            f"--against {against!r} fits {len(named)} of the methods",
            expected="the full name of one, or its folder",
            found=", ".join(one.name for one in named)[:400],
            remedy="name the one that is meant",
        )
    raise unknown_name("reference --against", against, [one.name for one in group.methods])


def _notes(group: ResultGroup, made: Sequence[MetricComparison]) -> list[str]:
    split, episodes = group.meta.split, group.meta.episodes
    notes = []
    for one in group.methods:
        if len(one.seeds) > 1:
            seeds = ", ".join(str(seed) for seed in one.seeds)
            notes.append(
                f"{one.name}: each episode's value is the mean over training seeds {seeds}; no "
                "interval here covers the spread over seeds."
            )
    notes += group.differing
    notes += group.off_defaults
    for metric in made:
        uncertain = [
            f"{pair.a} against {pair.b}"
            for pair in metric.pairs
            if None not in (pair.mean, pair.images, pair.t_holm)
            and (pair.t_holm or 0.0) < LEVEL
            and abs(pair.mean or 0.0) < (pair.images or 0.0)
        ]
        if uncertain:
            notes.append(
                f"{metric.metric}: the p values are about other episodes from these images only. "
                f"With other images the difference may vanish for: {'; '.join(uncertain)}."
            )
        if metric.undefined:
            notes.append(f"{metric.metric}: undefined in {metric.undefined} episodes, left out.")
    notes += limits_of(split)
    if episodes.count < episodes.total:
        notes.append(f"Only the first {episodes.count} of {episodes.total} episodes were compared.")
    notes += note_on(group.targets)
    return notes


SMALLEST = 0.0001
PAIR_HEADS = ("difference", "± episodes", "± images", "win/tie/loss", "t: p", "t: Holm",
              "Wilcoxon: p", "Wilcoxon: Holm")  # fmt: skip


def caption(report: CompareReport) -> list[str]:
    """Sentences that say what the values are of."""
    split, episodes = report.split, report.episodes
    labels = count_labels(
        split.id, report.labels, subset=split.subset, noun="novel labels", part=episodes.part
    )
    pairs = len(report.metrics[0].pairs)
    family = "all against one" if report.against else "all pairs"
    return [
        f"Split {split.id} ({split.hash[:12]}), {labels}; protocol "
        f"{episodes.drawn_by.title}; {episodes.count} episodes ({episodes.hash[:12]}); "
        f"{report.metrics_version}.",
        "Differences are the first minus the second, paired over episodes, in points (per cent). ± "
        "is the half width of a 95 % interval: over episodes (Student t; these images, other "
        f"episodes) and over images (other images; covers {report.image_intervals}).",
        "win/tie/loss: episodes in which the first is above, equal, below. Average rank over "
        "episodes, 1 is best, equal values share their ranks.",
        f"p: two-sided, of paired t and Wilcoxon (Pratt's zeros). Holm: over {family}, {pairs} "
        f"{'comparison' if pairs == 1 else 'comparisons'} a metric, each test by itself.",
        *disjoint_note(episodes),
        *report.notes,
    ]


def tables(report: CompareReport, *, numbered: bool = False) -> list[Table]:
    """Of each metric the methods, then the pairs; `numbered` names pairs by numbers, to fit."""
    place = {one.name: str(i + 1) for i, one in enumerate(report.methods)}
    found = []
    for metric in report.metrics:
        rows = [
            (*([place[one.name]] if numbered else [one.name]), per_cent(one.mean),
             half_width(one.episodes), half_width(one.images), _rank(one.rank),
             *([one.name] if numbered else []))
            for one in metric.methods
        ]  # fmt: skip
        numbers = ("mean", "± episodes", "± images", "average rank")
        heads = ["#", *numbers, "method"] if numbered else ["Method", *numbers]
        found.append(table(heads, rows, title=metric.metric, texts=(0, 5)))
        pairs = [
            (f"{place[p.a]} - {place[p.b]}" if numbered else f"{p.a} − {p.b}", *_pair_cells(p))
            for p in metric.pairs
        ]
        heads = ["#", *_SHORT_HEADS] if numbered else ["Pair", *PAIR_HEADS]
        found.append(table(heads, pairs))
    return found


_SHORT_HEADS = ("diff", "±\nepisodes", "±\nimages", "win/tie/\nloss", "t test\np", "t test\nHolm",
                "Wilcoxon\np", "Wilcoxon\nHolm")  # fmt: skip


def to_csv(report: CompareReport) -> str:
    """A line for each method and each pair, in per cent, unrounded; the caption in the last column.

    Lines of methods have an empty `b` and their average rank; lines of pairs have the rest.
    """
    lines: list[list[object]] = [
        ["metric", "a", "b", "mean", "episodes", "images", "rank", "n", "wins", "ties", "losses",
         "t_p", "t_holm", "wilcoxon_p", "wilcoxon_holm", "caption"]
    ]  # fmt: skip
    about = " ".join(caption(report))
    for metric in report.metrics:
        for s in metric.methods:
            numbers = map(points, (s.mean, s.episodes, s.images))
            lines.append([metric.metric, s.name, None, *numbers, s.rank, *[None] * 8, about])
        for p in metric.pairs:
            numbers = map(points, (p.mean, p.episodes, p.images))
            counts = (p.n, p.wins, p.ties, p.losses)
            tests = (p.t_p, p.t_holm, p.wilcoxon_p, p.wilcoxon_holm)
            lines.append([metric.metric, p.a, p.b, *numbers, None, *counts, *tests, about])
    return csv_text(lines)


WRITERS: dict[str, Callable[[CompareReport], str]] = {
    "text": lambda report: to_text(tables(report, numbered=True), caption(report)),
    "markdown": lambda report: to_markdown(tables(report), caption(report)),
    "html": lambda report: to_html(tables(report), caption(report)),
    "csv": to_csv,
    "json": lambda report: for_json(report.model_dump(mode="json")) + "\n",
}


def sentence(metric: MetricComparison) -> str:
    """In words what a difference plot of this metric shows, for those who don't see it."""
    ordered = sorted(metric.pairs, key=lambda pair: -(pair.mean or 0.0))
    said = "; ".join(
        f"{pair.a} minus {pair.b} {_signed(pair.mean)} {half_width(pair.images)} over images"
        for pair in ordered[:6]
    )
    rest = f"; and {len(ordered) - 6} more" if len(ordered) > 6 else ""
    return f"Paired differences in {metric.metric}, in points: {said}{rest}."


def _pair_cells(pair: Pair) -> tuple[str, ...]:
    return (
        _signed(pair.mean),
        half_width(pair.episodes),
        half_width(pair.images),
        f"{pair.wins}/{pair.ties}/{pair.losses}",
        *(_p(x) for x in (pair.t_p, pair.t_holm, pair.wilcoxon_p, pair.wilcoxon_holm)),
    )


def _signed(value: float | None) -> str:
    if value is None:
        return "-"
    text = f"{100 * value:+.2f}"
    return "0.00" if float(text) == 0 else text


def _rank(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return f"<{SMALLEST}" if value < SMALLEST else f"{value:.4f}"
