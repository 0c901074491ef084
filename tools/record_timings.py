"""Run the benchmarks and keep what they print, for docs/performance.md.

    python -m tools.record_timings            # all of benchmarks/bench_*.py, on a quiet machine
    python -m tools.record_timings metrics    # only benchmarks/bench_metrics.py

Writes results/timings/NAME.txt: where it was measured, the command, and its output as it came.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from mlfsic_bench.evaluation.provenance import Provenance, provenance
from mlfsic_bench.files import write_text

ROOT = Path(__file__).resolve().parents[1]


def record(script: Path, to: Path, here: Provenance) -> bool:
    """Run the script and write its output to a file in `to`; False when the script fails."""
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"{script.name} failed:\n{done.stderr}", file=sys.stderr)
        return False
    packages = ", ".join(f"{name} {version}" for name, version in here.packages.items())
    threads = "".join(
        f"{name}={os.environ[name]} " for name in ("OMP_NUM_THREADS",) if name in os.environ
    )
    state = " and changes" if here.dirty else ""
    head = [
        f"mlfsic-bench {here.version}, commit {(here.commit or 'none')[:12]}{state}",
        f"Python {here.python}, {packages}",
        f"{here.processor}, {here.cores} cores",
        f"$ {threads}python benchmarks/{script.name}",
        "",
    ]
    name = script.stem.removeprefix("bench_") + ".txt"
    write_text(to / name, "\n".join(head) + "\n" + done.stdout.rstrip() + "\n")
    return True


def main() -> int:
    """Record the named benchmarks, or all; exit code 1 when one failed."""
    scripts = {p.stem.removeprefix("bench_"): p for p in sorted(ROOT.glob("benchmarks/bench_*.py"))}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="e.g. metrics; default: all")
    names = parser.parse_args().names or list(scripts)
    for name in names:
        if name not in scripts:
            parser.error(f"{name!r} is none of {', '.join(scripts)}")
    here = provenance("cpu")  # before the first file makes a change to the checkout
    good = [record(scripts[name], ROOT / "results" / "timings", here) for name in names]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
