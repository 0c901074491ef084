"""What a run leaves behind: its record as it starts, notes, scores, targets, a summary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import PART_NAMES
from mlfsic_bench.data.images import in_kinds
from mlfsic_bench.embeddings.label_embeddings import BUILTIN
from mlfsic_bench.episodes.protocol import Episode
from mlfsic_bench.evaluation.checked import is_shipped, note_on_checks
from mlfsic_bench.evaluation.inputs import Inputs
from mlfsic_bench.evaluation.meta import EmbeddingsMeta
from mlfsic_bench.evaluation.provenance import Provenance
from mlfsic_bench.evaluation.record import Record, Summary, now
from mlfsic_bench.evaluation.scores import (
    Answers,
    AnswersMeta,
    EpisodesMeta,
    MethodMeta,
    Scores,
    ScoresMeta,
    SplitMeta,
)
from mlfsic_bench.schema import one_error
from mlfsic_bench.splits.split import Split

if TYPE_CHECKING:
    from mlfsic_bench.methods.contract import Method

TIED = 0.05  # share of tied scores from which on it is said


@one_error(
    "the record of this run",
    page="docs/results-format.md",
    remedy="rename the file that the value comes from",
)
def new_record(
    inputs: Inputs,
    key: str,
    run_identity: dict[str, object],
    made_by: Provenance,
    earlier: Record | None,
) -> Record:
    """A record with status `started`; start and stages of an `earlier` process are kept.

    Raises BenchError for what a record can't hold, such as a file's name with a line end in it.
    """
    split, episodes, method = inputs.split, inputs.episodes, inputs.method
    embeddings = inputs.embeddings
    selection = inputs.selection
    return Record(
        key=key,
        status="started",
        identity=run_identity,
        split=SplitMeta(
            id=split.id,
            hash=split.hash,
            dataset=split.dataset,
            rule=split.rule,
            subset=split.subset is not None,
        ),
        subset=split.subset,
        episodes=EpisodesMeta.of(episodes, inputs.count),
        selection_episodes=len(selection.episodes) if selection else 0,
        labels={name: list(part.labels) for name, part in split.parts.items()},
        excluded_labels=selection.excluded_labels if selection else {},
        base_images=selection.base_images if selection else None,
        method=MethodMeta(
            name=method.name,
            preset=inputs.preset,
            parameters=method.params.model_dump(mode="json"),
            changed=_changed(method),
            seed=inputs.seed,
            trains=method.trains,
            uses_words=method.needs_embeddings or inputs.embeddings_given is not None,
            adapts_by_gradient=method.adapts_by_gradient,
            citation=method.citation,
            printed=method.printed or None,
            bibtex=method.bibtex,
        ),
        features=inputs.features,
        words=EmbeddingsMeta(
            name=embeddings.name, hash=embeddings.hash, dimensions=embeddings.dimension
        )
        if embeddings
        else None,
        provenance=made_by,
        started=earlier.started if earlier else now(),
        stages=earlier.stages if earlier else [],
        notes=notes_of(inputs),
    )


def _changed(method: Method) -> list[str]:
    now = method.params.model_dump(mode="json")
    default = type(method.params)().model_dump(mode="json")
    return sorted(name for name, value in now.items() if value != default[name])


def notes_of(inputs: Inputs) -> list[str]:
    """One sentence for everything that sets this run apart from a whole one."""
    notes = []
    split, total = inputs.split, len(inputs.episodes.episodes)
    if split.subset is not None:
        notes.append("the split is limited to a subset of its images; not comparable to full runs")
        notes += _labels_left(split)
    if inputs.damaged:
        notes.append(
            f"files under an image's name that hold no image, left out: {len(inputs.damaged):,} "
            f"({in_kinds(list(inputs.damaged.values()))}), such as {next(iter(inputs.damaged))}"
        )
    if not inputs.own_episodes:
        notes.append("the episodes are not the split's own, but those of --episodes-file")
    if (
        inputs.embeddings is not None
        and inputs.embeddings_given is None
        and inputs.embeddings.name != BUILTIN
    ):
        notes.append(
            f"the label embeddings {inputs.embeddings.name} are not given to the method, which "
            "does not declare that it uses them"
        )
    plan, method = inputs.plan, type(inputs.method)
    if plan is not None and not is_shipped(plan.method, method):
        notes.append(note_on_checks(plan.method, method))
    if inputs.count < total:
        notes.append(f"only the first {inputs.count} of {total} episodes are run")
    if inputs.selection is not None:
        cut = inputs.selection.base_images
        if cut is not None:
            notes.append(
                f"trained on the first {cut.used:,} of {cut.of:,} base images, a point of a "
                "learning curve; not comparable to full runs"
            )
        for part, labels in inputs.selection.excluded_labels.items():
            notes.append(f"excluded {part} labels, with too few images: {', '.join(labels)}")
        if inputs.selection.val is None:
            left = len(split.val.labels) - len(inputs.selection.excluded_labels.get("val", ()))
            why = (
                "the split has no val label"
                if not split.val.labels
                else "no val label has enough images"
                if left == 0
                else "only one val label has enough images, whose macro-AP is always 100 %"
            )
            notes.append(f"{why}, so nothing is selected on val: the last weights are kept")
    return notes


def _labels_left(split: Split) -> list[str]:
    """For each part that labels have left: which are still in it, and which are not."""
    subset: dict[str, Any] = split.subset or {}
    return [
        f"{name}: {len(split.parts[name].labels)} of {len(split.parts[name].labels) + len(left)} "
        f"labels stay: {', '.join(split.parts[name].labels)}; with fewer than "
        f"{subset['min_pool']} images left: {', '.join(f'{k} {n}' for k, n in left.items())}"
        for name in PART_NAMES
        if (left := subset.get("labels_left", {}).get(name))
    ]


def notes_on_scores(
    scores: npt.NDArray[np.float32], decisions: npt.NDArray[np.bool_] | None
) -> list[str]:
    """One sentence for each thing that looks wrong in scores float32 [E, Q, L]."""
    notes = []
    tied = share_tied(scores)
    if tied >= TIED:
        notes.append(
            f"{100 * tied:.0f} % of scores are tied: another query image of the episode has the "
            "same score for the same label"
        )
    if decisions is None:
        notes += [note for note in (not_logits(scores),) if note]
    return notes


def share_tied(scores: npt.NDArray[np.float32]) -> float:
    """The share of scores [E, Q, L] that another image of their episode has for the same label."""
    ordered = np.sort(scores, axis=1)
    equal = ordered[:, 1:] == ordered[:, :-1]
    edge = np.zeros_like(equal[:, :1])
    return float((np.concatenate([equal, edge], 1) | np.concatenate([edge, equal], 1)).mean())


def not_logits(scores: npt.NDArray[np.float32]) -> str:
    """What is said of scores that are never below 0, where 0 is the threshold; or ''."""
    low, high = float(scores.min()), float(scores.max())
    if low < 0 or high == 0:
        return ""
    if high <= 1:
        return (
            "all scores lie in [0, 1]: they look like probabilities; a label is predicted where "
            "the score is above 0, so give logits, or a `decide`"
        )
    if low > 0:
        return "all scores are above 0: every label is predicted for every image; recall is 100 %"
    return ""


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
    from mlfsic_bench.metrics.intervals import t_interval
    from mlfsic_bench.metrics.registry import episode_metrics, undefined_counts

    values = episode_metrics(scores.scores, answers.targets, scores.decisions)
    rows = {}
    for name, per_episode in values.items():
        mean, half = t_interval(per_episode)
        rows[name] = Summary(mean=_or_none(mean), half_width=_or_none(half))
    return rows, undefined_counts(scores.scores, answers.targets, scores.decisions)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
