"""The history of a training: one row now and then, for learning curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import write_text

HISTORY_FILE = "history.jsonl"


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
        rows: list[HistoryRow] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [
            {"step": r["step"], "loss": r["loss"], "lr": r["lr"], "value": r["value"]} for r in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(
            f"{path} is not a readable training history",
            expected="one JSON object a line with step, loss, lr and value",
            found=f"{type(error).__name__}: {error}",
            remedy="name the folder of a method that was trained",
        ) from error
