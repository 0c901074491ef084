"""Plain YAML from untrusted files: mappings, lists, text, numbers, true, false, null, no more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular

LIMIT = 1 << 16  # bytes; the reader takes seconds for a megabyte, and people write a few thousand
_NUMBERS = {  # short ones: YAML 1.1 also has 1:30:00, 0x1F and numbers of any length
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})$"),
    "tag:yaml.org,2002:float": re.compile(
        r"(?:[-+]?[0-9]{1,18}\.[0-9]{0,18}(?:[eE][-+]?[0-9]{1,3})?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}
_WORDS = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")


class _Plain(yaml.SafeLoader):
    """Without tags, aliases (which make a small file huge), merge keys, dates and odd numbers."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"tags such as {event.tag[:60]!r} are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.YAMLError(f"a key that is not text: {str(key.value)[:60]!r}")
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value[:60]!r} stands twice in one mapping")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Plain.yaml_implicit_resolvers = {
    first: [
        (tag, _NUMBERS.get(tag, pattern))
        for tag, pattern in each
        if tag in _NUMBERS or tag in _WORDS
    ]
    for first, each in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(data: bytes) -> Any:
    """The value of `data`, UTF-8 text of at most LIMIT bytes; ValueError in one line otherwise.

    Refused: tags, aliases, keys that stand twice or are not text, nesting too deep to parse. Dates,
    `<<`, hexadecimal and sexagesimal numbers and numbers of more than 18 digits are read as text.
    """
    if len(data) > LIMIT:
        raise ValueError(f"more than {LIMIT} bytes")
    try:
        return yaml.load(data.decode("utf-8"), Loader=_Plain)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error


def read_yaml(path: Path, kind: str, remedy: str) -> Any:
    """The value in a file; BenchError saying that it is no readable `kind`, and the `remedy`."""
    try:
        with open_regular(path) as stream:
            return parse_yaml(stream.read(LIMIT + 1))
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{path} is not a readable {kind}",
            expected="plain YAML or JSON in a short file",
            found=getattr(error, "strerror", None) or str(error),
            remedy=remedy,
        ) from error
