"""A name that attacks every output, and how reports of plain names get it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

from pydantic import BaseModel

from mlfsic_bench.text import HIDDEN

NASTY = (
    "=cmd|'/c calc'!A0 <img src=x onerror=a> [l](javascript:a) ![i](x) *b* `c` $x^2$ \\input{a} "
    "\x1b[2J\x1b]8;;http://e\x07\x9b31m\u202etxt\u2066\u2028\u2029\r\n\b\x00\ud800\ufeff "
    '{{ 7 * 7 }} "> [bold]&lt;'
)
PLAIN = "mine"
UNSEEN = re.compile(f"(?!\n)[{HIDDEN}]")
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")


def poisoned(value: Any, by: str = NASTY, name: str = PLAIN) -> Any:
    """`value` with `by` for `name` in all its texts, also where a reader would refuse it."""
    if isinstance(value, str) and type(value) is str:
        return value.replace(name, by)
    if isinstance(value, list | tuple):
        return type(value)(poisoned(one, by, name) for one in value)
    if isinstance(value, dict):
        return {poisoned(k, by, name): poisoned(one, by, name) for k, one in value.items()}
    if isinstance(value, BaseModel):
        new = {key: poisoned(getattr(value, key), by, name) for key in type(value).model_fields}
        return value.model_copy(update=new)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        new = {key: poisoned(getattr(value, key), by, name) for key in fields}
        return dataclasses.replace(value, **new)
    return value


def check(form: str, text: str) -> None:
    """Fail unless `text` is of that form and nothing in it acts or hides."""
    assert not (found := UNSEEN.search(text)), repr(text[max(0, found.start() - 40) : found.end()])
    CHECKS[form](text)


def _markdown(text: str) -> None:
    assert "<img" not in text
    prose = re.sub(r'`[\w ./;="()-]+`', "", text)  # words of this project as code
    assert not re.search(r"(?<!\\)[`]|(?<!\\)\]\(javascript", prose)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert tables
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert len(re.findall(r"^\|", text, re.M)) == len(re.findall(r"\|$", text, re.M))


def _latex(text: str) -> None:
    assert r"\input" not in text
    assert "^" not in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert any(line.startswith("{}") for line in body)
    ours = ("{}", " & ", "Method & ", r"\# & ", r"\multicolumn")
    assert all(line.startswith(ours) for line in body), body


def _csv(text: str) -> None:
    rows = list(csv.reader(io.StringIO(text), strict=True))
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == len(text.splitlines()) > 1
    for cell in (cell for row in rows for cell in row if FORMULA.match(cell)):
        float(cell)  # a number may begin with a sign, nothing else


def _json(text: str) -> None:
    assert text.isascii()
    assert "\\u001b" in json.dumps(json.loads(text))  # the name itself, exactly


class _Tags(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "img"
        assert not [name for name, _ in attrs if name.startswith("on")]


def _html(text: str) -> None:
    _Tags().feed(text)
    assert "onerror" in text


def _terminal(text: str) -> None:
    assert "�" in text


CHECKS = {
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
    "json": _json,
    "html": _html,
    "text": _terminal,
}
