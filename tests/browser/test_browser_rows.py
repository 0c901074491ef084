"""The leaderboard's rows in a real browser: sorting, filters, and addresses that say both."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlfsic_bench.leaderboard.entry import read_entries
from tests.browser.leaderboard_pages import (
    FULL,
    REPORTED,
    ROOT,
    SUBSET,
    Visit,
    choice,
    settle,
    shown,
    sort_of,
    write_page,
)
from tests.fakes.entries import many_values

pytestmark = pytest.mark.slow


def test_the_real_board_sorts_filters_and_opens(visit: Visit, real: Path) -> None:
    page = visit(real)
    entries = read_entries(ROOT / "results")
    assert len(shown(page)) == len(entries)
    board = page.locator("section.board", has_text="part of the images").first
    first = "coco-52-12-16-open-v1"
    assert first in board.inner_text()
    measured = [e for e in entries if e.verified and e.path.split("/")[1] == first]
    ranked = [e for e in measured if e.ranked]
    order = [e.name for e in sorted(ranked, key=lambda e: -e.figures["macro_ap"].value)]
    ids = board.locator("tr[data-key]")
    assert ids.count() == len(measured)
    assert board.locator(".open").all_inner_texts()[:3] == order[:3]
    board.get_by_role("button", name="Macro AP", exact=True).click()
    assert board.locator(".verified .open").all_inner_texts()[-1] == order[0]
    choice(page, "Adaptation").select_option("by gradient")
    settle(page)
    wanted = [e for e in entries if e.tracks.adaptation.value == "by gradient"]
    assert page.locator("#count").inner_text() == f"{len(wanted)} of {len(entries)} entries"
    assert len(shown(page)) == len(wanted)
    page.get_by_role("button", name="Fine-tuning").first.click()
    assert page.locator("dialog .labels li").count() == 16


def test_sorting_by_macro_ap_and_back(visit: Visit, small: Path) -> None:
    page = visit(small)
    assert shown(page) == [*FULL, *REPORTED, *SUBSET]
    assert sort_of(page, "Macro AP").get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Macro AP", exact=True).first.click()
    assert shown(page) == [*FULL[::-1], *REPORTED[::-1], *SUBSET]
    assert sort_of(page, "Macro AP").get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="Macro AP", exact=True).first.click()
    assert shown(page) == [*FULL, *REPORTED, *SUBSET]


def test_sorting_by_name_and_by_a_figure_some_lack(visit: Visit, small: Path) -> None:
    page = visit(small)
    page.get_by_role("button", name="Method", exact=True).first.click()
    assert shown(page) == ["alpha", "bravo", "charlie", "echo", "foxtrot", "delta"]
    assert sort_of(page, "Method").get_attribute("aria-sort") == "ascending"
    assert sort_of(page, "Macro AP").get_attribute("aria-sort") is None
    for _ in range(2):  # foxtrot has no micro-AP and stays last either way
        page.get_by_role("button", name="Micro AP", exact=True).first.click()
        assert shown(page)[3:5] == ["echo", "foxtrot"]
    assert choice(page, "Sort by").input_value() == "micro_ap"
    choice(page, "Sort by").select_option("name")
    assert shown(page)[:3] == ["alpha", "bravo", "charlie"]


@pytest.mark.parametrize(
    ("label", "option", "left"),
    [
        ("Label embeddings", "word vectors", ["alpha", "delta"]),
        ("Adaptation", "by gradient", ["charlie"]),
        ("Pre-training", "not stated", ["echo"]),
        ("Images", "subset", ["delta"]),
        ("Table", None, ["delta"]),
    ],
)
def test_each_track_filters(
    visit: Visit, small: Path, label: str, option: str | None, left: list[str]
) -> None:
    page = visit(small)
    select = choice(page, label)
    select.select_option(option) if option else select.select_option(index=2)
    settle(page)
    assert shown(page) == left
    assert page.locator("#count").inner_text() == f"{len(left)} of 6 entries"
    assert page.locator("#count").get_attribute("aria-live") == "polite"
    page.get_by_role("button", name="Reset filters").click()
    assert len(shown(page)) == 6
    assert page.locator("#count").inner_text() == "6 entries"


def test_states_and_search_filter_and_none_is_said(visit: Visit, small: Path) -> None:
    page = visit(small)
    page.get_by_label("reported", exact=True).uncheck()
    settle(page)
    assert shown(page) == [*FULL, *SUBSET]
    assert not page.locator(".break").is_visible()
    page.get_by_label("Name or backbone").fill("VIT_B")
    settle(page)
    assert shown(page) == ["bravo"]
    page.get_by_label("Name or backbone").fill("nothing like it")
    settle(page)
    assert shown(page) == []
    assert page.get_by_text("No entry fits these filters.").is_visible()


def test_a_view_can_be_linked(visit: Visit, small: Path) -> None:
    page = visit(small)
    choice(page, "Label embeddings").select_option("word vectors")
    page.get_by_label("reported", exact=True).uncheck()
    page.get_by_role("button", name="Micro AP", exact=True).first.click()
    page.get_by_role("button", name="alpha").click()
    settle(page)
    tail = "#" + page.evaluate("location.hash").lstrip("#")
    again = visit(small, tail=tail)
    assert shown(again) == ["alpha", "delta"]
    assert again.locator("dialog h2").inner_text() == "alpha"
    assert sort_of(again, "Micro AP").get_attribute("aria-sort") == "descending"
    again.keyboard.press("Escape")
    again.get_by_role("button", name="Reset filters").click()
    assert again.evaluate("location.hash") == ""
    again.evaluate("location.hash = '#q=bravo'")
    again.wait_for_function("document.querySelector('#count').textContent === '1 of 6 entries'")


@pytest.mark.parametrize(
    "tail", ["#sort=__proto__", "#entry=constructor", "#state=", "#words=%F0%9F", "#board=<b>"]
)
def test_odd_addresses_do_no_harm(visit: Visit, small: Path, tail: str) -> None:
    page = visit(small, tail=tail)
    assert not page.locator("dialog[open]").count()
    assert len(shown(page)) == (0 if tail == "#state=" else 6)


def test_five_hundred_entries_sort_and_filter_right(visit: Visit, tmp_path: Path) -> None:
    values = many_values(500)
    page = visit(write_page(values, tmp_path / "many.html"))
    verified = [value for value in values if value["state"] != "reported"]
    top = max(verified, key=lambda value: value["figures"]["macro_ap"]["value"])["name"]
    assert shown(page)[0] == top
    page.get_by_role("button", name="Macro AP", exact=True).first.click()
    assert shown(page)[len(verified) - 1] == top
    choice(page, "Label embeddings").select_option("word vectors")
    settle(page)
    wanted = [value for value in values if value["tracks"]["words"] == "word vectors"]
    assert page.locator("#count").inner_text() == f"{len(wanted)} of 500 entries"
