"""The audit of a run: a few episodes scored again, alone, in a fresh process, must come out again.

A method that remembers earlier episodes, pools the supports of one `adapt_all`, or takes statistics
over the query scores well and tells nothing of the task. Here each chosen episode is adapted to by
`adapt` from the saved state, in an order that is not the evaluation's, and its queries are scored
one by one in another order. A transductive method may take statistics over the query: it is given
the whole query, in another order.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.audit.compare import (
    ROUNDED,
    Bench,
    Stored,
    agree,
    diagnose,
    explained_by_rounding,
    shuffled,
)
from mlfsic_bench.evaluation.audit.fresh import Fresh, FreshFailedError, search_path
from mlfsic_bench.evaluation.record import Audit
from mlfsic_bench.paths import resolved

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.inputs import Inputs
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.evaluation.record import Record
    from mlfsic_bench.features.sources import FeatureSource

EPISODES = 8  # that are scored again; fewer where they would take more than SHARE and LEAST allow
FEWEST = 3  # the first, the last and one of the others, whatever they take
SHARE, LEAST = 0.08, 6.0  # of the run's seconds; seconds that are allowed in any case
PATIENCE = 60.0  # seconds that an answer may take, beside twice the seconds of the evaluation


class AuditFailedError(BenchError):
    """The audit of a run failed: its scores are kept, and the command exits with 1."""

    exit_code = 1


def audit_run(
    inputs: Inputs,
    source: FeatureSource,
    record: Record,
    state: Path,
    stored: Stored,
) -> Audit:
    """Score a few of the stored episodes again in a fresh process, and compare.

    Parameters
    ----------
    inputs, record: of the run; the record's stages say how long it took.
    source: of the images that are scored.
    state: the run's `method.pt`.
    stored: what must come out again.
    """
    if inputs.plan is None:
        return Audit(
            status="not made",
            reason="a method without a file of its own can't be made in another process",
        )
    start = time.monotonic()
    evaluation = sum(one.seconds for one in record.stages if one.name == "evaluate")
    allowed = max(LEAST, SHARE * sum(one.seconds for one in record.stages))
    chosen = choose_episodes(record.key, len(stored.episodes), allowed, evaluation)
    view = inputs.scored(source)
    embeddings = None if view.embeddings is None else view.embeddings.cpu().numpy()
    job = _job(inputs, inputs.plan, resolved(state))
    fresh = partial(Fresh, job, embeddings, source, PATIENCE + 2 * evaluation)
    whole = inputs.method.transductive
    bench = Bench(stored, view, record.key, fresh, allowed / len(chosen), whole)
    audit = Audit(status="failed", tolerance=stored.tolerance)
    try:
        with fresh() as session:
            found = [bench.alone(session, episode) for episode in chosen]
        differences = [bench.difference(one) for one in found]
        audit.largest_difference = max(one.scores for one in differences)
        audit.episodes = sorted(chosen)
        audit.queries = sum(len(one.ids) for one in found)
        worst = max(differences, key=lambda one: (not one.same, one.scores))
        if worst.same:
            audit.status = "passed"
        elif (rounding := explained_by_rounding(bench, found)) is not None:
            audit.tolerance = min(ROUNDED, 2 * rounding)
            audit.reason = (
                f"scores differ by up to {worst.scores:.3g} of their label's range, and the last "
                f"bits of the features alone change them by {rounding:.3g}"
            )
            if agree(bench, found, audit.tolerance):
                audit.status = "passed"
            else:
                audit.kind = "rounding"
        else:
            audit.kind, evidence = diagnose(bench, found)
            bad = [one.episode for one in differences if not one.same]
            what = f"scores differ by {worst.scores:.3g} of their label's range"
            if worst.flips:
                what += f", {worst.flips} decisions differ"
            audit.reason = (
                f"episode {worst.episode}: {what}; so in {len(bad)} of {len(found)} episodes "
                f"looked at. In episode {min(bad)} {evidence}"
            )
    except FreshFailedError as failure:
        audit.kind, audit.reason = failure.kind, failure.reason
    audit.seconds = round(time.monotonic() - start, 3)
    return audit


def failure_of(record: Record, folder: Path) -> AuditFailedError | None:
    """The error that a run's audit has failed with; None where it has not failed."""
    audit = record.audit
    if audit is None or audit.status != "failed":
        return None
    how = "all at once in another order" if record.method.transductive else "one by one"
    return AuditFailedError(
        f"the audit of {folder} failed: {audit.kind}",
        expected=f"the stored scores again, to {audit.tolerance} of a label's range, from a fresh "
        f"process that adapts to each episode alone and scores its queries {how}",
        found=audit.reason or "no reason",
        remedy=f"{_remedy(audit)}; these scores are kept, marked in every table, and not ranked. "
        "The same command makes the audit again",
    )


def _remedy(audit: Audit) -> str:
    if audit.kind == "rounding":
        return "on another processor the scores would be others: adapt in smaller or fewer steps"
    return "correct the method (mlfsic-bench methods check helps) and run again"


def choose_episodes(key: str, total: int, allowed: float, evaluation: float) -> list[int]:
    """Numbers of the episodes to score again, last first: the last, the first, others by the key.

    Parameters
    ----------
    key: of the run.
    total: how many episodes were run.
    allowed, evaluation: seconds that the audit may take, and that the evaluation took.
    """
    count = EPISODES if evaluation <= 0 else min(EPISODES, int(allowed * total / evaluation))
    ends = {0, total - 1}
    others = [i for i in shuffled(total, "audit", key, "episodes") if i not in ends]
    return sorted({*ends, *others[: max(FEWEST, count) - len(ends)]}, reverse=True)


def _job(inputs: Inputs, plan: RunPlan, state: Path) -> dict[str, Any]:
    """What the fresh process needs to make the method and the source of its features."""
    import torch

    features = inputs.features
    trainable = features.mode == "end-to-end"
    return {
        "folder": str(Path.cwd()),
        "path": search_path(),
        "threads": torch.get_num_threads(),
        "method": plan.spec,
        "settings": plan.texts,
        "preset": plan.preset,
        "source": inputs.method_source,
        "state": str(state),
        "labels": list(inputs.part.labels),
        "shape": features.shape,
        "device": str(inputs.device),
        "trainable": [plan.backbone, plan.weights] if trainable else None,
        "precision": features.precision,
        "training": asdict(plan.training),
        "tf32": None if features.mode == "stored" else plan.training.tf32,
    }
