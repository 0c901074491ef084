"""Plain English: words that the docs, the help and the errors do not use, and what to write."""

import ast
import re
from pathlib import Path

import click
import pytest

from tests.packaging.test_packaging_options import ALL
from tests.packaging.test_packaging_prose import PAGES, ROOT, relative

# Pattern -> what to write. A word that has a right use somewhere does not belong here.
MANNERISMS = {
    r"strangers?\b": "untrusted",
    r"h[eo]ld(s|ing)? ([\w']+ ){0,3}against": "compared with",
    r"t(old|ell|ells) ([\w']+ ){0,2}apart": "distinguished",
    r"s[ia]t(s|ting)? out\b": "excluded",
    r"of (one's|his|our) own": "leave it out",
    r"(its|nobody's|their) business": "may not read",
    r"in (the same|its|other) company|with its company": "together with",
    r"for ever\b": "always",
    r"anew\b": "again",
    r"at hand\b": "available",
    r"labellers?\b": "predictor",
    r"serv(e|able)\b": "feasible",
    r"ours\b": "measured",
    r"nearest in spirit|the (whole )?way through\b": "say it directly",
    r"(?<!tables and )figures\b": "values; pictures where pictures are meant",
    r"drawn (data ?sets?|scenes|images)": "synthetic",
    r"label vectors?\b": "label embeddings",
}
BANNED = re.compile("|".join(rf"\b(?:{pattern})" for pattern in MANNERISMS), re.I)
# Code, links' addresses, generated blocks and comments are no prose.
NO_PROSE = re.compile(
    r"^ *```.*?^ *```|<!-- \w+:.*?<!-- end -->|<!--.*?-->|`[^`\n]*`|\]\([^)]*\)", re.M | re.S
)


def banned(text: str) -> list[str]:
    return [match[0] for match in BANNED.finditer(" ".join(text.split()))]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_pages(page):
    if page.name != "CHANGELOG.md":  # says what was, in the words of its day
        assert banned(NO_PROSE.sub(" ", page.read_text("utf-8"))) == []


@pytest.mark.parametrize("name", ALL)
def test_help(name):
    command = ALL[name]
    options = [param.help for param in command.params if isinstance(param, click.Option)]
    assert banned(" | ".join([command.help or "", *filter(None, options)])) == []


def errors(path: Path) -> list[tuple[int, str]]:
    """(line, text) of what is said in each BenchError that a module makes."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BenchError":
            texts = [
                part.value
                for part in ast.walk(node)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ]
            found.append((node.lineno, " ".join(texts)))
    return found


def test_errors():
    modules = [*(ROOT / "mlfsic_bench").rglob("*.py"), *(ROOT / "baselines").rglob("*.py")]
    said = [(relative(path), *error) for path in modules for error in errors(path)]
    assert len(said) > 200
    found = [(name, line, banned(text)) for name, line, text in said if banned(text)]
    assert found == []
