"""Text of strangers made safe for the terminal, Markdown, LaTeX and spreadsheets."""

from __future__ import annotations

import re
import unicodedata

# The characters that mean something in LaTeX text.
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
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
}


def visible(text: str) -> str:
    """`text` in one line; control characters and changes of writing direction shown as �."""
    return "".join(
        "�" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char
        for char in text
    )


def markdown(text: str) -> str:
    """`text` as Markdown that shows it as it is."""
    escaped = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", escaped)


def latex(text: str) -> str:
    """`text` as LaTeX that shows it as it is."""
    return "".join(LATEX.get(char, char) for char in visible(text))


def spreadsheet(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
