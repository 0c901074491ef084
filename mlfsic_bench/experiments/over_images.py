"""Intervals over images for a reproduced table: its split opened once, its episodes made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.metrics.image_interval import EpisodeImages, episode_images, image_interval
from mlfsic_bench.results.runs import FinishedRun
from mlfsic_bench.results.targets import Truth, truth_on

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Influence:
    """What the images of a row's episodes do to its figures.

    Attributes
    ----------
    queries: float64 [E, Q, columns], each query's influence, mean over training seeds, fractions.
    truth: the answers to all episodes of the set, of which the row may have the first E only.
    """

    queries: Float64
    truth: Truth


class TableImages:
    """The images of a table's episodes. Answers and numbers of images are made once for a table.

    Parameters
    ----------
    opened: the splits that the table's runs were opened with.
    """

    def __init__(self, opened: ResourceCache) -> None:
        self._opened = opened
        self._truths: dict[tuple[str, str], Truth] = {}
        self._images: dict[tuple[int, int], EpisodeImages] = {}

    def influence(
        self, plan: RunPlan, runs: Sequence[FinishedRun], columns: Sequence[str]
    ) -> Influence:
        """The influence of a row's runs, one for each training seed, all of the same plan.

        Raises BenchError when split or episodes that are found now are not those of the runs.
        """
        from mlfsic_bench.metrics.episode import query_influence

        truth = self._truth(plan, runs[0])
        each = []
        for run in runs:
            count = run.record.episodes.count
            same = np.array_equal(run.answers.targets, truth.targets[:count])
            if not same or not np.array_equal(run.answers.query, truth.query[:count]):
                raise _not_the_runs(run, "query images or targets that differ")
            scores = run.scores
            found = query_influence(
                scores.scores, run.answers.targets, scores.decisions, list(columns)
            )
            each.append(np.stack([found[name] for name in columns], axis=2))
        # An influence is a difference of values: that of a mean over seeds is the mean.
        return Influence(np.asarray(np.mean(each, axis=0), np.float64), truth)

    def half_width(self, values: Float64, queries: Float64, truth: Truth) -> float:
        """Of the 95 % interval over images of the mean of values [E], queries [E, Q]."""
        count = len(values)
        key = (id(truth), count)
        if key not in self._images:
            support = None if truth.support is None else truth.support[:count]
            self._images[key] = episode_images(truth.query[:count], support, truth.drawn_for)
        return image_interval(values, queries, self._images[key]).half_width

    def _truth(self, plan: RunPlan, run: FinishedRun) -> Truth:
        meta = run.scores.meta
        key = (meta.split.hash, meta.episodes.hash)
        if key not in self._truths:
            split = self._opened.split(plan)
            if split.hash != meta.split.hash:
                raise _not_the_runs(run, f"split {split.hash[:12]}")
            # Rows may be on the first episodes only: the answers to all of them serve every row.
            whole = meta.episodes.model_copy(update={"count": meta.episodes.total})
            self._truths[key] = truth_on(split, meta.model_copy(update={"episodes": whole}))
        return self._truths[key]


def _not_the_runs(run: FinishedRun, found: str) -> BenchError:
    return BenchError(
        f"the data are not those that the run in {run.folder.name} was made on",
        expected=f"split {run.record.split.hash[:12]} and its episodes",
        found=found,
        remedy="name the data root that the run was made with",
    )
