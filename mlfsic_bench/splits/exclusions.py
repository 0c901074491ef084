"""Exclusion lists: the images that `splits audit` would leave out, as a text file.

One image id a line; what follows a `#` is a comment, and empty lines count for nothing. A list is
made to be read and edited: a line taken out keeps its image.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import no_file, read_limited, write_text
from mlfsic_bench.hashing import hash_bytes
from mlfsic_bench.paths import cannot_use, look
from mlfsic_bench.text import for_terminal

MAX_BYTES = 64 << 20
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")  # as in split files


def write_exclusions(path: Path, reasons: Mapping[str, str], of: str) -> None:
    """Write a list of the images in `reasons`, with the reason of each; `of` is the split's id."""
    lines = [
        f"# Images to exclude from {for_terminal(of)}, found by `mlfsic-bench splits audit`:"
        f" {len(reasons)}.",
        "# One image id a line; what follows a # is a comment. Take out a line to keep its image.",
        *(f"{image}  # {for_terminal(reason, 200)}" for image, reason in reasons.items()),
    ]
    write_text(path, "\n".join(lines) + "\n")


def read_exclusions(path: Path) -> frozenset[str]:
    """The image ids in a list; BenchError for a line that is none."""
    if look(path) == "nothing":
        raise no_file("list of images to exclude", path)
    try:
        text = read_limited(path, MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise cannot_use(path, error) from error
    except UnicodeDecodeError as error:
        raise _bad_list(path, f"{type(error).__name__}: {error}") from error
    found = set()
    for number, line in enumerate(text.splitlines(), 1):
        image = line.partition("#")[0].strip()
        if image and not _ID.fullmatch(image):
            raise _bad_list(path, f"line {number}: {image!r:.200}")
        found.add(image)
    return frozenset(found - {""})


def hash_ids(image_ids: Collection[str]) -> str:
    """SHA-256 of the sorted ids, one a line: equal images, equal hash."""
    return hash_bytes("".join(f"{image}\n" for image in sorted(image_ids)).encode())


def _bad_list(path: Path, found: str) -> BenchError:
    return BenchError(
        f"{path} is not a list of images to exclude",
        expected="one image id a line, comments after #",
        found=found,
        remedy="write it with `mlfsic-bench splits audit --exclusions FILE`, or see docs/audit.md",
    )
