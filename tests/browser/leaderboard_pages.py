"""Pages of the leaderboard, and what a test asks of one in the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlfsic_bench.leaderboard.board import build_boards
from mlfsic_bench.leaderboard.entry import Entry
from mlfsic_bench.leaderboard.page import board_html
from tests.fakes.entries import entry, fake_tracks, fake_value, reported_value

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


def write_board(entries: list[Entry], path: Path) -> Path:
    path.write_text(board_html(build_boards(entries)), encoding="utf-8")
    return path


def write_page(values: list[dict[str, Any]], path: Path) -> Path:
    return write_board([entry(value) for value in values], path)


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
