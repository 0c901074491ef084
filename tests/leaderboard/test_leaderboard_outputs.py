"""The page of a board and its other formats: texts stay texts, figures stay exact."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from html.parser import HTMLParser

import pytest

from mlfsic_bench.leaderboard.board import build_boards
from mlfsic_bench.leaderboard.board_text import board_csv, board_latex, board_markdown
from mlfsic_bench.leaderboard.page import board_html, policy, script_json
from tests.fakes.entries import (
    HOSTILE,
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
    assert page.count("<script") == 2  # the data and our own script
    assert page.count("</script>") == 2
    assert "<img" not in page
    tags = Tags()
    tags.feed(page)
    assert not [name for _, name in tags.attributes if name.startswith("on") or name == "style"]
    assert {tag for tag, name in tags.attributes if name in ("src", "href")} <= {"a", "link"}
    assert not [char for char in "\u202e\u2066\u2028\x1b\x00" if char in page]
    assert "{{ 7 * 7 }}" in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert data["entries"]["fake-4-3-3-v1/hostile-0"]["name"] == HOSTILE[0]


def test_the_page_asks_nothing_of_any_server() -> None:
    page = board_html(build_boards([entry(value) for value in many_values(3)]))
    head = html.unescape(page.split("</head>")[0])
    assert "default-src 'none'" in head
    assert "unsafe" not in head
    assert not re.search(r"(?:src|href)=\"(?!#|data:,)", page.split("<script")[0])
    assert "url(" not in page.split("</style>")[0]
    assert " style=" not in page.split("<script")[0]


def test_the_policy_depends_on_style_and_script() -> None:
    assert len({policy("a", "b"), policy("a", "c"), policy("c", "b")}) == 3


def test_json_in_the_page_is_json_without_markup() -> None:
    value = {"a": "</script><!-- & \u2028 >"}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_hostile_texts_in_the_other_formats() -> None:
    boards = build_boards([entry(value) for value in hostile_values()])
    text = board_markdown(boards)
    assert "<script" not in text
    assert "](javascript" not in text.replace("\\]", "")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in tables}) == 1
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
    for text in ("mine", "41.25", "scores verified", "Reported in print", "printed", "33.00"):
        assert text in table
    assert "<noscript>" in page


def test_a_bar_has_its_interval_at_its_place() -> None:
    page = board_html(build_boards([entry(fake_value(macro_ap=40.0))]))
    # micro-AP is 52 with 50 to 54 over images, so bars end at 60 and 160 units are 60 points
    assert '<rect class="span" x="133.3" y="2" width="10.7"' in page
    assert '<rect class="span" x="101.3" y="2" width="10.7"' in page
    assert f"M{26.7 / 60 * 160:.1f} 0V14" in page
