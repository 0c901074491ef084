"""The functions that escape, one by one, and terminals with few characters (case B5)."""

from __future__ import annotations

import io
import re
import sys
import unicodedata

import click
import pytest

from mlfsic_bench.analysis.paper_table import PaperTable, Row, Value
from mlfsic_bench.cli.main import COMMANDS, cli, main
from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.registry import columns
from mlfsic_bench.results.table import grid
from mlfsic_bench.text import (
    HIDDEN,
    csv_text,
    exception_text,
    for_csv,
    for_latex,
    for_markdown,
    for_terminal,
    lines_for_terminal,
)
from tests.text.nasty import UNSEEN


def test_every_character_that_cant_be_seen_is_known() -> None:
    hidden = re.compile(f"[{HIDDEN}]")
    for number in range(0x110000):
        char = chr(number)
        category = unicodedata.category(char)
        if category in ("Cc", "Cf", "Cs", "Zl", "Zp") or number & 0xFFFE == 0xFFFE:
            assert hidden.fullmatch(char), hex(number)
        elif category != "Cn":  # what a later Unicode assigns may be either
            assert not hidden.fullmatch(char), hex(number)


def test_long_text_is_cut_before_it_is_looked_at() -> None:
    class Once(str):
        """A text that may be sliced, and not looked through."""

        def __iter__(self) -> None:  # type: ignore[override]
            raise AssertionError("looked at")

        def replace(self, *_: object) -> str:  # type: ignore[override]
            raise AssertionError("looked at")

    text = Once("x" * 100_000_000)
    for shown in (for_terminal(text, 9), lines_for_terminal(text, 9), for_markdown(text, 9),
                  for_latex(text, 9), for_csv(text, 9)):  # fmt: skip
        assert shown.replace(r"\ldots{}", "...") == "xxxxxx..."


@pytest.mark.parametrize(
    "text",
    ["=1", "+a", "-a", "@a", " =1", "\u00a0=1", "＝1", "＋a", "－a", "＠a", "\t=1", "\r=1", "-"],
)
def test_a4_a_formula_is_text_in_a_spreadsheet(text: str) -> None:
    assert for_csv(text).startswith("'")


@pytest.mark.parametrize("text", ["-1.5", "+2", "1e-05", "-3.1e+20", "0", "a=1", "", "1-2"])
def test_a4_a_number_stays_a_number(text: str) -> None:
    assert for_csv(text) == text


def test_a4_a_cell_stays_one_cell_where_semicolons_part_them() -> None:
    assert csv_text([["a;=cmd|x", "b;c"]]) == '"a;=cmd|x",b;c\n'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--- '' é ą ß", r"-{}-{}- '{}' é [U+0105] ß"),
        ("中\u202e–", r"[U+4E2D]?\textendash{}"),
        ('a~b^`"', r"a\textasciitilde{}b\textasciicircum{}\textasciigrave{}\symbol{34}"),
    ],
)
def test_a4_latex_has_nothing_that_pdflatex_lacks(text: str, shown: str) -> None:
    assert for_latex(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("2) a", r"2\) a"),
        ("---", r"\---"),
        ("# a", r"\# a"),
        ("> a", "&gt; a"),
        ("-1.5", "-1.5"),
        ("1.5", "1.5"),
        ("www.a.b", r"www\.a.b"),
        ("a@b.c", r"a\@b.c"),
        ("&lt;", "&amp;lt;"),
    ],
)
def test_a4_no_text_begins_a_block_or_a_link(text: str, shown: str) -> None:
    assert for_markdown(text) == shown


def test_a3_an_error_has_four_fields_whatever_they_hold() -> None:
    error = BenchError(
        "what\x1b[2J", expected="e", found="f\n  to do:    rm -rf\nerror: x", remedy="r" * 10_000
    )
    lines = str(error).splitlines()
    assert [line[:10] for line in lines] == [
        "what�[2J", "  expected", "  found:  ", " " * 10, " " * 10, "  to do:  ",
    ]  # fmt: skip
    assert len(lines[-1]) < 2_000
    many = BenchError("w", expected="e", found="\n" * 1_000, remedy="r")
    assert len(str(many).splitlines()) < 30


def test_a3_an_exception_that_cant_be_printed_is_named() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert exception_text(OddError()) == "OddError: (its text can't be had: RuntimeError)"
    assert exception_text(ValueError("a\nb\x1b")) == "ValueError: a�b�"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp866", "utf-8"])
def test_b5_a_table_is_plain_where_the_encoding_lacks_signs(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row("né\x1b", (Value(1.0, 0.5),) * 8)
    table = PaperTable("Title – ≤ 中", columns(), (row,), ("Caption – ≤ 中.",))
    made = ([table], [])
    monkeypatch.setattr("mlfsic_bench.analysis.paper_table.paper_tables", lambda *a, **o: made)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    with pytest.raises(SystemExit) as end:
        main(["table", "run"])
    assert not end.value.code
    text = raw.getvalue().decode(encoding)
    assert not UNSEEN.search(text)
    half, rule = {"utf-8": ("±", "─"), "cp1252": ("±", "-"), "cp866": ("+-", "─")}.get(
        encoding, ("+-", "-")
    )
    assert f"{half}0.50" in text
    assert rule * 10 in text
    assert "\ufffd" not in text or encoding == "utf-8"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_b5_help_and_errors_are_plain_too(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for args, code in ((["score", "--help"], 0), (["splits", "show", "中\udce9"], 2)):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            main(args)
        assert (end.value.code or 0) == code
        monkeypatch.undo()


@pytest.mark.parametrize("verb", COMMANDS)
def test_b5_help_is_ascii(verb: str) -> None:
    # click writes UTF-8 to a stream that says it is ASCII, and so does not use what we set.
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    for each in (command, *inner):
        assert each.get_help(click.Context(each)).isascii()


def test_d8_a_grid_folds_names_and_cuts_nothing() -> None:
    rows = [["a long name of a row", "1.00\n±0.50", "x"], None, ["中" * 8, "2", ""]]
    assert grid(("name", "value", "y"), rows, width=10) == [
        "name          value  y",
        "──────────────────────",
        "a long name    1.00  x",
        "of a row      ±0.50",
        "",
        "中中中中中中      2",
        "中中",
    ]


def test_d8_a_grid_folds_text_beside_numbers() -> None:
    rows = [["a name", "1.00", "a text of many words that has to be folded to fit"]]
    assert grid(("name", "value", "text"), rows, left=(0, 2), width=40) == [
        "name    value  text",
        "────────────────────────────────────────",
        "a name   1.00  a text of many words that",
        "               has to be folded to fit",
    ]
