"""The leaderboard page in a real browser: sorting, filters, cards, keyboard, phone, colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlfsic_bench.report.entry_files import read_entries
from mlfsic_bench.report.leaderboard import build_boards
from mlfsic_bench.report.leaderboard_page import board_html
from tests.fakes.entries import (
    HOSTILE,
    entry,
    fake_tracks,
    fake_value,
    hostile_values,
    many_values,
    reported_value,
)

ROOT = Path(__file__).resolve().parents[2]
Visit = Callable[..., Any]
WORDS = {"words": "word vectors"}
VALUES = [
    fake_value("alpha", macro_ap=40.0, tracks=fake_tracks(**WORDS)),
    fake_value("bravo", macro_ap=60.0, backbone="vit_b_16"),
    fake_value("charlie", macro_ap=50.0, tracks=fake_tracks(adaptation="by gradient")),
    fake_value("delta", macro_ap=25.0, tracks=fake_tracks(images="subset", **WORDS)),
    reported_value("echo", tracks=fake_tracks(pretraining="not stated")),
    reported_value("foxtrot", figures={"macro_ap": {"value": 70.0}}),
]
# in the order of the page: a full board with its reported rows, then a subset
FULL, REPORTED, SUBSET = ["bravo", "charlie", "alpha"], ["foxtrot", "echo"], ["delta"]


def write_page(values: list[dict[str, Any]], path: Path) -> Path:
    path.write_text(board_html(build_boards([entry(value) for value in values])), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(VALUES, tmp_path_factory.mktemp("page") / "index.html")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("real") / "index.html"
    path.write_text(board_html(build_boards(read_entries(ROOT / "results"))), encoding="utf-8")
    return path


def shown(page: Any) -> list[str]:
    """The names of the visible rows, from top to bottom."""
    return page.eval_on_selector_all(
        "tr[data-key]",
        "rows => rows.filter(r => r.offsetParent).map(r => r.querySelector('.open').textContent)",
    )


def settle(page: Any) -> None:
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def choice(page: Any, label: str) -> Any:
    return page.get_by_role("combobox", name=label, exact=True)


def sort_of(page: Any, head: str) -> Any:
    return page.locator("th").filter(has=page.get_by_role("button", name=head, exact=True)).first


def test_the_real_board_sorts_filters_and_opens(visit: Visit, real: Path) -> None:
    page = visit(real)
    entries = read_entries(ROOT / "results")
    assert len(shown(page)) == len(entries)
    measured = [e for e in entries if e.verified and e.tracks.images.value == "subset"]
    board = page.locator("section.board", has_text="subset").first
    order = [e.name for e in sorted(measured, key=lambda e: -e.figures["macro_ap"].value)]
    ids = board.locator("tr[data-key]")
    assert ids.count() == len(measured)
    assert board.locator(".open").all_inner_texts()[:3] == order[:3]
    board.get_by_role("button", name="Macro AP", exact=True).click()
    assert board.locator(".open").all_inner_texts()[-1] == order[0]
    choice(page, "Adaptation").select_option("by gradient")
    settle(page)
    wanted = [e for e in entries if e.tracks.adaptation.value == "by gradient"]
    assert page.locator("#count").inner_text() == f"{len(wanted)} of {len(entries)} entries"
    assert len(shown(page)) == len(wanted)
    page.get_by_role("button", name="linear").first.click()
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
        ("Word vectors", "word vectors", ["alpha", "delta"]),
        ("Adaptation", "by gradient", ["charlie"]),
        ("Pre-training", "not stated", ["echo"]),
        ("Images", "subset", ["delta"]),
        ("Split", None, ["delta"]),
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
    choice(page, "Word vectors").select_option("word vectors")
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


def test_the_card_shows_what_the_entry_rests_on(visit: Visit, small: Path) -> None:
    page = visit(small)
    page.get_by_role("button", name="bravo").click()
    card = page.locator("dialog")
    for text in (
        "60.00",
        "58.00 to 62.00",
        "59.00 to 61.00",
        "merle",
        "vit_b_16",
        "a work on bravo",
        "lr",
        "0.001",
        "[1, 2]",
        "a" * 64,
        "c" * 64,
    ):
        assert card.get_by_text(text, exact=True).first.is_visible(), text
    names = card.locator(".labels .name").all_inner_texts()
    assert names == ["merle", "lark", "kite", "jay", "ibis", "hen"]
    bars = card.locator(".labels svg .span")
    assert [float(bar.get_attribute("width")) for bar in bars.all()] == [55, 50, 45, 40, 35, 30]


def test_copying_a_hash(visit: Visit, small: Path) -> None:
    page = visit(small, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="bravo").click()
    page.get_by_role("button", name="Copy Split hash").click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "a" * 64


def test_keyboard_alone(visit: Visit, small: Path) -> None:
    page = visit(small)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "charlie":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] h2").inner_text() == "charlie"
    for _ in range(25):  # focus stays in the dialog (or in the browser's own controls)
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    page.keyboard.press("Escape")
    assert not page.locator("dialog[open]").count()
    assert page.evaluate("document.activeElement.textContent") == "charlie"
    page.locator("thead button").first.focus()
    page.keyboard.press("Space")
    assert shown(page)[:3] == ["alpha", "bravo", "charlie"]


def test_the_card_closes_by_button_and_by_a_click_outside(visit: Visit, small: Path) -> None:
    page = visit(small)
    for close in (
        lambda: page.get_by_role("button", name="Close").click(),
        lambda: page.mouse.click(5, 5),
    ):
        page.get_by_role("button", name="alpha").click()
        assert page.locator("dialog[open]").count() == 1
        close()
        assert page.locator("dialog[open]").count() == 0


@pytest.mark.parametrize("width", [320, 360, 768])
def test_no_sideways_scrolling_on_a_phone(
    visit: Visit, real: Path, tmp_path: Path, width: int
) -> None:
    for path in (real, write_page(hostile_values(), tmp_path / "h.html")):
        page = visit(path, width=width, height=740)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator(".open").first.click()
        card = page.locator("dialog")
        assert card.evaluate("d => d.scrollWidth - d.clientWidth") <= 0
        box = card.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("width", [1265, 1440])  # 1280 less a scroll bar
def test_every_column_is_in_view_on_a_desk(visit: Visit, real: Path, width: int) -> None:
    page = visit(real, width=width)
    for table in page.locator(".board .scroll").all():
        assert table.evaluate("t => t.scrollWidth - t.clientWidth") <= 0


@pytest.mark.parametrize("width", [320, 360])
def test_a_card_on_a_phone_shows_every_interval(visit: Visit, tmp_path: Path, width: int) -> None:
    value = fake_value("bravo", macro_ap=60.0)
    for figure in value["figures"].values():
        figure["intervals"]["training seeds"] = {"low": -10.0, "high": 110.0}
    page = visit(write_page([value], tmp_path / "page.html"), width=width, height=740)
    page.locator(".open").first.click()
    card = page.locator("dialog")
    cut = "all => all.filter(n => n.clientWidth && n.scrollWidth > n.clientWidth).length"
    assert card.locator("*").evaluate_all(cut) == 0
    bounds = card.locator(".figures td.bounds")
    assert bounds.count() == 24  # eight figures, three intervals each
    for cell in bounds.all():
        place = cell.bounding_box()
        assert 0 <= place["x"] < place["x"] + place["width"] <= width
    label = "n => getComputedStyle(n, '::before').content"
    assert bounds.first.evaluate(label) == '"95 % over images"'
    assert card.get_by_role("cell", name="58.00 to 62.00").first.is_visible()
    assert card.get_by_role("cell", name="-10.00 to 110.00").first.is_visible()


def test_filters_are_folded_on_a_phone_and_work(visit: Visit, small: Path) -> None:
    page = visit(small, width=360, height=740)
    assert not choice(page, "Word vectors").is_visible()
    page.locator("summary").click()
    choice(page, "Sort by").select_option("name")
    assert shown(page)[:3] == ["alpha", "bravo", "charlie"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


# relative luminance and contrast as in WCAG 2; backgrounds are looked for among the ancestors
CONTRAST = """
selector => {
  const bend = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => bend(c / 255);
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const lum = ([r, g, b]) => .2126 * light(r) + .7152 * light(g) + .0722 * light(b);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const c = parse(getComputedStyle(node).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(selector)].filter(n => n.offsetParent).map(node => {
    const a = lum(parse(getComputedStyle(node).color)), b = lum(behind(node));
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  });
}
"""
TEXTS = (
    "h1", ".lead", ".facts", ".legend", "thead button", "th[aria-sort] button", ".open", ".sub",
    ".state", ".chip", ".num b", ".num small", ".flag", ".break span", ".date", ".tag", "footer p",
    "select", "legend", "#theme", ".rank",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(visit: Visit, real: Path, scheme: str) -> None:
    page = visit(real, color_scheme=scheme)
    low = {text: min(page.evaluate(CONTRAST, text)) for text in TEXTS}
    assert {text: ratio for text, ratio in low.items() if ratio < 4.5} == {}
    page.locator(".open").first.click()
    inside = ("dialog p", "dialog dt", "dialog dd", "dialog h3", "dialog .copy", "dialog .hash")
    low = {text: min(page.evaluate(CONTRAST, text)) for text in inside}
    assert {text: ratio for text, ratio in low.items() if ratio < 4.5} == {}


def test_the_theme_follows_the_system_and_can_be_chosen(visit: Visit, small: Path) -> None:
    def background(page: Any) -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = visit(small), visit(small, color_scheme="dark")
    assert background(light) != background(dark)
    button = light.get_by_role("button", name="Theme")
    button.click()
    button.click()
    assert button.inner_text() == "Theme: dark"
    assert background(light) == background(dark)
    light.reload()
    assert button.inner_text() == "Theme: dark"
    assert background(light) == background(dark)


def test_a_browser_that_keeps_nothing_is_enough(visit: Visit, small: Path, tmp_path: Path) -> None:
    page = visit(small)
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } })"
    )
    page.reload()
    page.get_by_role("button", name="Theme").click()
    assert page.get_by_role("button", name="Theme").inner_text() == "Theme: light"


def test_without_scripts_the_table_is_there(visit: Visit, small: Path) -> None:
    page = visit(small, java_script_enabled=False)
    assert page.locator("noscript p").is_visible()
    assert page.locator("tr[data-key]").count() == 6
    assert page.get_by_text("60.00").first.is_visible()
    assert not page.locator("form").is_visible()


def test_attacks_stay_texts(visit: Visit, tmp_path: Path) -> None:
    page = visit(write_page(hostile_values(), tmp_path / "hostile.html"))
    for i in range(len(HOSTILE)):
        page.locator(f"tr[data-key='fake-4-3-3-v1/hostile-{i}'] .open").click()
        assert page.locator("dialog[open] a[href^='https://example.org/']").count() == 1
        assert page.locator("dialog script, dialog img").count() == 0
        page.keyboard.press("Escape")
    assert page.title() == "mlfsic-bench leaderboard"
    assert page.locator("dialog, #boards").locator("script, img").count() == 0


def test_on_paper_the_whole_table_is_there(visit: Visit, small: Path) -> None:
    page = visit(small, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("#filters").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    )
    assert min(page.evaluate(CONTRAST, ".num b")) > 10


def test_five_hundred_entries_sort_and_filter_right(visit: Visit, tmp_path: Path) -> None:
    values = many_values(500)
    page = visit(write_page(values, tmp_path / "many.html"))
    verified = [value for value in values if value["state"] != "reported"]
    top = max(verified, key=lambda value: value["figures"]["macro_ap"]["value"])["name"]
    assert shown(page)[0] == top
    page.get_by_role("button", name="Macro AP", exact=True).first.click()
    assert shown(page)[len(verified) - 1] == top
    choice(page, "Word vectors").select_option("word vectors")
    settle(page)
    wanted = [value for value in values if value["tracks"]["words"] == "word vectors"]
    assert page.locator("#count").inner_text() == f"{len(wanted)} of 500 entries"
