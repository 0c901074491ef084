"""The texts, links, paths and numbers of an entry, with the limits that untrusted ones need."""

from __future__ import annotations

import unicodedata
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.schema import shaped

SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"no metric of this name; known are {', '.join(METRICS)}")
    return name


def _https(url: str) -> str:
    odd = [char for char in url if char.isspace() or unicodedata.category(char)[0] in "CZ"]
    parts = urlsplit(url)  # ValueError for a host or a port that is none
    known = parts.hostname and parts.port != 0
    if odd or parts.scheme != "https" or not known or "@" in parts.netloc:
        raise ValueError("an address that begins with https:// and names a host, nothing else")
    return url


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("text that is not blank")
    return text


LongText = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_not_blank)]
Slug = Annotated[str, shaped(SLUG, "lower-case letters, digits and hyphens", longest=100)]
Https = Annotated[str, Field(max_length=500), AfterValidator(_https)]
PerCent = Annotated[float, Field(ge=0, le=100)]
Bound = Annotated[float, Field(ge=-1000, le=1000)]
MetricName = Annotated[str, AfterValidator(_known_metric)]
