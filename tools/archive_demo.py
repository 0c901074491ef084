"""Keep what `make demo` left as the measured results that the documentation shows.

    python -m tools.archive_demo demo

Copies DEMO/table.md to results/measured/scenes/demo.md, and of each of its runs the record, scores
and history to results/measured/scenes/demo/RUN. The table can be made again from these.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlfsic_bench.analysis.paper_table import as_markdown, paper_tables
from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.archive import keep_run
from mlfsic_bench.experiments.demo import demo_plans, margins
from mlfsic_bench.files import write_text

ROOT = Path(__file__).resolve().parents[1]


def table_of(runs: list[Path]) -> str:
    """What the demo writes as table.md for these run folders, in the demo's order."""
    leads = "".join(f"- {line}\n" for line in margins(runs))
    return as_markdown(*paper_tables(runs)) + "\n" + leads


def runs_in(folder: Path, below: Path) -> list[Path]:
    """The run folders of a demo at `folder` in its order, as they are called in `below`."""
    return [below / plan.out.name for plan in demo_plans(folder) if plan.out]


def archive(demo: Path, to: Path) -> None:
    """Copy the demo's table and runs to `to`; BenchError when its table is not that of its runs."""
    runs = runs_in(demo, demo / "runs")
    text = (demo / "table.md").read_text("utf-8")
    if text != table_of(runs):
        raise BenchError(
            f"{demo / 'table.md'} is not the table of the runs beside it",
            expected="what mlfsic-bench demo wrote",
            found="another text",
            remedy="run make demo again",
        )
    for run in runs:
        keep_run(run, to / "demo" / run.name, to)
    write_text(to / "demo.md", text)


def main() -> int:
    """Archive the demo named on the command line; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="folder that make demo wrote")
    try:
        archive(parser.parse_args().demo, ROOT / "results" / "measured" / "scenes")
    except (BenchError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
