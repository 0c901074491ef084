"""What both kinds of episode file are: JSON with fixed keys, an entry a line, and its own hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.hashing import canonical_json, hash_json
from mlfsic_bench.schema import is_plain

LONGEST = 200  # characters of an id


@dataclass(frozen=True)
class FileKind:
    """One kind of file.

    Attributes
    ----------
    what: names it in an error, after "is not a valid".
    keys: its keys in the order of the file, `hash` the last.
    fixed: the keys whose value is the same in every file.
    listed: the key of the entries, each of which has a line of its own.
    remedy: how to come by a sound file.
    shown: characters of a wrong value that an error shows; None: as many as any error shows.
    """

    what: str
    keys: tuple[str, ...]
    fixed: Mapping[str, str | int]
    listed: str
    remedy: str
    shown: int | None = None

    def format(self, body: Mapping[str, Any], digest: str) -> bytes:
        """The bytes of a file: keys in their order, one entry a line, UTF-8.

        `body` has all keys but `hash`, which is `digest`.
        """
        content = {**body, "hash": digest}
        lines = ",\n".join(canonical_json(entry).decode() for entry in content[self.listed])
        fields = [
            f'"{key}":[\n{lines}\n]'
            if key == self.listed
            else f'"{key}":{json.dumps(content[key], ensure_ascii=False)}'
            for key in self.keys
        ]
        return ("{\n" + ",\n".join(fields) + "\n}\n").encode()

    def check_head(self, raw: Any, name: str) -> dict[str, Any]:
        """`raw`, when it is an object with these keys, the fixed values, and text as ids and hash.

        BenchError otherwise; what the other keys hold is not looked at.
        """
        if not isinstance(raw, dict):
            raise self.wrong(name, "a JSON object", type(raw).__name__)
        for key in raw:
            if key not in self.keys:
                close = nearest(key, self.keys)
                hint = f"did you mean {close!r}? " if close else ""
                expected = f"keys among {', '.join(self.keys)}"
                raise self.wrong(name, expected, f"unknown key {key!r}", hint)
        for key in self.keys:
            if key not in raw:
                raise self.wrong(name, f"the key {key!r}", "no such key")
        for key, value in self.fixed.items():
            if raw[key] != value or type(raw[key]) is not type(value):  # true and 1.0 equal 1
                raise self.wrong(name, f"{key} {value!r}", repr(raw[key])[: self.shown])
        for key in ("split_id", "split_hash", "hash"):
            if not is_plain(raw[key]) or len(raw[key]) > LONGEST:
                raise self.wrong(name, f"plain text for {key!r}", repr(raw[key])[: self.shown])
        return raw

    def check_hash(self, raw: Mapping[str, Any], body: Mapping[str, Any], name: str) -> None:
        """BenchError unless the file's hash is that of its content, `body`."""
        try:
            expected = hash_json(body)
        except UnicodeEncodeError as error:
            raise self.wrong(name, "text that can be written as UTF-8", str(error)) from error
        if raw["hash"] != expected:
            raise self.wrong(name, f"hash {expected} (that of the content)", f"hash {raw['hash']}")

    def wrong(self, name: str, expected: str, found: str, hint: str = "") -> BenchError:
        """The error of a file called `name` that is not of this kind."""
        return BenchError(
            f"{name} is not a valid {self.what}",
            expected=expected,
            found=found,
            remedy=hint + self.remedy,
        )


def shipped_folder() -> Path:
    """Where the files lie that come with the package."""
    return Path(str(files("mlfsic_splits")))
