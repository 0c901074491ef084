"""Every metric of results, with intervals over episodes, images and seeds, and what they are of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from mlfsic_bench.analysis.breakdowns import BREAKDOWNS, break_down
from mlfsic_bench.analysis.estimates import (
    Breakdown,
    Covered,
    Estimate,
    Report,
    covered,
    estimate,
    half_width,
    number,
    per_cent,
    points,
)
from mlfsic_bench.errors import unknown_name
from mlfsic_bench.evaluation.counts import read_counts
from mlfsic_bench.evaluation.meta import EpisodesMeta, MethodMeta, SplitMeta
from mlfsic_bench.evaluation.record import Record
from mlfsic_bench.metrics.conventions import CONVENTIONS, convention_values
from mlfsic_bench.metrics.decisions import RULE_TEXTS, Rule
from mlfsic_bench.metrics.intervals import EpisodeImages, episode_images, t_interval
from mlfsic_bench.metrics.registry import METRICS, METRICS_VERSION, chance_levels, undefined_counts
from mlfsic_bench.results.captions import (
    count_labels,
    disjoint_note,
    doubts,
    limits_of,
    off_defaults,
    small_pools,
)
from mlfsic_bench.results.conditions import check_comparable, not_seeds, seed_groups
from mlfsic_bench.results.decision_rules import Decided, decided
from mlfsic_bench.results.result import Result, Targets, open_result
from mlfsic_bench.results.table import Table, table, to_markdown, to_text
from mlfsic_bench.results.targets import SplitPlace, note_on, targets_of
from mlfsic_bench.text import csv_text, for_json


class SeedsEstimate(Report):
    """A mean over training seeds and the half width of its Student t interval over them."""

    mean: float | None
    seeds: float | None


class RuleScore(Report):
    """One result under one decision rule: the metrics that depend on decisions.

    `threshold`: of the rule `val`. `labels`: predicted labels of a query image, mean.
    """

    rule: Rule
    threshold: float | None
    labels: float
    metrics: dict[str, Estimate]


class FileScore(Report):
    """One result; `undefined`: how often a convention stepped in."""

    file: str
    sha256: str
    run: str | None
    method: MethodMeta
    metrics: dict[str, Estimate]
    undefined: dict[str, int]
    breakdown: Breakdown | None = None
    conventions: dict[str, float | None] | None = None
    decisions: list[RuleScore] | None = None


class SeedsScore(Report):
    """One method over its training seeds; all else that it was made with is equal."""

    method: str
    files: list[str]
    seeds: list[int]
    metrics: dict[str, SeedsEstimate]


class ScoreReport(Report):
    """All results, on the same split and episodes; fractions, null where undefined.

    `targets`: whether they were `rebuilt` from split and episodes, or `stored` by the runs.
    `image_intervals`: what these cover.
    """

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench score"] = "mlfsic-bench score"
    metrics_version: str
    split: SplitMeta
    episodes: EpisodesMeta
    labels: list[str]
    queries: int
    targets: Literal["rebuilt", "stored"]
    image_intervals: Covered
    chance: dict[str, float | None]
    files: list[FileScore]
    seeds: list[SeedsScore]
    notes: list[str]


def score_files(
    paths: Sequence[Path],
    place: SplitPlace | None = None,
    *,
    by: str | None = None,
    conventions: bool = False,
    rules: Sequence[Rule] = (),
    val_runs: Sequence[Path] = (),
    counts: Path | None = None,
) -> ScoreReport:
    """Score files and run folders that were made on the same split and episodes.

    Parameters
    ----------
    paths: scores files, or folders of finished runs.
    place: where split and episodes are found, if not by what the results say.
    by: one of BREAKDOWNS, to break each result's scores down as well.
    conventions: whether to add the values under all conventions.
    rules: decision rules to add the values under (docs/metrics.md).
    val_runs: folders of runs on val episodes, for the rule `val`.
    counts: a file of label counts, for the rule `count`.

    Raises BenchError for files that are unsound, not comparable or named twice, and for a split or
    episodes that are not those of their hashes.
    """
    if by is not None and by not in BREAKDOWNS:
        raise unknown_name("breakdown", by, BREAKDOWNS)
    results = [open_result(path) for path in paths]
    check_comparable(results)
    targets = targets_of(results, place)
    images = episode_images(targets.query, targets.support, targets.drawn_for)
    on_val = [open_result(path) for path in dict.fromkeys(val_runs)]
    given = read_counts(counts) if counts is not None else None
    under = [
        [decided(result, rule, val_runs=on_val, counts=given) for rule in dict.fromkeys(rules)]
        for result in results
    ]
    files = [
        _file_score(result, targets, images, by, conventions, of_rules)
        for result, of_rules in zip(results, under, strict=True)
    ]
    said = [note for of_rules in under for one in of_rules for note in one.notes]
    meta = results[0].meta
    micro, macro = chance_levels(targets.targets)
    return ScoreReport(
        metrics_version=METRICS_VERSION,
        split=meta.split,
        episodes=meta.episodes,
        labels=meta.labels,
        queries=targets.targets.shape[1],
        targets=targets.origin,
        image_intervals=covered(images),
        chance={"micro_ap": number(micro), "macro_ap": number(macro)},
        files=files,
        seeds=_seeds(results, files),
        notes=[*_notes(results, targets), *said],
    )


def estimates(
    result: Result, targets: Targets, images: EpisodeImages, names: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """Metrics of one result, all by default: means and intervals over episodes and images."""
    names = tuple(METRICS) if names is None else names
    values, influence = result.measured(names, targets)
    return {name: estimate(values[name], influence[name], images) for name in names}


def _file_score(
    result: Result,
    targets: Targets,
    images: EpisodeImages,
    by: str | None,
    conventions: bool,
    of_rules: Sequence[Decided],
) -> FileScore:
    scores = result.scores
    arrays = (scores.scores, targets.targets, scores.decisions)
    every = convention_values(*arrays) if conventions else {}
    return FileScore(
        file=result.path.name,
        sha256=result.sha256,
        run=result.meta.run,
        method=result.method,
        metrics=estimates(result, targets, images),
        undefined=undefined_counts(*arrays),
        breakdown=None if by is None else break_down(by, scores, targets, images),
        conventions={name: number(x) for name, x in every.items()} if conventions else None,
        decisions=[_rule_score(one, targets, images) for one in of_rules] or None,
    )


def _rule_score(one: Decided, targets: Targets, images: EpisodeImages) -> RuleScore:
    names = [name for name, metric in METRICS.items() if not metric.ranks]
    decisions = one.decisions
    return RuleScore(
        rule=one.rule,
        threshold=one.threshold,
        labels=float(decisions.sum(axis=2).mean()),
        metrics=estimates(one.result, targets, images, names),
    )


def _seeds(results: Sequence[Result], files: Sequence[FileScore]) -> list[SeedsScore]:
    """Results that differ in the training seed only, two or more, each seed once."""
    made = dict(zip(map(id, results), files, strict=True))
    found = []
    for results_of_one in seed_groups(results):
        group = [made[id(result)] for result in results_of_one]
        seeds = [file.method.seed for file in group]
        if len(group) < 2 or len(set(seeds)) < len(seeds):
            continue
        rows = {}
        for name in METRICS:
            means = [file.metrics[name].mean for file in group]
            mean, half = t_interval(np.array([math.nan if x is None else x for x in means]))
            rows[name] = SeedsEstimate(mean=number(mean), seeds=number(half))
        files_of_one = [file.file for file in group]
        name = group[0].method.name
        found.append(SeedsScore(method=name, files=files_of_one, seeds=seeds, metrics=rows))
    return found


def _notes(results: Sequence[Result], targets: Targets) -> list[str]:
    """Sentences below the values: subset, episodes, targets, small pools, how files were made."""
    meta = results[0].meta
    lines = limits_of(meta.split)
    if meta.episodes.count < meta.episodes.total:
        lines.append(
            f"Only the first {meta.episodes.count} of {meta.episodes.total} episodes were scored."
        )
    lines += note_on(targets)
    lines += small_pools(targets, meta.labels)
    lines += [line for result in results for line in _origin(result)]
    lines += doubts((r.path.name, r.record) for r in results if r.record is not None)
    return [*lines, *not_seeds(results), *off_defaults((r.method.name, r.changed) for r in results)]


def _origin(result: Result) -> list[str]:
    """How one result was made, as far as its record or description says."""
    meta, name = result.meta, result.path.name
    if result.record is not None:
        return [f"{name}: {_inputs(result.record)}."]
    lines = []
    if meta.base_images is not None:
        lines.append(f"{name}: trained on {meta.base_images.text}, as the file says.")
    if meta.run is not None:
        lines.append(
            f"{name} is a run's, without its folder: backbone and label embeddings are not "
            "stated, so it is not taken together with others as training seeds."
        )
    return lines


def _inputs(record: Record) -> str:
    parts = []
    if record.features is not None:
        f = record.features
        how = "trained end to end" if f.mode == "end-to-end" else "frozen"
        parts.append(f"backbone {f.backbone} (weights {f.weights}, {how}, {f.precision})")
    else:
        parts.append("no backbone")
    unused = "" if record.method.uses_words else " (not used)"
    words = record.words
    parts.append(f"label embeddings {words.name}{unused}" if words else "no label embeddings")
    if record.base_images is not None:
        parts.append(record.base_images.text)
    elif record.method.trains:
        parts.append("all base images")
    return ", ".join(parts)


def tables(report: ScoreReport) -> list[Table]:
    """The tables of a report, in per cent: results, seeds, breakdowns and conventions."""
    found = []
    for file in report.files:
        rows = [
            (name, per_cent(x.mean), half_width(x.episodes), half_width(x.images))
            for name, x in file.metrics.items()
        ]
        heads = ("metric", "mean", "± episodes", "± images")
        found.append(table(heads, rows, title=_title(file)))
        if file.decisions is not None:
            found.append(_rules_table(file, file.decisions))
        if file.breakdown is not None:
            found.append(_breakdown_table(file, file.breakdown))
        if file.conventions is not None:
            lines = [
                (name, per_cent(x), f"{CONVENTIONS[name].definition} [{CONVENTIONS[name].used_by}]")
                for name, x in file.conventions.items()
            ]
            title = f"{_title(file)}, the same scores under other conventions"
            about = ("convention", "value", "definition [used by]")
            found.append(table(about, lines, title=title, texts=(0, 2)))
    for group in report.seeds:
        seeds = ", ".join(str(seed) for seed in group.seeds)
        over = [(name, per_cent(x.mean), half_width(x.seeds)) for name, x in group.metrics.items()]
        title = f"{group.method}, training seeds {seeds}"
        found.append(table(("metric", "mean", "± seeds"), over, title=title))
    return found


def _rules_table(file: FileScore, rules: Sequence[RuleScore]) -> Table:
    """AP first, which no rule changes; then the metrics that depend on the decisions."""
    ranked = [name for name, metric in METRICS.items() if metric.ranks]
    rows = [(name, *[_with_half(file.metrics[name])] * len(rules)) for name in ranked]
    rows += [
        (name, *(_with_half(rule.metrics[name]) for rule in rules)) for name in rules[0].metrics
    ]
    rows.append(("labels per image", *(f"{rule.labels:.2f}" for rule in rules)))
    heads = [
        rule.rule if rule.threshold is None else f"{rule.rule} (score > {rule.threshold:.4g})"
        for rule in rules
    ]
    title = f"{_title(file)}, by decision rule"
    rules_are = "; ".join(f"{rule.rule}: {RULE_TEXTS[rule.rule]}" for rule in rules)
    about = f"Decision rules: {rules_are}. ± over episodes."
    return table(("metric", *heads), rows, title=title, caption=(about,))


def _breakdown_table(file: FileScore, part: Breakdown) -> Table:
    counts = list(dict.fromkeys(name for group in part.groups for name in group.counts))
    names = list(dict.fromkeys(name for group in part.groups for name in group.values))
    rows = [
        (
            group.name,
            *(str(group.counts.get(name, "")) for name in counts),
            *(_with_half(group.values.get(name)) for name in names),
        )
        for group in part.groups
    ]
    return table(
        (part.by, *(name.replace("_", " ") for name in counts), *names),
        rows,
        title=f"{_title(file)}, by {part.by}",
        caption=(f"By {part.by}: {part.definition}. ± over episodes.",),
    )


def _title(file: FileScore) -> str:
    origin = f"run {file.run[:12]}" if file.run else "foreign file"
    mark = ", transductive" if file.method.transductive else ""
    return f"{file.method.name}{mark}, seed {file.method.seed} ({file.file}, {origin})"


def _with_half(value: Estimate | None) -> str:
    if value is None or value.mean is None:
        return "-"
    half = "" if value.episodes is None else f" ± {100 * value.episodes:.2f}"
    return per_cent(value.mean) + half


def caption(report: ScoreReport) -> list[str]:
    """Sentences that say what the values are of."""
    split, episodes = report.split, report.episodes
    labels = count_labels(
        split.id, report.labels, subset=split.subset, noun="novel labels", part=episodes.part
    )
    return [
        f"Split {split.id} ({split.hash[:12]}), {labels}; protocol "
        f"{episodes.drawn_by.title}; {episodes.count} episodes ({episodes.hash[:12]}) of "
        f"{report.queries} queries; {report.metrics_version}.",
        "Targets made from split and episodes."
        if report.targets == "rebuilt"
        else "Targets as stored by the run.",
        "In per cent. ± is the half width of a 95 % interval: over episodes (Student t; these "
        f"images, other episodes), over images (other images; covers {report.image_intervals}), "
        "over training seeds (Student t; these episodes).",
        f"Chance (random ranking): micro-AP {per_cent(report.chance['micro_ap'])}, macro-AP "
        f"{per_cent(report.chance['macro_ap'])}.",
        *disjoint_note(episodes),
        *report.notes,
    ]


def to_csv(report: ScoreReport) -> str:
    """One value a line, in per cent, unrounded; the first line has the caption, last column."""
    lines: list[list[object]] = [
        ["file", "method", "seed", "section", "group", "value_of", "mean", "episodes", "images",
         "seeds", "caption"]
    ]  # fmt: skip
    about = [" ".join(caption(report))]

    def write(
        one: FileScore | SeedsScore, section: str, group: str, name: str,
        values: list[float | None],
    ) -> None:  # fmt: skip
        file, method, seed = "", one.method, "+".join(map(str, getattr(one, "seeds", ())))
        if isinstance(one, FileScore):
            file, method, seed = one.file, one.method.name, str(one.method.seed)
        cells = [*map(points, values), *[None] * (4 - len(values))]
        said = about.pop() if about else ""
        lines.append([file, str(method), seed, section, group, name, *cells, said])

    for file in report.files:
        for name, x in file.metrics.items():
            write(file, "metrics", "", name, [x.mean, x.episodes, x.images])
        if file.breakdown is not None:
            for group in file.breakdown.groups:
                for name, x in group.values.items():
                    write(file, file.breakdown.by, group.name, name, [x.mean, x.episodes, x.images])
        for rule in file.decisions or ():
            for name, x in rule.metrics.items():
                write(file, "decisions", rule.rule, name, [x.mean, x.episodes, x.images])
        for name, value in (file.conventions or {}).items():
            write(file, "conventions", "", name, [value])
    for seeds in report.seeds:
        for name, over in seeds.metrics.items():
            write(seeds, "seeds", "", name, [over.mean, None, None, over.seeds])
    return csv_text(lines)


WRITERS: dict[str, Callable[[ScoreReport], str]] = {
    "text": lambda report: to_text(tables(report), caption(report)),
    "markdown": lambda report: to_markdown(tables(report), caption(report)),
    "json": lambda report: for_json(report.model_dump(mode="json")) + "\n",
    "csv": to_csv,
}
