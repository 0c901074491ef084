"""Put every row of archived tables on the board: an entry for each, from the runs it rests on.

    python -m tools.pack_table results/measured/coco-subset/reality-check.json ...

The runs must be archived with the order of their scores (`reproduce --archive-scores`). Targets are
rebuilt from the data set, so MLFSIC_DATA must say where it is. An entry's id is made of the row and
the network; its notes say what was chosen on val. Runs that are on the board already, under another
id, get no second entry. Run `mlfsic-bench leaderboard build` afterwards.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.archive import archived_folder, has_order
from mlfsic_bench.experiments.render import read_table
from mlfsic_bench.experiments.table import TableRow
from mlfsic_bench.leaderboard.card import Card
from mlfsic_bench.leaderboard.entry import Entry, Reported, read_entries, slug
from mlfsic_bench.leaderboard.pack import pack
from mlfsic_bench.results.result import Targets, open_result
from mlfsic_bench.results.targets import SplitPlace

ROOT = Path(__file__).resolve().parents[1]


def card_of(row: TableRow, backbone: str) -> Card:
    """The card of a row: its name as printed in the table, and how its settings were chosen."""
    name, notes = row.name, list(row.notes)
    chosen = [trial for trial in row.trials if trial.chosen]
    if len(row.trials) > 1 and chosen:
        name += " (tuned)" if "(" not in name else ", tuned"
        told = ", ".join(f"{key}={value}" for key, value in chosen[0].settings.items())
        notes.append(
            f"Chosen on the val episodes by macro-AP, of {len(row.trials)} settings: {told}."
        )
    return Card(id=slug(f"{row.name}-{backbone}-reality-check"), name=name, notes=notes)


def pack_table(path: Path, known: dict[str, Targets]) -> list[Path]:
    """Write an entry for each row of a table that has runs; the files of the entries."""
    table = read_table(path)
    if table is None:
        raise BenchError(
            f"{path} is no archived table",
            expected="NAME.json, as `mlfsic-bench reproduce --archive DIR` keeps it",
            found="another file",
            remedy="name the file of a table",
        )
    there = {_runs(one): one.id for one in read_entries(ROOT / "results")}
    written = []
    for row in table.rows:
        folders = [archived_folder(path, run.folder) for run in row.runs]
        if not folders or not all(map(has_order, folders)):
            continue
        record = open_result(folders[0]).record
        assert record is not None
        backbone = record.features.backbone if record.features else "none"
        card = card_of(row, backbone)
        keys = tuple(sorted(run.key for run in row.runs))
        if there.setdefault(keys, str(card.id)) != card.id:
            continue
        packed = pack(folders, ROOT / "results", SplitPlace(), card=card, known=known)
        written += [one.entry for one in packed]
    return written


def _runs(entry: Entry) -> tuple[str, ...]:
    """The keys of the runs that an entry rests on."""
    if isinstance(entry.proof, Reported):
        return ()
    return tuple(sorted(str(file.run) for file in entry.proof.files))


def main() -> int:
    """Pack the tables named on the command line; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tables", type=Path, nargs="+", metavar="TABLE.json")
    known: dict[str, Targets] = {}
    try:
        for path in parser.parse_args().tables:
            for entry in pack_table(path, known):
                print(entry.relative_to(ROOT))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
