"""Run the benchmarks and end with one table of all goals (`make bench`).

    python -m tools.bench                    # all of benchmarks/bench_*.py, one after the other
    python -m tools.bench metrics model      # only these, and the goals that they report
    python -m tools.bench --record           # keep what they print in results/timings/
    python -m tools.bench full growth estimate   # scripts that run only when they are named
    python -m tools.bench tests --record     # how long `make test` takes

With --record each script has a file results/timings/NAME.txt: where it was measured, the command,
and its output as it came. docs/performance.md is filled from these files by `make docs-tables`, so
record on a quiet machine. Exit code 1 when a script failed; a missed goal is no failure.
"""

from __future__ import annotations

import argparse
import ast
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.goals import GOALS, WHY, line, parse, shown
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.provenance import Provenance, provenance
from mlfsic_bench.files import write_text

ROOT = Path(__file__).resolve().parents[1]
TIMINGS = "results/timings"
EXTRA = ("full", "growth", "estimate")  # scripts that run only when they are named
TESTS = "tests"
ELSEWHERE = ("estimate", TESTS)  # what docs/performance.md shows in a place of its own


def scripts(root: Path) -> dict[str, Path]:
    """The benchmarks by name."""
    found = {p.stem.removeprefix("bench_"): p for p in sorted(root.glob("benchmarks/bench_*.py"))}
    return found | {name: root / "benchmarks" / f"{name}.py" for name in EXTRA}


def run(name: str, command: list[str], root: Path) -> str | None:
    """Run one benchmark, its output printed as it comes and returned; None when it fails."""
    print(f"== {name}", flush=True)
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": path},  # scripts import `goals` or `benchmarks.goals`
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = []
        for each in process.stdout:
            printed.append(each)
            print(each, end="", flush=True)
    if process.returncode:
        print(f"{name} failed with exit code {process.returncode}", file=sys.stderr)
        return None
    return "".join(printed)


def time_tests(root: Path) -> str | None:
    """Run the test suite; the line of its goal, None when a test failed."""
    used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = ["make", "test", "VENV=", f"PYTHON={sys.executable}"]
    if run(TESTS, command, root) is None:
        return None
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    detail = f"{cpu:.0f} CPU s, {os.cpu_count()} cores"
    made = line("test-suite", (time.monotonic() - start) / 60, detail)
    print(made)
    return made


def record(name: str, shell: str, output: str, here: Provenance, root: Path) -> None:
    """Keep what a benchmark printed, below where it ran and the command `shell`."""
    packages = ", ".join(f"{package} {version}" for package, version in here.packages.items())
    threads = os.environ.get("OMP_NUM_THREADS")
    state = " and changes" if here.dirty else ""
    head = [
        f"mlfsic-bench {here.version}, commit {(here.commit or 'none')[:12]}{state}",
        f"Python {here.python}, {packages}",
        f"{here.processor}, {here.cores} cores",
        f"$ {f'OMP_NUM_THREADS={threads} ' if threads else ''}{shell}",
    ]
    text = "\n".join([*head, "", output.rstrip()]) + "\n"
    write_text(root / TIMINGS / f"{name}.txt", text)


def recorded(root: Path, name: str = "*") -> dict[str, tuple[float, str]]:
    """The value and detail of every goal in the files of results/timings/."""
    texts = [path.read_text("utf-8") for path in sorted((root / TIMINGS).glob(f"{name}.txt"))]
    return {goal: value for text in texts for goal, value in parse(text).items()}


def goals_table(values: Mapping[str, tuple[float, str]], only_these: bool = False) -> str:
    """The table of all goals, or of those with a value, and below it why goals are missed.

    Markdown, padded to be read on a terminal too.
    """
    rows, reasons, unknown = [["what", "before", "measured", "goal", "met"]], [], []
    for name, goal in GOALS.items():
        if name in values:
            value, detail = values[name]
            met = goal.met(value)
            said = f"{shown(value)}{goal.unit}" + (f" ({detail})" if detail else "")
        elif only_these:
            continue
        else:
            met, said = None, "not measured"
        verdict = {True: "yes", False: "**no**", None: "-"}[met]
        before = goal.before if not goal.before[-1].isdigit() else f"{goal.before}{goal.unit}"
        rows.append([goal.what, before, said, f"{goal.sense} {goal.goal:g}{goal.unit}", verdict])
        if not met and name not in values and name not in WHY:
            unknown.append(goal.what)
        elif not met:
            reasons.append(f"- {goal.what}, {said}: {WHY.get(name, 'no profile yet')}.")
    if unknown:
        reasons.append(f"- No script that ran reports: {'; '.join(unknown)}.")
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*lines, *(["", *reasons] if reasons else [])])


def sections(root: Path) -> str:
    """A section for each recorded benchmark: what its script says of itself, what it printed.

    BenchError for a file whose script is gone.
    """
    known, made = scripts(root), []
    for path in sorted((root / TIMINGS).glob("*.txt")):
        name = path.stem
        if name in ELSEWHERE:
            continue
        if name not in known:
            raise BenchError(
                f"{TIMINGS}/{path.name} has no script",
                expected=f"one of {', '.join(known)}",
                found=name,
                remedy="remove the file",
            )
        said = ast.get_docstring(ast.parse(known[name].read_text("utf-8"))) or ""
        paragraphs = [part for part in said.split("\n\n") if not part.startswith((" ", "python "))]
        fence = "```text\n" + path.read_text("utf-8").strip("\n") + "\n```"
        made.append("\n\n".join([f"### {name.replace('_', ' ')}", *paragraphs, fence]))
    return "\n\n".join(made)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the named benchmarks, or all; exit code 1 when one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    known = scripts(root)
    parser.add_argument("names", nargs="*", metavar="NAME", help="e.g. metrics; default: all")
    parser.add_argument("--record", action="store_true", help=f"keep the output in {TIMINGS}/")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in (*known, TESTS):
            parser.error(f"{name!r} is none of {', '.join((*known, TESTS))}")
    here = provenance("cpu")  # before the first file makes a change to the checkout
    values = {} if given.names else recorded(root, TESTS)
    failed = []
    for name in given.names or [name for name in known if name not in EXTRA]:
        if name == TESTS:
            shell, output = "make test", time_tests(root)
        else:
            script = known[name].relative_to(root).as_posix()
            shell, output = f"python {script}", run(name, [sys.executable, "-u", script], root)
        if output is None:
            failed.append(name)
            continue
        values |= parse(output)
        if given.record:
            record(name, shell, output, here, root)
    if values or not given.names:
        print(f"\n{goals_table(values, only_these=bool(given.names))}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
