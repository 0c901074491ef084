"""The history of a training: one row now and then, for learning curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypedDict

from pydantic import Field, ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, parse_json, write_text
from mlfsic_bench.schema import FileSchema

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


Number = Annotated[float, Field(allow_inf_nan=True)]  # a loss can be NaN


class _Row(FileSchema):
    step: Annotated[int, Field(ge=0)]
    loss: Number
    lr: Number
    value: Number | None


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
        return [_row(line) for line in data.decode("utf-8").splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise BenchError(
            f"{path} is not a readable training history",
            expected="one JSON object a line with step, loss, lr and value",
            found=f"{type(error).__name__}: {error}",
            remedy="name the folder of a method that was trained",
        ) from error


def _row(line: str) -> HistoryRow:
    try:
        row = _Row.model_validate(parse_json(line, finite=False))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"{place}: {first['msg']} in the row {line[:80]}") from error
    return {"step": row.step, "loss": row.loss, "lr": row.lr, "value": row.value}
