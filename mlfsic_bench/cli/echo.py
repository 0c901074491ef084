"""`echo`, through which everything is printed, also on a terminal that lacks characters."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from mlfsic_bench.progress import wipe
from mlfsic_bench.text import for_json, lines_for_terminal, printable

# What our own texts have beyond ASCII, for encodings without it (cp1252 has no line drawing).
PLAIN = {
    "±": "+-", "–": "-", "—": "-", "−": "-", "─": "-", "…": "...", "×": "x", "≤": "<=",
    "≥": ">=", "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "�": "?",
}  # fmt: skip
HANDLER = "mlfsic-plain"


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text on standard output, or with `err` on standard error.

    Its lines stay; whatever else can't be seen in it is shown as `�`. A name from a file goes
    through `for_terminal` first, so that a line end in it makes no line of its own.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:  # closed by the caller before Python started
        return
    wipe()
    text = printable(text)
    if isinstance(stream, io.TextIOWrapper):
        text = text.encode(stream.encoding, HANDLER).decode(stream.encoding)
    stream.write(text + "\n" * nl)
    stream.flush()


def echo_json(value: Any) -> None:
    """Print a value as JSON in ASCII, which every terminal has."""
    echo(for_json(value))


def plain_streams() -> None:
    """Let standard output and error show plain characters for what their encoding lacks.

    For what others print: click its help, a method its progress.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Make an argument that click's error repeats safe to print."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = lines_for_terminal(error.message)
        raise


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_replaced, error.object[error.start : error.end])), error.end


def _replaced(char: str) -> str:
    if char in PLAIN:
        return PLAIN[char]
    if "\ud800" <= char <= "\udfff":
        return "?"
    base = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return base or f"\\u{ord(char):04x}"


codecs.register_error(HANDLER, _plain)
