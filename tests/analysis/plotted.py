"""What tests of plots share: training histories, tables behind plots, groups in memory."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlfsic_bench.analysis.plots.calibration import calibration
from mlfsic_bench.analysis.plots.frame import Plot, data
from mlfsic_bench.analysis.plots.labels import labels
from mlfsic_bench.analysis.plots.precision_recall import precision_recall
from mlfsic_bench.evaluation.scores import Scores
from mlfsic_bench.results.conditions import MethodResult, ResultGroup
from mlfsic_bench.results.result import Result, Targets
from mlfsic_bench.results.targets import SplitPlace

EPISODES = 7


def write_history(folder: Path, *rows: tuple[int, float, float | None]) -> None:
    rows = rows or ((10, 2.0, None), (20, 0.5, 0.61), (30, 0.15, 0.72), (40, 0.1, 0.72))
    lines = [json.dumps({"step": s, "loss": x, "lr": 0.1, "value": v}) for s, x, v in rows]
    (folder / "history.jsonl").write_text("\n".join(lines))


def table(plot: Plot) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data(plot))))


def group_in_memory(
    like: Scores,
    method: str = "hostile",
    names: tuple[str, ...] = ("a", "b", "c"),
    subset: bool = False,
    n: int = 1,
) -> ResultGroup:
    """A group of scores like these, with any names, which no reader has looked at."""
    E, Q, L = 4, 12, len(names)
    e, q, label = np.indices((E, Q, L))
    y = (e + 2 * q + label) % 3 == 0
    query = np.array([[f"q{e}{q}" for q in range(Q)] for e in range(E)])
    methods = []
    for i in range(n):
        rng = np.random.default_rng(i)
        meta = like.meta.model_copy(update={"labels": list(names)})
        meta = meta.model_copy(
            update={
                "method": meta.method.model_copy(update={"name": method, "seed": i}),
                "split": meta.split.model_copy(update={"subset": subset, "id": method}),
                "episodes": meta.episodes.model_copy(update={"count": E, "total": E + subset}),
            }
        )
        scores = replace(like, scores=rng.normal(size=(E, Q, L)).astype(np.float32), meta=meta)
        result = Result(Path(f"{i}.npz"), scores, str(i))
        methods.append(MethodResult(f"{method}{i}", (result,)))
    group = ResultGroup(tuple(methods), SplitPlace(), ())
    group.__dict__["targets"] = Targets(y, query, None, None, None, "stored")
    return group


def every_plot(of: ResultGroup) -> list[Plot]:
    return [precision_recall(of), precision_recall(of, "episodes"), labels(of), calibration(of)]
