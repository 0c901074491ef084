"""The rows of an archived table that a call leaves out.

A large table is made row by row, and not always on one machine. `reproduce NAME --only ROW
--archive DIR` puts ROW into the table that is in DIR: runs of the other rows that are not here are
taken from there, and every number is computed again from all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import parse_record, read_record
from mlfsic_bench.experiments.archive import TRIALS, archived_folder, has_order, kept_runs
from mlfsic_bench.experiments.plan import PlannedRow
from mlfsic_bench.experiments.render import read_table
from mlfsic_bench.experiments.table import ReproducedTable, TableRow
from mlfsic_bench.files import is_stored
from mlfsic_bench.launchers.runs import Done, Kept, PlannedRun, is_current


@dataclass(frozen=True)
class ArchivedTable:
    """What an archive has of a table: `path` is the table's JSON there, which may not be yet."""

    path: Path

    def __call__(self, run: PlannedRun) -> Kept | None:
        """A planned run as the archive has it; None where it has none, or of another version.

        Runs are found by the names of their folders, which say all that a user chose
        (`plan.slug_of`); that all are on the same split and episodes is checked when a table is
        made.
        """
        folder = archived_folder(self.path, run.folder.name)
        if has_order(folder):
            kept = Kept(read_record(folder), folder)
        else:
            tried = kept_runs(self.path, TRIALS).get(run.folder.name)
            if tried is None:
                return None
            kept = Kept(parse_record(tried.record, f"{self.path}"), None)
        return kept if is_current(run, kept.record) else None

    @cached_property
    def table(self) -> ReproducedTable | None:
        """The table that is there."""
        return read_table(self.path) if is_stored(self.path) else None

    @cached_property
    def failed_trials(self) -> frozenset[str]:
        """The folders of the trials that had failed when the table was made.

        Those of a row with runs: of one that was left out, no trial has values.
        """
        rows = [row for row in (self.table.rows if self.table else ()) if row.runs]
        return frozenset(one.folder for r in rows for one in r.trials if one.macro_ap is None)

    def with_rules(self, made: ReproducedTable, done: Done) -> ReproducedTable:
        """Rows made of archived runs as they stand there under decision rules.

        A threshold chosen on val needs the scores of the trial, which are not archived.
        """
        kept = {folder.name for folder in done.kept}
        there = {row.name: row for row in self.table.rows} if kept and self.table else {}

        def one(row: TableRow) -> TableRow:
            old = there.get(row.name)
            if old is None or old.runs != row.runs or kept.isdisjoint(r.folder for r in row.runs):
                return row
            return replace(row, decisions=old.decisions)

        return replace(made, rows=tuple(one(row) for row in made.rows))

    def check_nothing_lost(self, rows: Sequence[PlannedRow], done: Done) -> None:
        """BenchError where the archived table has runs that the new one would lack.

        Rows that are run now may have fewer; that is what was asked for.
        """
        there = {row.name: len(row.runs) for row in self.table.rows} if self.table else {}
        lost = [
            row.spec.name
            for row in rows
            if row.left_out
            and sum(done.place(run.folder) is not None for run in row.runs)
            < there.get(row.spec.name, 0)
        ]
        if lost:
            raise BenchError(
                f"{self.path} has rows that the new table would not have",
                expected="each of its rows run here, or archived with the order of its scores",
                found=f"neither for {', '.join(lost)}",
                remedy="leave --only out, which runs them, or name another folder with --archive",
            )
