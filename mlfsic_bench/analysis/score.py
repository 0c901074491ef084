"""Every metric of scores files and runs, with intervals over episodes, images and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.breakdowns import BREAKDOWNS, break_down
from mlfsic_bench.analysis.score_notes import notes, seed_groups
from mlfsic_bench.analysis.score_report import (
    Figure,
    FileScore,
    ScoreReport,
    SeedFigure,
    SeedsScore,
)
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.evaluation.resume import SCORES
from mlfsic_bench.evaluation.scores import Scores, read_scores
from mlfsic_bench.hashing import canonical_json, hash_file
from mlfsic_bench.metrics.chance import chance_levels
from mlfsic_bench.metrics.conventions import convention_values
from mlfsic_bench.metrics.episode import episode_metrics, query_influence, undefined_counts
from mlfsic_bench.metrics.image_interval import EpisodeImages, episode_images, image_interval
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.registry import METRICS, METRICS_VERSION
from mlfsic_bench.paths import is_folder
from mlfsic_bench.results.runs import FinishedRun, read_run
from mlfsic_bench.results.targets import SplitPlace, Truth, can_rebuild, rebuild_truth, stored_truth


@dataclass(frozen=True, eq=False)
class Source:
    """A scores file or a run's folder, read and checked by itself."""

    path: Path
    scores: Scores
    run: FinishedRun | None
    sha256: str


def score_files(
    paths: Sequence[Path],
    place: SplitPlace | None = None,
    *,
    by: str | None = None,
    conventions: bool = False,
) -> ScoreReport:
    """Score files and run folders that were made on the same split and episodes.

    Parameters
    ----------
    paths: scores files, or folders of finished runs.
    place: where split and episodes are found.
    by: one of BREAKDOWNS, to take each file's scores apart as well.
    conventions: whether to add the figures of all conventions.

    Raises BenchError for files that are unsound, not comparable or named twice, and for a split or
    episodes that are not those of their hashes.
    """
    if by is not None and by not in BREAKDOWNS:
        raise unknown_name("breakdown", by, BREAKDOWNS)
    sources = [open_source(path) for path in paths]
    _check_same(sources)
    truth = truth_of(sources, place or SplitPlace())
    images = episode_images(truth.query, truth.support, truth.drawn_for)
    files = [_file_score(source, truth, images, by, conventions) for source in sources]
    first = sources[0].scores
    return ScoreReport(
        metrics_version=METRICS_VERSION,
        split=first.meta.split,
        episodes=first.meta.episodes,
        labels=first.meta.labels,
        queries=first.scores.shape[1],
        targets=truth.origin,
        image_intervals="query images only"
        if truth.support is None
        else "query and support images",
        chance=_chance(truth),
        files=files,
        seeds=_seeds(sources, files),
        notes=notes(sources, truth),
    )


def open_source(path: Path) -> Source:
    """The scores in a file, or in the folder of a finished run; BenchError for anything else."""
    if is_folder(path):
        run = read_run(path)
        return Source(path, run.scores, run, hash_file(path / SCORES))
    return Source(path, read_scores(path), None, hash_file(path))


def truth_of(sources: Sequence[Source], place: SplitPlace) -> Truth:
    """The answers for all sources, which share split and episodes."""
    runs = [source.run for source in sources if source.run is not None]
    meta = sources[0].scores.meta
    if place.named or len(runs) < len(sources) or can_rebuild(meta):
        truth = rebuild_truth(meta, place)
    else:
        truth = stored_truth(runs[0])
        for run in runs[1:]:
            other = stored_truth(run)
            if not (
                np.array_equal(other.targets, truth.targets)
                and np.array_equal(other.query, truth.query)
            ):
                raise BenchError(
                    f"the runs in {runs[0].folder} and {run.folder} stored different answers",
                    expected="the same targets for the same episodes",
                    found="targets or query images that differ",
                    remedy="name the data root to compute them anew: --data-root ROOT",
                )
    for source in sources:
        if source.scores.scores.shape != truth.targets.shape:
            raise BenchError(
                f"{source.path} does not have a score for every query image",
                expected=f"scores {list(truth.targets.shape)}: episodes, queries, labels",
                found=f"scores {list(source.scores.scores.shape)}",
                remedy="score all query images of the episodes, in their order",
            )
    return truth


def figures(scores: Scores, truth: Truth, images: EpisodeImages | None = None) -> dict[str, Figure]:
    """Every metric of one file: its mean and its intervals over episodes and images."""
    images = images or episode_images(truth.query, truth.support, truth.drawn_for)
    values = episode_metrics(scores.scores, truth.targets, scores.decisions)
    influence = query_influence(scores.scores, truth.targets, scores.decisions)
    return {name: figure(values[name], influence[name], images) for name in METRICS}


def figure(
    values: npt.NDArray[np.float64], influence: npt.NDArray[np.float64], images: EpisodeImages
) -> Figure:
    """The figure of one metric, from its values [E] and the queries' influence [E, Q]."""
    mean, half = t_interval(values)
    over_images = image_interval(values, influence, images)
    return Figure(mean=number(mean), episodes=number(half), images=number(over_images.half_width))


def number(value: float) -> float | None:
    """The number, None for NaN."""
    return None if math.isnan(value) else float(value)


def _file_score(
    source: Source, truth: Truth, images: EpisodeImages, by: str | None, conventions: bool
) -> FileScore:
    scores = source.scores
    every = convention_values(scores.scores, truth.targets, scores.decisions) if conventions else {}
    return FileScore(
        file=source.path.name,
        sha256=source.sha256,
        run=scores.meta.run,
        method=scores.meta.method,
        metrics=figures(scores, truth, images),
        undefined=undefined_counts(scores.scores, truth.targets, scores.decisions),
        breakdown=None if by is None else break_down(by, scores, truth, images),
        conventions={name: number(x) for name, x in every.items()} if conventions else None,
    )


def _check_same(sources: Sequence[Source]) -> None:
    if not sources:
        raise BenchError(
            "there is nothing to score",
            expected="at least one scores file or run folder",
            found="none",
            remedy="name one",
        )
    first, seen = sources[0], dict[str, Path]()
    for source in sources:
        a, b = first.scores.meta, source.scores.meta
        for kind, x, y in (("split", a.split, b.split), ("episodes", a.episodes, b.episodes)):
            if x != y:
                raise BenchError(
                    f"{source.path} was not made on the {kind} of {first.path}",
                    expected=f"{kind}: {_short(x.model_dump(mode='json'))}",
                    found=_short(y.model_dump(mode="json")),
                    remedy="score them one by one; figures on different ones can't be compared",
                )
        if source.sha256 in seen:
            raise BenchError(
                f"{source.path} holds the same scores as {seen[source.sha256]}",
                expected="each file once",
                found=f"SHA-256 {source.sha256[:12]} twice",
                remedy="name it once",
            )
        seen[source.sha256] = source.path


def _short(card: dict[str, object]) -> str:
    return canonical_json(card).decode()[:400]


def _seeds(sources: Sequence[Source], files: Sequence[FileScore]) -> list[SeedsScore]:
    """Files of one method that differ in the training seed only, two or more."""
    result = []
    for places in seed_groups(sources):
        group = [files[place] for place in places]
        seeds = [file.method.seed for file in group]
        if len(group) < 2 or len(set(seeds)) < len(seeds):
            continue
        rows = {}
        for name in METRICS:
            means = [file.metrics[name].mean for file in group]
            mean, half = t_interval([math.nan if x is None else x for x in means])
            rows[name] = SeedFigure(mean=number(mean), seeds=number(half))
        names = [file.file for file in group]
        result.append(
            SeedsScore(method=group[0].method.name, files=names, seeds=seeds, metrics=rows)
        )
    return result


def _chance(truth: Truth) -> dict[str, float | None]:
    micro, macro = chance_levels(truth.targets)
    return {"micro_ap": number(micro), "macro_ap": number(macro)}
