"""One result under several decision rules: the same scores, other decisions.

Precision, recall and F1 depend on the rule as much as on the scores, so they can be compared among
methods only under a rule that is the same for all (M80 in docs/methodology.md):

    own     the method's own decisions; score > 0 where it has none
    val     score > t, with t chosen on the scores of the same method on the val episodes
    count   the k highest-scored labels of each query image, k from a file of label counts

`decided` gives a `Result` with these decisions: every metric, interval and table of it follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.evaluation.counts import LabelCounts
from mlfsic_bench.evaluation.identity import differences, meaning
from mlfsic_bench.evaluation.record import Record
from mlfsic_bench.metrics.decisions import RULES, Rule, above, best_threshold, top_k
from mlfsic_bench.results.result import Result

MAY_DIFFER = ("episodes", "seed")  # between a run on novel and the run on val that belongs to it


@dataclass(frozen=True, eq=False)
class Decided:
    """A result under one rule.

    Attributes
    ----------
    result: with the decisions of the rule.
    threshold: of the rule `val`; None for others.
    notes: what belongs to the values.
    """

    rule: Rule
    result: Result
    threshold: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def decisions(self) -> npt.NDArray[np.bool_]:
        """bool [E, Q, L]."""
        scores = self.result.scores
        return above(scores.scores, 0.0) if scores.decisions is None else scores.decisions


def decided(
    result: Result,
    rule: Rule,
    *,
    val_runs: Sequence[Result] = (),
    counts: LabelCounts | None = None,
) -> Decided:
    """The result under a rule.

    Parameters
    ----------
    val_runs: runs on val episodes, for `val`; the one of this result's method is looked up.
    counts: for `count`, made from the same split and episodes; of these the first ones count.

    Raises BenchError where what the rule needs is not there, or belongs to something else.
    """
    if rule not in RULES:
        raise unknown_name("decision rule", rule, RULES)
    if rule == "own":
        return Decided(rule, result)
    if rule == "val":
        result.require_values("a threshold")
        run = val_run_of(result, val_runs)
        threshold, notes = threshold_of(run), tuple[str, ...]()
        if run.seed != result.seed:
            said = f"{result.path.name}: its threshold was chosen on {run.path.name}, the run"
            notes = (f"{said} of training seed {run.seed}.",)
        return Decided(rule, by_threshold(result, threshold), threshold, notes)
    counted = by_count(result, _counts_for(result, counts))
    return Decided(rule, counted, notes=_other_features(result, counts))


def by_threshold(result: Result, threshold: float) -> Result:
    """The result with the decisions score > threshold."""
    return _deciding(result, above(result.scores.scores, threshold))


def by_count(result: Result, counts: npt.NDArray[np.int64]) -> Result:
    """The result that names the highest-scored labels of each query image; counts: [E, Q]."""
    return _deciding(result, top_k(result.scores.scores, counts))


def _deciding(result: Result, decisions: npt.NDArray[np.bool_]) -> Result:
    return replace(result, scores=replace(result.scores, decisions=decisions))


def threshold_of(val_run: Result) -> float:
    """The threshold with the best mean micro-F1 over the val episodes of this run.

    See `best_threshold`: exact, ties to the lowest. BenchError for a result without the targets
    that a run stores, or of other episodes than val ones.
    """
    stored = val_run.stored
    if val_run.meta.episodes.part != "val" or val_run.record is None or stored is None:
        raise BenchError(
            f"{val_run.path} is not a run on val episodes",
            expected="the folder of a run that was made with --part val",
            found="a scores file"
            if val_run.record is None
            else f"episodes of the part {val_run.meta.episodes.part}",
            remedy="name the folder that `mlfsic-bench run METHOD ... --part val` wrote",
        )
    val_run.require_values("a threshold")
    return best_threshold(val_run.scores.scores, stored.targets)


def val_run_of(result: Result, val_runs: Sequence[Result]) -> Result:
    """The run of the same split, method, parameters and features among these runs on val.

    Where none has the result's training seed, the one with the lowest seed is taken.
    """
    if result.record is None:
        raise BenchError(
            f"{result.path} does not say all it was made with",
            expected="the folder of a run, for a threshold chosen on val",
            found="a scores file",
            remedy="name the run's folder, or leave the rule val out",
        )
    own = _fitted(result.record)
    others = [(run, differences(own, _fitted(run.record))) for run in val_runs if run.record]
    same = [run for run, differing in others if not differing]
    if not same:
        found = [f"{run.path.name}: {', '.join(differing)}" for run, differing in others]
        raise BenchError(
            f"no run on val belongs to {result.path}",
            expected="a run on val episodes of the same split, method, parameters and features",
            found="; ".join(found[:3]) or "none",
            remedy="repeat the run's command with --part val, and name its folder with --val-run",
        )
    return min(same, key=lambda run: (run.seed != result.seed, run.seed))


def _fitted(record: Record) -> dict[str, Any]:
    """What says how a method was fitted, the training seed apart."""
    return {k: v for k, v in meaning(record.identity).items() if k not in MAY_DIFFER}


def _counts_for(result: Result, counts: LabelCounts | None) -> npt.NDArray[np.int64]:
    """int64 [E, Q]: the counts of the result's episodes."""
    if counts is None:
        raise BenchError(
            "the rule count needs label counts",
            expected="a file of counts for these episodes",
            found="none",
            remedy="make one with `mlfsic-bench counts`, and name it with --counts",
        )
    a, b = result.meta, counts.meta
    wrong = {
        "split": (a.split.hash[:12], b.split.hash[:12]),
        "part": (a.episodes.part, b.episodes.part),
        "episodes": (a.episodes.hash[:12], b.episodes.hash[:12]),
    }
    for name, (expected, found) in wrong.items():
        if expected != found:
            raise BenchError(
                f"the label counts are not those of {result.path}: another {name}",
                expected=f"{name} {expected}",
                found=found,
                remedy="make them with `mlfsic-bench counts` for the same split and episodes",
            )
    E, Q = result.scores.scores.shape[:2]
    if len(counts.counts) < E or counts.counts.shape[1] != Q:
        raise BenchError(
            f"the label counts do not cover all query images of {result.path}",
            expected=f"counts of {E} episodes with {Q} queries",
            found=str(list(counts.counts.shape)),
            remedy="make them with `mlfsic-bench counts`, without --episodes",
        )
    return counts.counts[:E]


def _other_features(result: Result, counts: LabelCounts | None) -> tuple[str, ...]:
    """A sentence where scores and counts come from different features."""
    if counts is None or result.record is None or result.record.features is None:
        return ()
    own, used = result.record.features, counts.meta.features
    if (own.backbone, own.weights_hash) == (used.backbone, used.weights_hash):
        return ()
    return (
        f"{result.path.name}: its scores come from {own.backbone}, the label counts from "
        f"{used.backbone}.",
    )
