"""Paired comparisons over episodes: every pair, or all against one, for each metric."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from mlfsic_bench.analysis.compare_report import (
    Compared,
    CompareReport,
    MetricComparison,
    Pair,
    Standing,
)
from mlfsic_bench.analysis.score import number
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.evaluation.record import RECORD
from mlfsic_bench.metrics.image_interval import EpisodeImages, episode_images, image_interval
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.paired import Float64, average_ranks, holm, paired
from mlfsic_bench.metrics.registry import METRICS_VERSION, check_names
from mlfsic_bench.paths import is_file, same_place
from mlfsic_bench.results.lineup import Entry, Lineup, line_up
from mlfsic_bench.results.marks import SUBSET
from mlfsic_bench.results.targets import SplitPlace

LEVEL = 0.05


def compare(
    paths: Sequence[Path],
    place: SplitPlace | None = None,
    *,
    metrics: Sequence[str] = ("macro_ap",),
    against: str | None = None,
    seeds_apart: bool = False,
) -> CompareReport:
    """Compare runs and scores files of the same episodes.

    Parameters
    ----------
    paths: scores files, or folders of finished runs.
    place: where split and episodes are found.
    metrics: names in the registry; each has a family of pairs of its own.
    against: a name or a path; the family is then all others against that one, instead of all pairs.
    seeds_apart: do not average over the training seeds of a method.

    Raises BenchError for what can't be compared, for fewer than two entries and unknown names.
    """
    names = check_names(metrics)
    given = list(paths)
    reference = _as_path(against)
    if reference is not None and all(not same_place(path, reference) for path in given):
        given.append(reference)
    lineup = line_up(given, place, seeds_apart=seeds_apart)
    _check_number(lineup)
    one = None if against is None else _reference(lineup, against, reference)
    truth, meta = lineup.truth, lineup.first.scores.meta
    images = episode_images(truth.query, truth.support, truth.drawn_for)
    made = [_metric(name, lineup, images, one) for name in dict.fromkeys(names)]
    return CompareReport(
        metrics_version=METRICS_VERSION,
        split=meta.split,
        episodes=meta.episodes,
        labels=meta.labels,
        targets=truth.origin,
        image_intervals="query images only"
        if truth.support is None
        else "query and support images",
        against=one.name if one else None,
        entries=[_compared(entry) for entry in lineup.entries],
        metrics=made,
        notes=_notes(lineup, made),
    )


def _metric(
    name: str, lineup: Lineup, images: EpisodeImages, reference: Entry | None
) -> MetricComparison:
    values = [entry.values(name, lineup.truth) for entry in lineup.entries]
    influence = [entry.influence(name, lineup.truth) for entry in lineup.entries]
    ranks = average_ranks(np.stack(values))
    standings = []
    for i, entry in enumerate(lineup.entries):
        mean, half = t_interval(values[i])
        over_images = image_interval(values[i], influence[i], images).half_width
        standings.append(
            Standing(
                name=entry.name,
                mean=number(mean),
                episodes=number(half),
                images=number(over_images),
                rank=number(float(ranks[i])),
            )
        )
    family = list(combinations(range(len(values)), 2))
    if reference is not None:
        one = lineup.entries.index(reference)
        family = [(i, one) for i in range(len(values)) if i != one]
    pairs = [_pair(lineup, values, influence, images, i, j) for i, j in family]
    nan = float("nan")
    t = holm([nan if p.t_p is None else p.t_p for p in pairs])
    w = holm([nan if p.wilcoxon_p is None else p.wilcoxon_p for p in pairs])
    return MetricComparison(
        metric=name,
        undefined=int(np.isnan(np.stack(values)).any(axis=0).sum()),
        entries=standings,
        pairs=[
            pair.model_copy(update={"t_holm": number(a), "wilcoxon_holm": number(b)})
            for pair, a, b in zip(pairs, t, w, strict=True)
        ],
    )


def _pair(
    lineup: Lineup,
    values: Sequence[Float64],
    influence: Sequence[Float64],
    images: EpisodeImages,
    i: int,
    j: int,
) -> Pair:
    """Entry i minus entry j; Holm's values follow when the whole family is known."""
    result = paired(values[i], values[j])
    # A metric's influence is a difference of its values, so that of a - b is the difference.
    over_images = image_interval(values[i] - values[j], influence[i] - influence[j], images)
    return Pair(
        a=lineup.entries[i].name,
        b=lineup.entries[j].name,
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


def _compared(entry: Entry) -> Compared:
    return Compared(
        name=entry.name,
        method=entry.method.name,
        files=[source.path.name or str(source.path) for source in entry.sources],
        seeds=list(entry.seeds),
        changed=entry.changed,
        base_images=entry.base_images,
    )


def _check_number(lineup: Lineup) -> None:
    if len(lineup.entries) > 1:
        return
    (entry,) = lineup.entries
    several = len(entry.sources) > 1
    raise BenchError(
        "a comparison needs two methods",
        expected="runs of at least two methods, or of one with two settings",
        found=f"{len(entry.sources)} training seeds of {entry.name}" if several else entry.name,
        remedy="add --seeds-apart to compare the seeds" if several else "name another run",
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


def _reference(lineup: Lineup, against: str, path: Path | None) -> Entry:
    named = [entry for entry in lineup.entries if entry.name == against]
    if path is not None:
        named = [
            entry
            for entry in lineup.entries
            if any(same_place(source.path, path) for source in entry.sources)
        ]
    if not named:
        named = [e for e in lineup.entries if e.method.name == against]
    if len(named) == 1:
        return named[0]
    if named:
        raise BenchError(
            f"--against {against!r} fits {len(named)} of the entries",
            expected="the full name of one, or its folder",
            found=", ".join(entry.name for entry in named)[:400],
            remedy="name the one that is meant",
        )
    raise unknown_name("reference --against", against, [entry.name for entry in lineup.entries])


def _notes(lineup: Lineup, made: Sequence[MetricComparison]) -> list[str]:
    split, episodes = lineup.first.scores.meta.split, lineup.first.scores.meta.episodes
    notes = []
    for entry in lineup.entries:
        if len(entry.seeds) > 1:
            seeds = ", ".join(str(seed) for seed in entry.seeds)
            notes.append(
                f"{entry.name}: each episode's value is the mean over training seeds {seeds}; no "
                "interval here covers the spread over seeds."
            )
    notes += lineup.differing
    notes += lineup.off_defaults
    for metric in made:
        held = [
            f"{pair.a} against {pair.b}"
            for pair in metric.pairs
            if None not in (pair.mean, pair.images, pair.t_holm)
            and (pair.t_holm or 0.0) < LEVEL
            and abs(pair.mean or 0.0) < (pair.images or 0.0)
        ]
        if held:
            notes.append(
                f"{metric.metric}: the p values speak of other episodes from these images only. "
                f"With other images the difference may vanish for: {'; '.join(held)}."
            )
        if metric.undefined:
            notes.append(f"{metric.metric}: undefined in {metric.undefined} episodes, left out.")
    if split.subset:
        notes.append(SUBSET)
    if episodes.count < episodes.total:
        notes.append(f"Only the first {episodes.count} of {episodes.total} episodes were compared.")
    if lineup.truth.support is None:
        notes.append(
            "The answers are those the runs stored; name --data-root to make them anew. Without "
            "the support images, intervals over images cover query images only."
        )
    return notes
