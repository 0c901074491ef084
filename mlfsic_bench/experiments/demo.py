"""The demo: six methods on the embedded scenes, then a table and a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.files import write_text

SPLIT = "scenes-12-6-6-v1"
BACKBONE = "scenes-small"
PLAIN_METHODS = ("random", "prior", "constant", "protonet", "linear")
PAPERS_MODEL = "word-guided-attention"
SEEDS = (0, 1, 2)

# The paper's model with all its defaults but the schedule: 200 epochs of 100 steps would take an
# hour, and on scenes macro-AP on val stops rising after some hundred steps (docs/scenes.md).
SCHEDULE = {
    "epochs": "12",
    "warmup_epochs": "2",
    "steps_per_epoch": "25",
    "select_every": "1",
    "lr": "3e-4",
    "final_lr": "0",
}


@dataclass(frozen=True)
class DemoResult:
    """What a demo leaves behind.

    Attributes
    ----------
    runs: the run folders, in the order of the table.
    table, picture: paths of the Markdown table and of the attention picture.
    picture_line: one sentence on the picture.
    margins: one sentence for each method the paper's model is set against.
    seconds: how long it took.
    """

    runs: tuple[Path, ...]
    table: Path
    picture: Path
    picture_line: str
    margins: tuple[str, ...]
    seconds: float


def demo_plans(out: Path) -> tuple[RunPlan, ...]:
    """A plan for each method, three training seeds of the paper's; all lies below `out`."""
    rows: list[tuple[str, int, dict[str, str], str]]
    rows = [(method, 0, {}, method) for method in PLAIN_METHODS]
    rows += [(PAPERS_MODEL, seed, SCHEDULE, f"{PAPERS_MODEL}-seed{seed}") for seed in SEEDS]
    return tuple(
        RunPlan(
            method=method,
            split=SPLIT,
            backbone=BACKBONE,
            settings=settings,
            seed=seed,
            device="cpu",
            cache=out,
            batch_size=64,
            out=out / "runs" / name,
        )
        for method, seed, settings, name in rows
    )


def run_demo(out: Path, log: Callable[[str], None]) -> DemoResult:
    """Run the methods, or go on where an earlier demo in `out` stopped; write table and picture.

    Everything is computed on the CPU with the methods' defaults, the paper's model with a shorter
    schedule. Raises BenchError when `out` holds something else under the demo's names.
    """
    from mlfsic_bench.analysis.attention.picture import draw_attention
    from mlfsic_bench.analysis.paper_table import as_markdown, paper_tables
    from mlfsic_bench.results.reopen import RunPaths

    start = time.monotonic()
    runs = []
    for plan in demo_plans(out):
        log(f"-- {plan.method}, seed {plan.seed}")
        runs.append(run_method(plan, log))
    table, picture = out / "table.md", out / "attention.png"
    leads = margins(runs)
    text = as_markdown(*paper_tables(runs)) + "\n" + "".join(f"- {line}\n" for line in leads)
    write_text(table, text)
    model = runs[len(PLAIN_METHODS)]
    line = draw_attention(model, RunPaths(cache=out), picture)
    return DemoResult(tuple(runs), table, picture, line, leads, time.monotonic() - start)


def margins(runs: Sequence[Path]) -> tuple[str, ...]:
    """How far the paper's model is above each trained or drawn method, in points of macro-AP.

    `runs` in the order of `demo_plans`. The mean over training seeds, with the lowest and highest.
    """
    from mlfsic_bench.results.result import open_result
    from mlfsic_bench.results.targets import targets_of

    results = [open_result(run) for run in runs]
    targets = targets_of(results)
    means = [100 * float(np.mean(r.values(["macro_ap"], targets)["macro_ap"])) for r in results]
    model = means[len(PLAIN_METHODS) :]
    lines = []
    for name, other in zip(PLAIN_METHODS, means, strict=False):
        if name in ("random", "protonet", "linear"):
            each = [value - other for value in model]
            lines.append(
                f"{PAPERS_MODEL} is {np.mean(each):+.1f} points of macro-AP from {name} "
                f"(training seeds: {min(each):+.1f} to {max(each):+.1f})"
            )
    return tuple(lines)
