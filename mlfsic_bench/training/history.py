"""The history of a training: one row now and then, for learning curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, write_text

HISTORY_FILE = "history.jsonl"
LIMIT = 64 << 20  # bytes: half a million rows


class HistoryRow(TypedDict):
    """`step` steps done; mean `loss` since the row before; `lr` of the last step; `value` on val.

    `value` is None where nothing was evaluated.
    """

    step: int
    loss: float
    lr: float
    value: float | None


def write_history(folder: Path, rows: Sequence[HistoryRow]) -> None:
    """Write all rows to `folder`/history.jsonl, replacing it, so a resumed run repeats none."""
    write_text(folder / HISTORY_FILE, "".join(json.dumps(row) + "\n" for row in rows))


def read_history(folder: Path) -> list[HistoryRow]:
    """The rows of `folder`/history.jsonl; BenchError when there are none to be read."""
    path = Path(folder) / HISTORY_FILE
    try:
        with open_regular(path) as stream:
            data = stream.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise ValueError(f"more than {LIMIT} bytes")
        return [_row(json.loads(line)) for line in data.decode("utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BenchError(
            f"{path} is not a readable training history",
            expected="one JSON object a line with step, loss, lr and value",
            found=f"{type(error).__name__}: {error}",
            remedy="name the folder of a method that was trained",
        ) from error


def _row(row: dict[str, Any]) -> HistoryRow:
    """The four values of a row; ValueError when one is no number (NaN is: a loss can be it)."""
    step, loss, lr, value = row["step"], row["loss"], row["lr"], row["value"]
    numbers = (loss, lr, 0.0 if value is None else value)
    if type(step) is not int or not all(type(number) in (int, float) for number in numbers):
        raise ValueError(f"a row that does not hold numbers: {str(row)[:80]}")
    return {"step": step, "loss": loss, "lr": lr, "value": value}
