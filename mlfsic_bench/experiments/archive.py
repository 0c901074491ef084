"""What of a reproduction is kept for others in `results/measured`, and reading it again.

A table's files are copied. Of its runs, `NAME.runs.json` beside them keeps the record, the
history of its training and the values of every episode that the table is made of. With
`scores`, `runs/RUN/` keeps record, history and the order of the scores in each episode instead
(`evaluation.scores.order_of`): a third of the size of the scores, and the values, the intervals and
the entry on the board follow from it.
Targets are kept once for each set of episodes (`results.archived_targets`). Checkpoints and weights
are not kept.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.evaluation.record import CHECKPOINTS, ORDER, RECORD, SCORES, read_record
from mlfsic_bench.evaluation.scores import order_of, write_scores
from mlfsic_bench.experiments.decisions import COUNTS
from mlfsic_bench.experiments.schema import Experiment
from mlfsic_bench.experiments.table import VALUE_DECIMALS, Float64
from mlfsic_bench.files import (
    PACKED,
    copy_file,
    is_stored,
    read_regular,
    write_bytes,
    write_packed,
)
from mlfsic_bench.paths import is_file, state_of
from mlfsic_bench.results.archived_targets import share_targets
from mlfsic_bench.results.result import open_result
from mlfsic_bench.results.targets import targets_of
from mlfsic_bench.training.history import HISTORY_FILE

APS = ("macro_ap", "micro_ap")
FOLDER = "runs"  # beside the tables: the runs whose scores, or their order, are kept
TRIALS = ".trials.json"  # packed like RUNS
RUNS = ".runs.json"  # packed: `files.open_regular`
KIND = "mlfsic-bench archived runs"
COLOURS = 128  # of an archived picture; a quarter of the size, and no difference to be seen


def archive(
    files: Sequence[Path],
    runs: Sequence[Path],
    to: Path,
    *,
    experiment: Experiment,
    scores: bool,
    trials: Sequence[Path] = (),
) -> None:
    """Keep the files that an experiment wrote in the folder `to`, and what its runs were.

    Label counts (`decisions`) go into a folder of their own there.

    With `scores`, the order of the scores is kept of every run; scores that are there stay. Of
    `trials` on val the record, the history and the values of each episode are kept in any case.
    Runs and trials that are in the archive and not here stay as they are.
    """
    for path in files:
        if path.suffix == ".npz":
            copy_file(path, to / COUNTS / path.name)
        elif path.suffix == ".png":
            write_bytes(to / path.name, fewer_colours(read_regular(path)))
        else:
            copy_file(path, to / path.name)
    metrics = () if experiment.kind == "attention" else tuple(experiment.columns)
    kept: dict[str, Any] = {}
    for run in dict.fromkeys(runs):
        target = to / FOLDER / run.name
        if _is_there(run, target):
            continue
        if scores:
            keep_run(run, target, to)
        else:
            kept[run.name] = _without_scores(run, metrics)
    write_runs(to / f"{files[0].stem}{RUNS}", kept)
    path = to / f"{files[0].stem}{TRIALS}"
    there = json.loads(read_regular(path))["runs"] if is_stored(path) else {}
    tried = {
        run.name: _without_scores(run, APS) if is_file(run / RECORD) else there[run.name]
        for run in dict.fromkeys(trials)
    }
    write_runs(path, tried)


def _is_there(run: Path, target: Path) -> bool:
    """Whether `target` keeps the run, and not one of the same name by another version."""
    if not has_order(target):
        return False
    return not is_file(run / RECORD) or read_record(run).key == read_record(target).key


def keep_run(folder: Path, target: Path, to: Path) -> None:
    """Keep record, history and order of the scores in the folder `target`, targets in `to`."""
    result = open_result(folder)
    assert result.record is not None
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / ORDER
        write_scores(path, order_of(result.scores, result.record.outputs[SCORES]))
        write_packed(target / ORDER, read_regular(path))
    copy_file(folder / RECORD, target / RECORD)
    history = folder / CHECKPOINTS / HISTORY_FILE
    if is_file(history):
        copy_file(history, target / HISTORY_FILE)
    share_targets(folder / result.record.targets_file, to, targets_of([result]).support)


def write_runs(path: Path, runs: dict[str, Any]) -> None:
    """Write records, histories and values of runs by the names of their folders; none: nothing."""
    if not runs:
        return
    value = {"schema_version": 1, "kind": KIND, "decimals": VALUE_DECIMALS, "runs": runs}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    write_packed(path, text.encode())


def fewer_colours(data: bytes) -> bytes:
    """A PNG picture as one with a palette."""
    from PIL import Image

    stream = BytesIO()
    with Image.open(BytesIO(data)) as picture:
        flat = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    flat.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _without_scores(folder: Path, metrics: Sequence[str]) -> dict[str, Any]:
    result = open_result(folder)
    values = result.values(metrics, targets_of([result])) if metrics else {}
    history = folder / CHECKPOINTS / HISTORY_FILE
    lines = read_regular(history).decode().splitlines() if is_file(history) else []
    return {
        "record": json.loads(read_regular(folder / RECORD)),
        "history": [json.loads(line) for line in lines],
        "values": {name: whole_numbers(each) for name, each in values.items()},
    }


def whole_numbers(values: Float64) -> list[int | None]:
    """Fractions as whole numbers of their last decimal that is kept; None for NaN."""
    return [None if np.isnan(v) else round(v * 10**VALUE_DECIMALS) for v in values.tolist()]


@dataclass(frozen=True, eq=False)
class ArchivedRun:
    """A run as it was archived: its record, and metric -> float64 [E], fractions."""

    record: dict[str, Any]
    values: dict[str, Float64]


def read_runs(path: Path) -> dict[str, ArchivedRun]:
    """The runs in a file that `write_runs` wrote, by the names of their folders."""
    value = json.loads(read_regular(path))
    return {
        name: ArchivedRun(
            run["record"],
            {
                metric: np.array([np.nan if v is None else v for v in each], np.float64)
                / 10 ** value["decimals"]
                for metric, each in run["values"].items()
            },
        )
        for name, run in value["runs"].items()
    }


def archived_folder(table: Path, run: str) -> Path:
    """Where a run's scores, or their order, lie beside the JSON of a table; perhaps nothing is."""
    return table.parent / FOLDER / run


def has_order(folder: Path) -> bool:
    """Whether the scores of an archived run, or their order, are kept."""
    return is_stored(folder / SCORES) or is_stored(folder / ORDER)


def kept_runs(table: Path, ending: str) -> dict[str, ArchivedRun]:
    """The runs (`RUNS`) or trials (`TRIALS`) kept beside the JSON of a table."""
    runs = table.with_name(table.stem + ending)
    there = next((one for one in (runs, Path(f"{runs}{PACKED}")) if is_file(one)), None)
    return {} if there is None else _read_once(runs, tuple(state_of(there.stat())))


@cache
def _read_once(path: Path, state: tuple[int, ...]) -> dict[str, ArchivedRun]:
    """`read_runs` of a file in this state (`paths.state_of`)."""
    return read_runs(path)
