"""The goals of speed, and how a benchmark reports the value that it measured for one of them.

Every value is a ratio against a peer measured in the same run, or says its unit. `before` is what
was measured at commit 67474d9 on the same two cores. `make bench` collects the lines that `report`
prints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes
    ----------
    what: the thing that is measured, and its peer.
    unit: what is written behind a value: `x`, ` s`, ` ms`, ` GB`, ` %`.
    before: the value before the work on it, as text; `none` where there was none.
    sense, goal: the value should be at most (`<=`) or at least (`>=`) this.
    """

    what: str
    unit: str
    before: str
    sense: Literal["<=", ">="]
    goal: float

    def met(self, value: float) -> bool:
        """Whether a value meets the goal."""
        return value <= self.goal if self.sense == "<=" else value >= self.goal


def _most(what: str, unit: str, before: str, goal: float) -> Goal:
    return Goal(what, unit, before, "<=", goal)


def _least(what: str, unit: str, before: str, goal: float) -> Goal:
    return Goal(what, unit, before, ">=", goal)


GOALS: dict[str, Goal] = {
    "warm-run": _most(
        "warm `run protonet`, 200 COCO-shaped episodes, CPU, of `import torch`", "x", "2.27", 1.5
    ),
    "parse-time": _most("official COCO annotations, first parse, of json.load", "x", "0.38", 0.12),
    "parse-memory": _most(
        "official COCO annotations, peak memory, of the file's size", "x", "3.0", 2.0
    ),
    "parse-again": _least(
        "official COCO annotations, every later run, faster than a parse at 0.38x json.load",
        "x",
        "1",
        100,
    ),
    "done-run": _most("a finished run given again, CPU, of `--help`", "x", "65", 5),
    "next-method": _most(
        "next method in the same process, CPU beyond its own compute", " s", "none", 1.0
    ),
    "beside-load": _most(
        "a run beside another job, CPU, of one thread with nothing beside", "x", "2.3", 1.3
    ),
    "store-open": _most("store of 123,287 images, opening", " ms", "934", 100),
    "evaluation": _most("evaluation, of one pass over the unique images", "x", "1.5 to 1.9", 1.1),
    "chance": _most("chance level, largest difference from exact fractions", "", "0", 1e-12),
    "methods-list": _most("`methods list`, CPU", " s", "4.7", 0.8),
    "compare": _most("`compare` of 3 runs, CPU", " s", "2.6", 0.8),
    "table": _most("`table` of 4 runs, CPU", " s", "1.7", 0.8),
    "score": _most("`score`, CPU", " s", "1.8", 0.8),
    "end-to-end-step": _most(
        "end-to-end step, ResNet-50, of a plain channels-last loop", "x", "1.3", 1.05
    ),
    "end-to-end-memory": _most(
        "end-to-end step, 52 + 208 images, bf16, memory", " GB", "21.9 (fp32)", 12.0
    ),
    "input-stall": _most("end-to-end step, share of it that waits for images", " %", "> 50", 10.0),
    "step-52": _least("training step, 52 labels, faster than loops", "x", "12.5", 10),
    "step-16": _least("training step, 16 labels, faster than loops", "x", "6.2", 5),
    "linear": _least("linear fine-tuning, faster than one by one", "x", "11", 10),
    "metrics-16": _least("metrics, 16 labels, faster than scikit-learn", "x", "377", 200),
    "metrics-52": _least("metrics, 52 labels, faster than scikit-learn", "x", "59", 50),
    "gather-warm": _least("gather 260 maps, warm, faster than a file each", "x", "12", 10),
    "gather-cold": _least("gather 64 maps, cold, faster than a memory map", "x", "14.5", 10),
    "test-suite": _most("`make test` on two cores", " min", "20", 5.0),
}
LINE = "goal "  # what a line that `report` prints begins with
_LINE = re.compile(rf"{LINE}([\w-]+): ([-+.\de,]+|nan|inf)(?:[^\d(]*?)(?: \((.*)\))?, goal ")

# Why a goal is missed, or was not measured; shown only where that is so. The goals were set on
# another machine than that of the last records: a ratio depends on the processor, too.
_AS_BEFORE = (
    "against loops in Python it depends on the processor. On the machine of the record of commit "
    "a24ef38 the code of 67474d9, tried by hand, had the same ratio"
)
WHY: dict[str, str] = {
    "evaluation": "it varies from run to run. What is left is that episodes are adapted in chunks "
    "of 20, so that a resumed run gives the same bits; larger chunks change the last ones",
    "table": "what is left are imports (numpy, and pydantic building the schemas of records), "
    "opening and checking four runs, and what each image does to their values",
    "step-52": _AS_BEFORE,
    "step-16": _AS_BEFORE,
    "linear": _AS_BEFORE,
    "parse-time": "what is left is mostly msgspec's own scan of the text",
    "parse-again": "what is left is reading the kept table and checking it: about half of the time "
    "goes to the list of image ids, a quarter to the arrays",
    "test-suite": "`python -m tools.bench tests --record` measures it. The slowest tests start a "
    "SLURM cluster, torchrun and worker processes, or compute archived tables again",
}


def line(name: str, value: float, detail: str = "") -> str:
    """The line of one goal: its name, the value measured, the goal, and whether it is met.

    `detail` says what the value was made of, such as `5.9 s of 4.1 s`.
    """
    goal = GOALS[name]
    verdict = "met" if goal.met(value) else "NOT met"
    said = f" ({detail})" if detail else ""
    return (
        f"{LINE}{name}: {shown(value)}{goal.unit}{said}, goal {goal.sense} {goal.goal:g}"
        f"{goal.unit}, before {goal.before}: {verdict}"
    )


def report(name: str, value: float, detail: str = "") -> None:
    """Print the line of one goal."""
    print(line(name, value, detail), flush=True)


def parse(text: str) -> dict[str, tuple[float, str]]:
    """The value and detail of each goal that has a line in what a benchmark printed.

    >>> parse(line("linear", 11.3, "1 s of 2 s"))
    {'linear': (11.3, '1 s of 2 s')}
    """
    found = (_LINE.match(each) for each in text.splitlines())
    return {m[1]: (float(m[2].replace(",", "")), m[3] or "") for m in found if m and m[1] in GOALS}


def shown(value: float) -> str:
    """A value with three digits, and all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
