"""The card of a submission: what a submitter writes by hand, and a template of it.

A card is a short YAML or JSON file. It says what no record says; what a record says it can't
overrule.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.leaderboard.entry import PAGE, Link, Pretraining, ShownName
from mlfsic_bench.results.fields import LongText, Slug
from mlfsic_bench.schema import Day, FileSchema, Line, load
from mlfsic_bench.yaml_files import read_yaml

# What each key is for; what it expects, as errors and the template say it; an example.
KEYS: dict[str, tuple[str, str, str]] = {
    "name": ("the name in the table", "one line of at most 120 characters", "My method"),
    "authors": ("who made the method", "a list of names", "[A. Person, B. Person]"),
    "citation": (
        "the work it comes from",
        "a text of at most 4,000 characters",
        '"Person and Person: My method. Venue 2026"',
    ),
    "links": (
        "paper, code",
        "a list of titles with addresses that begin with https://",
        '[{title: paper, url: "https://example.org/paper"}]',
    ),
    "contact": ("how to reach you", "one line", "person@example.org"),
    "backbone": ("the network that made the features", "one line", "resnet50"),
    "pretraining": (
        "what the backbone had seen",
        "one of: external images, base images only, not stated",
        "external images",
    ),
    "made": ("the day the scores were made", "a day of the calendar", "2026-11-23"),
    "submitted": ("the day of the submission", "a day of the calendar", "2026-11-24"),
    "notes": ("what readers should know", "a list of texts", '["Trained twice as long."]'),
    "id": (
        "the name of the entry's file",
        "lower-case letters, digits and hyphens",
        "my-method-resnet50",
    ),
}


class Card(FileSchema):
    """The keys of a card; what is left out is taken from the run or the scores file.

    `made` and `backbone` are needed for scores that no record describes.
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
    notes: Annotated[list[LongText], Field(max_length=50)] = Field(default_factory=list)
    links: Annotated[list[Link], Field(max_length=20)] = Field(default_factory=list)


def read_card(path: Path) -> Card:
    """The card in a YAML or JSON file; one BenchError that names every key that is wrong."""
    start = "correct the file, or start from the one that `mlfsic-bench submit card` writes"
    value = read_yaml(path, "submission card", start)
    try:
        if isinstance(value, dict):
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
            return Card.model_validate_json(text.encode())
    except ValidationError as error:
        raise _all_wrong(path, error) from error
    except (TypeError, ValueError, RecursionError):
        pass  # values that no file may have: `load` says which
    return load(Card, value, str(path), page=PAGE, remedy="leave the key out")


def _all_wrong(path: Path, error: ValidationError) -> BenchError:
    """What is wrong with a card, in the words of `KEYS`, a line for each key."""
    expected: dict[str, str] = {}
    found: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False):
        key = str(item["loc"][0])
        place = ".".join(str(step) for step in item["loc"])
        if key not in KEYS:
            close = nearest(key, KEYS)
            hint = f"; did you mean {close!r}?" if close else f" among {', '.join(KEYS)}"
            expected[key], found[key] = f"{key}: no such key{hint}", f"unknown key {key!r}"
            continue
        _, what, example = KEYS[key]
        shown = repr(item["input"])
        expected[key] = f"{key}: {what}, such as {example}"
        found.setdefault(key, f"{place}: {shown if len(shown) <= 80 else shown[:77] + '...'}")
    count = "a key" if len(expected) == 1 else f"{len(expected)} keys"
    return BenchError(
        f"{path}: {count} of the card can't be used: {', '.join(expected)}",
        expected="\n".join(expected.values()),
        found="\n".join(found.values()),
        remedy=f"correct them, or leave them out ({PAGE}); `mlfsic-bench submit card` writes a "
        "card to start from",
    )
