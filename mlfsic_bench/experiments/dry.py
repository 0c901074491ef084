"""The plan of a reproduction as text: every run, what is there of it, what it may cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.experiments.cost import NO_RATE, Costs, Estimate, total
from mlfsic_bench.experiments.engine import open_splits
from mlfsic_bench.experiments.plan import Options, PlannedRow
from mlfsic_bench.experiments.schema import Profile
from mlfsic_bench.experiments.status import EXPLAINED, Status, status_of
from mlfsic_bench.progress import in_words
from mlfsic_bench.text import for_terminal


def describe_plan(rows: Sequence[PlannedRow], profile: Profile, options: Options) -> str:
    """A line for each run, each once, and a sum; writes nothing and opens no images.

    Raises BenchError when a split can't be opened, as the runs would.
    """
    from mlfsic_bench.features.compute import parse_device

    device = parse_device(options.device).type
    opened = ResourceCache()
    wanted = open_splits(rows, opened)
    base_images = len(opened.split(wanted[0].plan).base.image_ids) if wanted else None
    rates = profile.rates.get("cuda" if device == "cuda" else "cpu")
    costs = Costs(options.folder / "runs", rates, device, base_images)
    lines: list[str] = []
    seen: dict[Path, str] = {}
    open_estimates: list[Estimate] = []
    bases: dict[str, None] = {}
    statuses: dict[Status, int] = {}
    for row in rows:
        if row.not_run or row.left_out:
            lines.append(f"{row.spec.name}: not run: {row.not_run or 'left out by --only'}")
            continue
        lines.append(f"{row.spec.name}:")
        for run in row.runs:
            if run.folder in seen:
                lines.append(f"  shared      {run.folder.name} (with {seen[run.folder]})")
                continue
            seen[run.folder] = row.spec.name
            status = status_of(run)
            statuses[status] = statuses.get(status, 0) + 1
            cost = ""
            if status in ("missing", "part"):
                estimate = costs.estimate(run, row.method)
                open_estimates.append(estimate)
                if estimate.basis:
                    bases[estimate.basis] = None
                cost = "time unknown" if estimate.seconds is None else in_words(estimate.seconds)
            lines.append(f"  {status:11} {run.folder.name}  {cost}".rstrip())
    counts = ", ".join(f"{n} {status}" for status, n in statuses.items())
    number = counted(sum(statuses.values()), "run")
    lines += ["", f"{number} in {options.folder / 'runs'}: {counts or 'none'}"]
    lines += [f"  {status}: {EXPLAINED[status]}" for status in statuses]
    if open_estimates:
        seconds, unknown = total(open_estimates)
        text = in_words(seconds) if seconds else "nothing that is known"
        also = f", and {counted(unknown, 'run')} of unknown length" if unknown else ""
        lines.append(f"Estimate on {device}: {text}{also}; features not extracted yet come on top.")
        known = [basis for basis in bases if basis != NO_RATE]
        lines += [f"  basis: {basis}" for basis in known]
    return "\n".join(map(for_terminal, lines)) + "\n"


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "run"), counted(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")
