"""What a submitter writes by hand: a short YAML or JSON file beside the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular
from mlfsic_bench.report.entry import Link
from mlfsic_bench.report.entry_fields import Day, EntrySchema, LongText, Slug, Text
from mlfsic_bench.report.entry_files import schema_error
from mlfsic_bench.report.entry_kinds import Pretraining


class SubmissionCard(EntrySchema):
    """The keys of a card; what is left out is taken from the run or the scores file.

    `made` and `backbone` are needed for scores that no record of ours describes.
    """

    id: Slug | None = None
    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    authors: Annotated[list[Text], Field(max_length=50)] = Field(default_factory=list)
    contact: Text | None = None
    citation: LongText | None = None
    backbone: Text | None = None
    pretraining: Pretraining | None = None
    made: Day | None = None
    submitted: Day | None = None
    notes: Annotated[list[LongText], Field(max_length=20)] = Field(default_factory=list)
    links: Annotated[list[Link], Field(max_length=20)] = Field(default_factory=list)


def read_card(path: Path) -> SubmissionCard:
    """The card in a YAML or JSON file; BenchError naming the key that is wrong."""
    from mlfsic_bench.hashing import canonical_json

    value = _read_yaml(path)
    try:
        return SubmissionCard.model_validate_json(canonical_json(value))
    except ValidationError as error:
        raise schema_error(error, SubmissionCard, str(path)) from error
    except (TypeError, ValueError) as error:  # YAML has dates, sets and NaN, JSON has not
        raise _unreadable(path, str(error)) from error


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
