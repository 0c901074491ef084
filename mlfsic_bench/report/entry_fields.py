"""The texts, links, paths and numbers of an entry, with the limits that strangers' ones need."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mlfsic_bench.metrics.registry import METRICS

DEEPEST = 10  # levels of parameters
SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
PLAIN_PATH = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"no metric of this name; known are {', '.join(METRICS)}")
    return name


def _https(url: str) -> str:
    odd = [char for char in url if char.isspace() or unicodedata.category(char)[0] in "CZ"]
    parts = urlsplit(url)
    if odd or parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        raise ValueError("an address that begins with https:// and names a host, nothing else")
    return url


def _inside(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError("a path inside the results folder")
    return path


def shallow(value: dict[str, Any]) -> dict[str, Any]:
    """The value; ValueError when it is nested more than DEEPEST levels."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        nested = [one for one in level if isinstance(one, (dict, list))]
        level = [
            one for each in nested for one in (each.values() if isinstance(each, dict) else each)
        ]
    if any(isinstance(one, (dict, list)) for one in level):
        raise ValueError(f"parameters nested at most {DEEPEST} deep")
    return value


Text = Annotated[str, Field(min_length=1, max_length=300)]
LongText = Annotated[str, Field(min_length=1, max_length=4000)]
Slug = Annotated[str, Field(pattern=SLUG, max_length=100)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Https = Annotated[str, Field(max_length=500), AfterValidator(_https)]
ResultPath = Annotated[str, Field(pattern=PLAIN_PATH, max_length=300), AfterValidator(_inside)]
PerCent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Bound = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
MetricName = Annotated[str, AfterValidator(_known_metric)]
Day = Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")]


class EntrySchema(BaseModel):
    """Unknown keys are refused and no value is turned into another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
