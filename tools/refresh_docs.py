"""Fill the tables and values of README.md and docs/ from the files in results/.

    python -m tools.refresh_docs            # the same as `make docs-tables`
    python -m tools.refresh_docs --check    # write nothing; exit code 1 when a page is stale

A block is two comments, each on a line of its own and outside fenced code:

    <!-- table: results/measured/scenes/table3.json columns=macro_ap rows=LaSO|PLA -->
    <!-- end -->

What stands between them is made from the named file. `tools/views.py` describes the options.
A number in a sentence is filled in likewise; `tools/values.py` describes its mark.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import write_text
from tools.values import fill
from tools.views import OPTIONS, view

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "make docs-tables"
_BEGIN = re.compile(r"^<!-- table: (\S+)((?: .*)?) -->$")
_END = "<!-- end -->"
_FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True)
class Block:
    """A block of a page: its file, its options, and the lines from and to its marks."""

    source: str
    options: dict[str, str]
    begin: int
    end: int


def pages(root: Path) -> list[Path]:
    """The pages whose blocks are filled."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def blocks(text: str, name: str) -> Iterator[Block]:
    """The blocks of a page called `name`; BenchError for one that is not closed."""
    lines = text.split("\n")
    at, fenced = 0, False
    while at < len(lines):
        found = _BEGIN.match(lines[at])
        if _FENCE.match(lines[at]):
            fenced = not fenced
        elif found and not fenced:
            end = next((i for i in range(at + 1, len(lines)) if lines[i] == _END), None)
            if end is None or any(_BEGIN.match(line) for line in lines[at + 1 : end]):
                raise _wrong(name, at, f"a line {_END} below it", "none before the next block")
            yield Block(found[1], _options(found[2], name, at), at, end)
            at = end
        elif lines[at].startswith("<!-- table") and not fenced:
            raise _wrong(name, at, "<!-- table: FILE key=value ... -->", lines[at])
        at += 1


def refresh(page: Path, root: Path) -> str:
    """The text of `page` with its values and blocks made anew; nothing is written."""
    name = page.relative_to(root).as_posix()
    text = fill(page.read_text("utf-8"), root, name)
    lines = text.split("\n")
    filled: list[str] = []
    at = 0
    for block in blocks(text, name):
        made = view(root, block.source, block.options, page.parent)
        if _END in made.split("\n") or "<!-- table" in made:
            raise BenchError(
                f"{block.source} cannot stand in a block",
                expected="a file without the marks of blocks",
                found=_END,
                remedy="make that file again",
            )
        filled += [*lines[at : block.begin + 1], "", *made.split("\n")]
        at = block.end
    return "\n".join([*filled, *lines[at:]])


def _options(text: str, name: str, line: int) -> dict[str, str]:
    """`a=x y b=z` -> {"a": "x y", "b": "z"}: a value ends where the next known key begins."""
    parts = re.split(rf"(?:^|\s)({'|'.join(OPTIONS)})=", text)
    keys, values = parts[1::2], [value.strip() for value in parts[2::2]]
    if parts[0].strip() or len(set(keys)) < len(keys):
        raise _wrong(name, line, f"each of {', '.join(OPTIONS)} once at most", text.strip())
    return dict(zip(keys, values, strict=True))


def _wrong(name: str, line: int, expected: str, found: str) -> BenchError:
    return BenchError(
        f"{name}, line {line + 1}: this block cannot be read",
        expected=expected,
        found=found,
        remedy="see tools/refresh_docs.py",
    )


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Fill or check all pages; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only say which pages are stale")
    options = parser.parse_args(arguments)
    try:
        made = {page: refresh(page, root) for page in pages(root)}
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    stale = [page for page, text in made.items() if text != page.read_text("utf-8")]
    for page in stale:
        print(f"{'stale' if options.check else 'filled'}: {page.relative_to(root).as_posix()}")
        if not options.check:
            write_text(page, made[page])
    if stale and options.check:
        print(f"run: {COMMAND}", file=sys.stderr)
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
