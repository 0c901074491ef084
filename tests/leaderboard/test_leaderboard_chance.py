"""Boards: where a figure stands to chance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlfsic_bench.leaderboard.board import against_chance, build_boards
from mlfsic_bench.leaderboard.entry import Chance, IntervalKind, Value
from mlfsic_bench.leaderboard.page import board_html
from mlfsic_bench.leaderboard.text import board_markdown
from tests.fakes.entries import cards, entry, fake_figure, fake_value, reported_value


@pytest.mark.parametrize(
    ("value", "half", "low", "high", "verdict"),
    [
        (10.0, None, 15.0, 15.0, "below chance"),
        (15.0, None, 15.0, 20.0, "below chance"),
        (18.0, None, 15.0, 20.0, "at chance"),
        (20.5, None, 15.0, 20.0, "above chance"),
        (15.5, 0.6, 15.0, 15.0, "at chance"),
        (15.5, 0.1, 15.0, 15.0, "above chance"),
        (14.8, 0.6, 15.0, 15.0, "at chance"),
    ],
)
def test_where_an_ap_stands_to_chance(value, half, low, high, verdict) -> None:
    interval = (
        {} if half is None else {"episodes": fake_figure(value, half)["intervals"]["episodes"]}
    )
    one = Value.model_validate_json(json.dumps({"value": value, "intervals": interval}))
    assert against_chance(one, Chance(low=low, high=high), IntervalKind.EPISODES) == verdict


def two_seeds(entry_id: str, images: float) -> dict[str, Any]:
    """AP 20 over a chance of 15, wide over two training seeds, `images` wide over images."""
    bounds = {
        "training seeds": {"low": -10.0, "high": 50.0},
        "images": {"low": 20.0 - images, "high": 20.0 + images},
    }
    return fake_value(
        entry_id,
        figures={"macro_ap": {"value": 20.0, "intervals": bounds}},
        chance={"macro_ap": {"low": 15.0, "high": 15.0}},
    )


def test_chance_goes_by_the_interval_that_the_table_shows() -> None:
    """An interval over two seeds has one degree of freedom and reaches any chance level."""
    (board,) = build_boards([entry(two_seeds("far", 4.0)), entry(two_seeds("near", 6.0))])
    far, near = board.rows
    assert (far.chance, near.chance) == ({"macro_ap": "above chance"}, {"macro_ap": "at chance"})
    text = board_markdown([board])
    assert "| 20.00 \\[16.00, 24.00\\] |" in text
    assert "20.00 \\[14.00, 26.00\\] (at chance)" in text
    texts = cards(board_html([board]))
    assert "(docs/claims.md)" not in texts["far"]
    by_images = "macro-AP is at chance by its interval over images (docs/claims.md)."
    assert by_images in texts["near"]


def test_chance_goes_by_the_value_where_the_table_shows_no_interval() -> None:
    other = fake_value("bare", figures={"macro_ap": {"value": 20.0}})
    other["chance"] = {"macro_ap": {"low": 15.0, "high": 15.0}}
    (board,) = build_boards([entry(two_seeds("wide", 6.0)), entry(other)])
    assert board.interval is None
    assert [row.chance["macro_ap"] for row in board.rows] == ["above chance"] * 2


def test_reported_rows_carry_their_chance_note() -> None:
    chance = {"macro_ap": {"low": 26.72, "high": 30.39}}
    value = reported_value(chance=chance, figures={"macro_ap": {"value": 27.24}})
    boards = build_boards([entry(value)])
    assert "27.24 (at chance)" in board_markdown(boards)
    assert "26.72 or more" in board_html(boards)
