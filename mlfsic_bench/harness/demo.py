"""The demo: every method of the package on the embedded scenes, then a table and a picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlfsic_bench.files import write_text
from mlfsic_bench.harness.plan import RunPlan
from mlfsic_bench.harness.run import run_method

SPLIT = "scenes-12-6-6-v1"
BACKBONE = "scenes-small"
METHODS = ("random", "prior", "constant", "protonet", "linear", "word-guided-attention")
PAPERS_MODEL = "word-guided-attention"

# The paper's model with all its defaults but the schedule: 200 epochs of 100 steps would take
# hours, and on scenes macro-AP on val stops rising after some hundred steps (docs/scenes.md).
SCHEDULE = {
    "epochs": "8",
    "warmup_epochs": "1",
    "steps_per_epoch": "50",
    "select_every": "2",
    "final_lr": "0",
}


@dataclass(frozen=True)
class DemoResult:
    """What a demo leaves behind.

    Attributes
    ----------
    runs: the methods' run folders, in the order of METHODS.
    table, picture: paths of the Markdown table and of the attention picture.
    picture_line: one sentence on the picture.
    seconds: how long it took.
    """

    runs: tuple[Path, ...]
    table: Path
    picture: Path
    picture_line: str
    seconds: float


def demo_plans(out: Path) -> tuple[RunPlan, ...]:
    """A plan for each method; runs and features lie below `out`."""
    return tuple(
        RunPlan(
            method=method,
            split=SPLIT,
            backbone=BACKBONE,
            settings=SCHEDULE if method == PAPERS_MODEL else {},
            device="cpu",
            cache=out,
            batch_size=64,
            out=out / "runs" / method,
        )
        for method in METHODS
    )


def run_demo(out: Path, log: Callable[[str], None]) -> DemoResult:
    """Run every method, or go on where an earlier demo in `out` stopped; write table and picture.

    Everything is computed on the CPU with the methods' defaults, the paper's model with a shorter
    schedule. Raises BenchError when `out` holds something else under the demo's names.
    """
    from mlfsic_bench.report.attention_run import draw_attention
    from mlfsic_bench.report.render import render_markdown
    from mlfsic_bench.report.reopen import Whereabouts
    from mlfsic_bench.report.table import build_table

    start = time.monotonic()
    runs = []
    for plan in demo_plans(out):
        log(f"-- {plan.method}")
        runs.append(run_method(plan, log))
    table, picture = out / "table.md", out / "attention.png"
    write_text(table, render_markdown(build_table(runs)))
    model = runs[METHODS.index(PAPERS_MODEL)]
    line = draw_attention(model, Whereabouts(cache=out), picture)
    return DemoResult(tuple(runs), table, picture, line, time.monotonic() - start)
