"""Text that came from a file or a plug-in, made safe for each place it is shown in.

The only module that escapes. There is one function for each output: `for_terminal` (also pictures
and logs), `for_markdown`, `for_latex`, `for_html`, `for_csv` (and `csv_text` for a whole file) and
`for_json`. All but the last show characters that can't be seen as `�`, since such characters move
the cursor, change the title of a window or turn the direction of writing; and all but the last cut
long text before they look at its characters, so that a message of 100 MB costs no more than a short
one.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

LONGEST = 10_000  # characters of one text; a citation in an entry may have 4,000
LONGEST_CELL = 32_000  # a spreadsheet's cell holds 32,767
LONGEST_NAME = 200  # characters of a name in a table on the terminal
LONGEST_SAID = 1_500  # characters of each field of an error
MOST_LINES = 20  # of such a field
MOST_CAUSES = 3  # of an exception
LONGEST_MESSAGE = 1_000  # characters of an exception, so that its place fits beside it

# Unicode's categories Cc, Cf, Cs, Zl and Zp, and its noncharacters. Written out, so that the same
# text looks the same under every version of Python; a test compares it with `unicodedata`.
HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff0-\ufffb"
    "\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f"
    + "".join(
        chr(0x10000 * plane + 0xFFFE) + chr(0x10000 * plane + 0xFFFF) for plane in range(1, 17)
    )
)
_HIDDEN = re.compile(f"[{HIDDEN}]")
_HIDDEN_IN_LINES = re.compile(f"(?!\n)[{HIDDEN}]")

# The characters that mean something in LaTeX text, and those that pdflatex has no glyph for but
# for which there is a command in every installation.
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": r"$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≈": r"$\approx$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "\u00a0": "~",
    "�": "?",
}
# What LaTeX's accents are in Unicode, and the letters without one that all its encodings have.
ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
LETTERS = frozenset("ßæœøłÆŒØŁ")

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
# Where the list separator is a semicolon, what follows one is a cell of its own.
_TO_QUOTE = re.compile(r'[,"]|;\s*[=+\-@＝＋－＠]')
_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~$]|:(?=//)|(?<=[Ww]{3})\.|(?<=\w)@(?=\w))")
# A list, a heading or a rule, where one of these begins a line.
_BLOCK = re.compile(r"([-+](?=\s)|(?<=\d)[.)](?=\s|$)|[-=](?=[-=\s]*$)(?!$))")
# Letters and names that LaTeX has commands of several letters for.
BIBTEX_LETTERS = frozenset(
    {"ss", "ae", "AE", "oe", "OE", "aa", "AA", "LaTeX", "TeX", "url", "emph"}
)


def for_terminal(text: str, limit: int = LONGEST) -> str:
    """`text` in one line of at most `limit` characters, nothing in it but what can be seen.

    >>> for_terminal("a\\x1b[2Jb\\nc"), for_terminal("abcdefgh", 6)
    ('a�[2Jb�c', 'abc...')
    """
    return _HIDDEN.sub("�", _cut(text, limit))


def lines_for_terminal(text: str, limit: int = LONGEST) -> str:
    """`for_terminal` of text that has lines; tabs become blanks."""
    return _HIDDEN_IN_LINES.sub("�", _cut(text, limit).replace("\r\n", "\n").expandtabs())


def said(text: str) -> str:
    """A field of an error: a few lines of `lines_for_terminal`, not a screenful of empty ones."""
    lines = lines_for_terminal(text, LONGEST_SAID).split("\n")
    return "\n".join(lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], "..."])


def printable(text: str) -> str:
    """Text of any length with its lines kept: what a renderer wrote, on its way to a terminal."""
    return _HIDDEN_IN_LINES.sub("�", text)


def exception_text(error: BaseException, limit: int = LONGEST_MESSAGE) -> str:
    """`KeyError: 'cat'`: what an exception and its causes say, in one line.

    The class may lie about its name, and its text may be long, or raise.

    >>> exception_text(KeyError("cat"))
    "KeyError: 'cat'"
    """
    parts: list[str] = []
    seen: list[BaseException] = []
    now: BaseException | None = error
    while now is not None and len(parts) < MOST_CAUSES and not any(now is one for one in seen):
        seen.append(now)
        message = for_terminal(_message(now), limit).strip()
        parts.append(f"{_class_name(now)}: {message}" if message else _class_name(now))
        now = now.__cause__
    return _cut("; caused by ".join(parts), limit)


def _class_name(error: BaseException) -> str:
    # Not `__name__`: a class of a plug-in may give itself another.
    return for_terminal(str(type.__dict__["__name__"].__get__(type(error))), LONGEST_NAME)


def _message(error: BaseException) -> str:
    try:
        return str.__str__(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as failed:  # its __str__ is code of a plug-in
        return f"(its text can't be had: {_class_name(failed)})"


def for_markdown(text: str, limit: int = LONGEST) -> str:
    """`text` as Markdown that shows it as it is: no HTML, link, table cell, list or emphasis.

    >>> for_markdown("a|b <i> [c](d) https://e"), for_markdown("-0.50"), for_markdown("- x")
    ('a\\\\|b &lt;i&gt; \\\\[c\\\\](d) https\\\\://e', '-0.50', '\\\\- x')
    """
    shown = for_terminal(text, limit).strip()
    shown = _MARKDOWN.sub(r"\\\1", shown.replace("&", "&amp;").replace("<", "&lt;"))
    start = re.match(r"\d{0,9}", shown)
    first = _BLOCK.match(shown, start.end() if start else 0)
    if first is not None:
        shown = f"{shown[: first.start()]}\\{shown[first.start() :]}"
    return shown.replace(">", "&gt;")


def for_html(text: str, limit: int = LONGEST) -> Markup:
    """`text` as HTML that shows it as it is, between tags and in a quoted attribute."""
    from markupsafe import escape

    return escape(for_terminal(text, limit))


def for_latex(text: str, limit: int = LONGEST) -> str:
    """`text` as LaTeX that shows it as it is, under pdflatex too.

    ASCII, accented Latin letters and a few signs are shown. Any other character, of which pdflatex
    would say that it is not set up, becomes its number.

    >>> for_latex("a_b 50 % é 中")
    'a\\\\_b 50 \\\\% é [U+4E2D]'
    """
    shown = "".join(_latex(char) for char in for_terminal(text, limit))
    return re.sub(r"([-'])(?=\1)", r"\1{}", shown)  # two of them would be drawn as one sign


def is_bibtex(text: str) -> bool:
    """Whether a text is BibTeX that LaTeX only prints: entries, with no command but an accent.

    >>> is_bibtex(r"@misc{a, title = {Doll{\\'a}r}}"), is_bibtex(r"@misc{a, note = {\\input x}}")
    (True, False)
    """
    lines = text.strip().split("\n")
    begins = re.match(r"@[A-Za-z]+\{[A-Za-z0-9:_.+/-]+,", lines[0]) is not None
    commands = re.findall(r"\\([A-Za-z]+|.)", text)
    harmless = all(len(c) == 1 or c in BIBTEX_LETTERS for c in commands)
    return begins and harmless and all(line.isprintable() for line in lines)


def latex_row(cells: Iterable[str]) -> str:
    """A row of a LaTeX table, of cells that are LaTeX already.

    It begins with `{}`: an asterisk or a bracket there would be an option of the `\\\\` before it.
    """
    return "{}" + " & ".join(cells) + r" \\"


def for_csv(text: str, limit: int = LONGEST_CELL) -> str:
    """`text` as a cell that no spreadsheet takes for a formula; a number stays one.

    >>> for_csv("=1+1"), for_csv("  +a"), for_csv("-1.5"), for_csv("a-b")
    ("'=1+1", "'  +a", '-1.5', 'a-b')
    """
    text = _cut(text, limit)
    formula = _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None
    return "'" * formula + for_terminal(text, limit)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """A CSV file: texts through `for_csv`, numbers unrounded, None and NaN empty.

    >>> csv_text([["name", "value"], ["=a,b", -1.5], ["c", None]])
    'name,value\\n"\\'=a,b",-1.5\\nc,\\n'
    """
    return "".join(",".join(_cell(value) for value in row) + "\n" for row in rows)


def for_json(value: Any) -> str:
    """A value as JSON in ASCII, its texts exact: every terminal, pipe and reader can take it.

    What is not a number (NaN, infinity) is null.

    >>> print(for_json(["é", float("nan")]))
    [
      "\\u00e9",
      null
    ]
    """
    return json.dumps(_finite(value), indent=2, allow_nan=False).replace("\x7f", "\\u007f")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _latex(char: str) -> str:
    if char in LATEX:
        return LATEX[char]
    if char.isascii() or char in LETTERS:
        return char
    base, marks = (parts := unicodedata.normalize("NFD", char))[0], parts[1:]
    if base.isascii() and base.isalpha() and marks in ACCENTS:
        return char
    return f"[U+{ord(char):04X}]"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int | float):
        return repr(value)
    shown = for_csv(str(value))
    return '"' + shown.replace('"', '""') + '"' if _TO_QUOTE.search(shown) else shown
