"""The rows of a tuned table under three decision rules (M80 to M82 in docs/methodology.md).

Precision, recall and F1 say as much about the rule as about the scores. A tuned table has all that
is needed to say how much: its trials on val give each row a threshold, and one label-count head for
a split and a network gives every query image a number of labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.counts import (
    HEAD_VERSION,
    LabelCounts,
    label_counts,
    read_counts,
    write_counts,
)
from mlfsic_bench.experiments.plan import Options, PlannedRow, slug
from mlfsic_bench.experiments.table import ReproducedTable, RuledRow, per_cent
from mlfsic_bench.files import copy_file
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.launchers.runs import Done, Log
from mlfsic_bench.metrics.decisions import Rule
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.paths import is_file
from mlfsic_bench.results.decision_rules import by_count, by_threshold, threshold_of
from mlfsic_bench.results.result import Result, Targets, open_result, stored_targets

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.plan import RunPlan

COUNTS = "counts"  # the folder of label counts, beside that of the runs
RULED = ("micro_precision", "micro_recall", "micro_f1",
         "macro_precision", "macro_recall", "macro_f1")  # fmt: skip


def with_rules(
    table: ReproducedTable,
    results: Sequence[Sequence[Result]],
    planned: Sequence[PlannedRow],
    done: Done,
    options: Options,
    log: Log,
    archived: Path | None = None,
) -> tuple[ReproducedTable, list[Path]]:
    """(the table with each row under decision rules, the files of label counts they rest on).

    A row without a trial on val has no rule `val`, and one whose label counts can't be made, which
    `log` is told, no rule `count`. Counts that are in `archived`, a folder, are taken from there.
    """
    known: dict[Path, LabelCounts | None] = {}
    rows = []
    for row, own, of in zip(table.rows, results, planned, strict=True):
        if not own:
            rows.append(row)
            continue
        path = _counts_file(of.runs[0].plan, options)
        if path not in known:
            there = None if archived is None else archived / COUNTS / path.name
            if there is not None and is_file(there):
                copy_file(there, path)
            known[path] = _counts(path, of.runs[0].plan, own[0], done, log)
        counts, threshold = known[path], None
        tried = None if of.chosen is None else of.trials[of.chosen].run.folder
        if tried in done.finished:
            threshold = threshold_of(open_result(tried))
        first = own[0].stored
        assert first is not None  # it is a run's folder
        local = [open_result(run.folder) for run in of.runs if run.folder in done.finished]
        threshold = threshold if len(local) == len(own) else None
        values = under_rules(own, stored_targets(first), threshold, counts, local)
        ruled = RuledRow(threshold, path.name if counts else None, values)
        rows.append(replace(row, decisions=ruled))
    files = [path for path, counts in known.items() if counts is not None]
    return replace(table, rows=tuple(rows)), files


def under_rules(
    results: Sequence[Result],
    targets: Targets,
    threshold: float | None,
    counts: LabelCounts | None,
    scored: Sequence[Result] | None = None,
) -> dict[Rule, Mapping[str, float | None]]:
    """Rule -> metric of RULED -> per cent, mean over the results of the mean over episodes.

    `results` are those of one row, one for each training seed, on the episodes of `targets`. All
    of them get the threshold. Without it, or without counts, that rule is left out. `scored` are
    the same with their scores, where the results may have only their order.
    """
    found: dict[Rule, Mapping[str, float | None]] = {"own": _means(results, targets)}
    if threshold is not None:
        found["val"] = _means([by_threshold(r, threshold) for r in scored or results], targets)
    if counts is not None:
        k = counts.counts[: len(targets.targets)]
        found["count"] = _means([by_count(r, k) for r in results], targets)
    return found


def _means(results: Sequence[Result], targets: Targets) -> dict[str, float | None]:
    each = [result.values(RULED, targets) for result in results]
    return {
        name: per_cent(float(np.mean([t_interval(values[name])[0] for values in each])))
        for name in RULED
    }


def _counts_file(plan: RunPlan, options: Options) -> Path:
    """Where the label counts for the episodes of a plan lie: by split, network and protocol."""
    made_of = {
        "split": [plan.split, plan.available_only, plan.min_pool],
        "network": [plan.backbone, plan.weights, plan.precision],
        "protocol": None if plan.protocol is None else [plan.protocol.name, plan.protocol.choices],
    }
    return options.folder / COUNTS / f"{slug(plan.network)}-{hash_json(made_of)[:8]}.npz"


def _counts(path: Path, plan: RunPlan, result: Result, done: Done, log: Log) -> LabelCounts | None:
    """The label counts in `path` if they are for the result's episodes, else made and kept there.

    None where they can't be made.
    """
    if is_file(path):
        try:
            there = read_counts(path)
        except BenchError:
            there = None
        if there is not None and _fits(there, result):
            return there
    log(f"-- label counts of the query images: {path.name}")
    # one head for all rows: of the whole base part, also where a row is trained on less of it
    whole = replace(plan, features="stored", episodes=None, base_images=None, base_labels=None)
    try:
        made = label_counts(whole, log, done.opened)
    except BenchError as error:
        log(f"no label counts: {error.what}; {error.found}")
        return None
    if not _fits(made, result):
        return None
    write_counts(path, made)
    return made


def _fits(counts: LabelCounts, result: Result) -> bool:
    """Whether the counts are for the result's episodes, with the features it was made with."""
    kept, asked = counts.meta, result.meta
    features = result.record.features if result.record else None
    return (
        kept.head_version == HEAD_VERSION
        and kept.split.hash == asked.split.hash
        and kept.episodes.hash == asked.episodes.hash
        and kept.episodes.count >= asked.episodes.count
        and (features is None or kept.features.weights_hash == features.weights_hash)
    )
