"""The leaderboard in a real browser on every screen: phone, desk, colours, paper, no scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.leaderboard_pages import Visit, choice, shown, write_page
from tests.fakes.entries import fake_value, hostile_values

pytestmark = pytest.mark.slow


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
    bounds = card.locator(".values td.bounds")
    assert bounds.count() == 24  # eight values, three intervals each
    for cell in bounds.all():
        place = cell.bounding_box()
        assert 0 <= place["x"] < place["x"] + place["width"] <= width
    label = "n => getComputedStyle(n, '::before').content"
    assert bounds.first.evaluate(label) == '"95 % over images"'
    assert card.get_by_role("cell", name="58.00 to 62.00").first.is_visible()
    assert card.get_by_role("cell", name="-10.00 to 110.00").first.is_visible()


def test_filters_are_folded_on_a_phone_and_work(visit: Visit, small: Path) -> None:
    page = visit(small, width=360, height=740)
    assert not choice(page, "Label embeddings").is_visible()
    page.get_by_text("Filter and sort").click()
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
    "h1", ".lead p", ".facts", ".points figcaption", ".plot li", ".reading dd", ".marks li",
    "nav a", "thead button", "th[aria-sort] button", ".open", ".sub",
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


def test_on_paper_the_whole_table_is_there(visit: Visit, small: Path) -> None:
    page = visit(small, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("#filters").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    )
    assert min(page.evaluate(CONTRAST, ".num b")) > 10
