"""From raw scores to what a run leaves behind: the scores, the answers, a summary."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mlfsic_bench.episodes.episode import Episode
from mlfsic_bench.evaluation.inputs import Inputs
from mlfsic_bench.evaluation.record import Record, Summary
from mlfsic_bench.evaluation.scores import Answers, AnswersMeta, Scores, ScoresMeta


def scores_of(
    inputs: Inputs,
    record: Record,
    raw: npt.NDArray[np.float32],
    decisions: npt.NDArray[np.bool_] | None,
) -> Scores:
    """The Scores of a run, with the cards of its record."""
    meta = ScoresMeta(
        run=record.key,
        split=record.split,
        episodes=record.episodes,
        labels=list(inputs.split.novel.labels),
        method=record.method,
        base_images=record.base_images,
    )
    return Scores(raw, decisions, meta)


def answers_of(inputs: Inputs, record: Record, episodes: tuple[Episode, ...]) -> Answers:
    """The targets of the query images, from the split."""
    novel = inputs.split.novel
    targets = np.stack([novel.targets_of(episode.query) for episode in episodes])
    meta = AnswersMeta(split=record.split, episodes=record.episodes, labels=list(novel.labels))
    return Answers(
        targets.astype(np.uint8), np.array([episode.query for episode in episodes]), meta
    )


def summary(scores: Scores, answers: Answers) -> tuple[dict[str, Summary], dict[str, int]]:
    """(every metric's mean and interval, how often a convention stepped in).

    For convenience only: reports compute them again from scores and answers.
    """
    from mlfsic_bench.metrics.episode import episode_metrics, undefined_counts
    from mlfsic_bench.metrics.intervals import t_interval

    values = episode_metrics(scores.scores, answers.targets, scores.decisions)
    rows = {}
    for name, per_episode in values.items():
        mean, half = t_interval(per_episode)
        rows[name] = Summary(mean=_or_none(mean), half_width=_or_none(half))
    return rows, undefined_counts(scores.scores, answers.targets, scores.decisions)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
