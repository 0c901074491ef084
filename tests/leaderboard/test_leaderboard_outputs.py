"""The page of a board and its other formats: texts stay texts, figures stay exact."""

from __future__ import annotations

import csv
import html
import io
import re
from html.parser import HTMLParser

import pytest

from mlfsic_bench.leaderboard.board import build_boards
from mlfsic_bench.leaderboard.page import board_html, policy
from mlfsic_bench.leaderboard.text import (
    board_bibtex,
    board_csv,
    board_latex,
    board_markdown,
)
from mlfsic_bench.leaderboard.wording import level_text
from tests.fakes.entries import (
    HOSTILE,
    cards,
    entry,
    fake_figure,
    fake_value,
    hostile_values,
    many_values,
    reported_value,
)


class Tags(HTMLParser):
    """Collects the attributes that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name) for name, _ in attrs]


def test_hostile_texts_stay_texts_on_the_page() -> None:
    page = board_html(build_boards([entry(value) for value in hostile_values()]))
    assert page.count("<script") == 1  # our own script
    assert page.count("</script>") == 1
    assert "<img" not in page
    tags = Tags()
    tags.feed(page)
    assert not [name for _, name in tags.attributes if name.startswith("on") or name == "style"]
    assert {tag for tag, name in tags.attributes if name in ("src", "href")} <= {"a", "link"}
    assert not [char for char in "\u202e\u2066\u2028\x1b\x00" if char in page]
    assert "{{ 7 * 7 }}" in page
    assert cards(page)["hostile-0"].startswith(HOSTILE[0])


def test_the_page_asks_nothing_of_any_server() -> None:
    page = board_html(build_boards([entry(value) for value in many_values(3)]))
    head = html.unescape(page.split("</head>")[0])
    assert "default-src 'none'" in head
    assert "unsafe" not in head
    shown = page.split("<script")[0]
    assert not re.search(r"\bsrc=|<link [^>]*href=\"(?!data:,)", shown)  # links are only followed
    assert "url(" not in page.split("</style>")[0]
    assert " style=" not in page.split("<script")[0]


def test_the_policy_depends_on_style_and_script() -> None:
    assert len({policy("a", "b"), policy("a", "c"), policy("c", "b")}) == 3


def test_hostile_texts_in_the_other_formats() -> None:
    boards = build_boards([entry(value) for value in hostile_values()])
    text = board_markdown(boards)
    assert "<script" not in text
    assert "](javascript" not in text.replace("\\]", "")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in tables}) == 2  # and the overview
    bibtex = board_bibtex(boards)
    assert "\\input{" not in bibtex
    assert bibtex.count("{") == bibtex.count("}")
    assert bibtex.count("@misc{") == len({value["citation"] for value in hostile_values()})
    latex = board_latex(boards)
    assert "\\input{" not in latex
    assert latex.count("\\\\") == latex.count(" \\\\\n")
    rows = list(csv.reader(io.StringIO(board_csv(boards))))
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if cell.startswith("=")]


def test_the_csv_holds_every_figure_unrounded() -> None:
    value = fake_value()
    value["figures"]["macro_ap"] = fake_figure(43.123456, 0.5)
    rows = list(csv.DictReader(io.StringIO(board_csv(build_boards([entry(value)])))))
    assert len(rows) == len(value["figures"])
    one = next(row for row in rows if row["metric"] == "macro_ap")
    assert float(one["value"]) == 43.123456
    assert float(one["images_low"]) == pytest.approx(42.123456)
    assert one["training_seeds_low"] == ""
    assert (one["rank"], one["chance"]) == ("1", "above chance")


def test_the_page_has_a_table_without_scripts() -> None:
    page = board_html(build_boards([entry(fake_value(macro_ap=41.25)), entry(reported_value())]))
    table = re.sub(r"<[^>]+>", " ", page.split("<table>")[1].split("</table>")[0])
    for text in ("mine", "41.25", "scores verified", "copied from print", "printed", "33.00"):
        assert text in table
    assert "<noscript>" in page


def test_a_point_has_its_interval_at_its_place() -> None:
    page = board_html(build_boards([entry(fake_value(macro_ap=40.0))]))
    # from 20 to 50, since chance is 26.7 and the interval over images is 38 to 42
    assert '<circle class="dot ranked" cx="66.0%"' in page
    assert '<line class="whisker ranked" x1="59.6%" x2="72.4%"' in page
    assert f'<line class="chance" x1="{2 + 96 * 6.7 / 30:.2f}%"' in page


def test_every_row_has_a_line_that_loads_it_and_links_to_its_scores() -> None:
    boards = build_boards([entry(fake_value()), entry(reported_value())])
    page = html.unescape(board_html(boards, "../results"))
    assert "<code>mlfsic-bench score results/scores/mine/scores.npz</code>" in page
    assert 'read_entry("results/leaderboard/fake-4-3-3-v1/printed.json")' in page
    assert '<a href="../results/scores/mine"' in page
    assert "mlfsic-bench score results/scores/mine/scores.npz" in board_markdown(boards)


def test_an_overview_comes_first_and_words_are_explained_before_the_tables() -> None:
    page = board_html(build_boards([entry(fake_value(macro_ap=41.25)), entry(reported_value())]))
    top = re.sub(r"<[^>]+>", " ", page.split('<div id="boards">')[0])
    for text in (
        "Each table ranks methods by macro-AP",
        "fake 4/3/3: 3 novel labels, 1-shot",
        "41.25",
        "rerun verified",
        "below chance, at chance:",
        "How to submit",
        "BibTeX",
    ):
        assert text in top
    assert "open a pull request with these files" in page


def test_a_level_of_chance_that_is_only_bounded_says_so() -> None:
    for low, high, said in ((26.72, 26.72, "26.72"), (26.72, 29.7, "≥ 26.72")):
        value = reported_value()
        value["chance"] = {"macro_ap": {"low": low, "high": high}}
        boards = build_boards([entry(value)])
        assert f'data-head="chance">{said}</td>' in board_html(boards)
        assert f"| {said} |" in board_markdown(boards)
    assert level_text(None) == "–"
