"""What a submitter writes by hand: a short YAML or JSON file beside the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular
from mlfsic_bench.leaderboard.entry import Link, ShownName
from mlfsic_bench.leaderboard.files import PAGE
from mlfsic_bench.leaderboard.kinds import Pretraining
from mlfsic_bench.results.fields import LongText, Slug
from mlfsic_bench.schema import Day, FileSchema, Line, load


class SubmissionCard(FileSchema):
    """The keys of a card; what is left out is taken from the run or the scores file.

    `made` and `backbone` are needed for scores that no record of ours describes.
    """

    id: Slug | None = None
    name: ShownName | None = None
    authors: Annotated[list[Line], Field(max_length=50)] = Field(default_factory=list)
    contact: Line | None = None
    citation: LongText | None = None
    backbone: Line | None = None
    pretraining: Pretraining | None = None
    made: Day | None = None
    submitted: Day | None = None
    notes: Annotated[list[LongText], Field(max_length=20)] = Field(default_factory=list)
    links: Annotated[list[Link], Field(max_length=20)] = Field(default_factory=list)


def read_card(path: Path) -> SubmissionCard:
    """The card in a YAML or JSON file; BenchError naming the key that is wrong."""
    remedy = "leave the key out"
    return load(SubmissionCard, _read_yaml(path), str(path), page=PAGE, remedy=remedy)


def _read_yaml(path: Path) -> Any:
    from mlfsic_bench.yaml_files import LIMIT, parse_yaml

    try:
        with open_regular(path) as stream:
            return parse_yaml(stream.read(LIMIT + 1))
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, found: str) -> BenchError:
    return BenchError(
        f"{path} is not a readable submission card",
        expected="a short YAML or JSON file with the keys in docs/leaderboard.md",
        found=found,
        remedy="correct the file",
    )
