"""The card of an entry in a real browser: what it shows, copying, keyboard, closing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.leaderboard_pages import Visit, shown, write_page
from tests.fakes.entries import HOSTILE, hostile_values

pytestmark = pytest.mark.slow


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
    widths = [float(bar.get_attribute("width").rstrip("%")) for bar in bars.all()]
    assert widths == [55, 50, 45, 40, 35, 30]


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


def test_attacks_stay_texts(visit: Visit, tmp_path: Path) -> None:
    page = visit(write_page(hostile_values(), tmp_path / "hostile.html"))
    for i in range(len(HOSTILE)):
        page.locator(f"tr[data-key='fake-4-3-3-v1/hostile-{i}'] .open").click()
        assert page.locator("dialog[open] a[href^='https://example.org/']").count() == 1
        assert page.locator("dialog script, dialog img").count() == 0
        page.keyboard.press("Escape")
    assert page.title() == "mlfsic-bench leaderboard"
    assert page.locator("dialog, #boards").locator("script, img").count() == 0
