"""Boards: what shares a table, ranks, intervals and titles."""

from __future__ import annotations

import pytest

from mlfsic_bench.errors import BenchError
from mlfsic_bench.leaderboard.board import build_boards
from mlfsic_bench.leaderboard.page import board_html
from mlfsic_bench.leaderboard.text import board_csv, board_latex, board_markdown
from tests.fakes.entries import entry, fake_tracks, fake_value, reported_value


def names(values):
    boards = build_boards([entry(value) for value in values])
    return [[row.entry.id for row in (*board.rows, *board.reported)] for board in boards]


def test_rows_stand_by_macro_ap_and_equal_ones_share_a_rank() -> None:
    values = [
        fake_value("low", macro_ap=30.0),
        fake_value("b", macro_ap=50.0),
        fake_value("a", macro_ap=50.0),
        reported_value("printed"),
    ]
    (board,) = build_boards([entry(value) for value in values])
    assert [(row.entry.id, row.rank) for row in board.rows] == [("a", 1), ("b", 1), ("low", 3)]
    assert [(row.entry.id, row.rank) for row in board.reported] == [("printed", None)]


def test_an_entry_without_macro_ap_comes_last_without_a_rank() -> None:
    none = fake_value("none", figures={"micro_ap": {"value": 90.0}})
    (board,) = build_boards([entry(none), entry(fake_value("some"))])
    assert [(row.entry.id, row.rank) for row in board.rows] == [("some", 1), ("none", None)]


@pytest.mark.parametrize(
    "change",
    [
        {"split": {"id": "fake-4-3-3-v1", "hash": "e" * 64, "dataset": "fake"}},
        {"split": {"id": "other-4-3-3-v1", "hash": "a" * 64, "dataset": "fake"}},
        {"metrics_version": "metrics-v2"},
        {"tracks": fake_tracks(images="subset")},
        {"protocol": {"id": "one_per_label-v2", "episodes": "b" * 64, "count": 200, "total": 200}},
        {"protocol": {"id": "one_per_label-v1", "episodes": "f" * 64, "count": 200, "total": 200}},
        {"protocol": {"id": "one_per_label-v1", "episodes": "b" * 64, "count": 100, "total": 200}},
    ],
)
def test_what_does_not_compare_does_not_share_a_table(change) -> None:
    assert sorted(names([fake_value("one"), fake_value("two", **change)])) == [["one"], ["two"]]
    assert names([fake_value("one"), fake_value("two")]) == [["one", "two"]]


def test_transductive_rows_are_marked() -> None:
    plain = entry(fake_value("plain"))
    marked = entry(fake_value("marked", tracks={**fake_tracks(), "transductive": True}))
    assert "transductive" not in plain.model_dump(mode="json")["tracks"]
    assert marked.model_dump(mode="json")["tracks"]["transductive"] is True
    boards = build_boards([plain, marked])
    assert len(boards) == 1
    said = "depends on the others of its episode: marked."
    for text in (board_markdown(boards), board_html(boards), board_latex(boards)):
        assert said in text
    assert board_html(boards).count('data-query="together"') == 1
    assert board_csv(boards).count(",together,") == len(marked.figures)


def test_reported_rows_stand_beside_full_runs_only() -> None:
    subset = fake_value("part", tracks=fake_tracks(images="subset"))
    assert names([subset, reported_value()]) == [["part"], ["printed"]]
    assert names([subset, reported_value(), fake_value("whole")]) == [
        ["whole", "printed"],
        ["part"],
    ]
    part = reported_value("odd", tracks=fake_tracks(images="subset"))
    assert sorted(names([subset, part])) == [["odd"], ["part"]]


def test_anchors_are_distinct() -> None:
    other = {"id": "one_per_label-v2", "episodes": "b" * 64, "count": 200, "total": 200}
    values = [fake_value("one"), fake_value("two", protocol=other), reported_value()]
    anchors = [board.anchor for board in build_boards([entry(value) for value in values])]
    assert len(set(anchors)) == 2


def test_two_entries_of_one_id_are_refused() -> None:
    with pytest.raises(BenchError, match="have the id 'mine'"):
        build_boards([entry(fake_value()), entry(fake_value())])


def test_a_board_shows_an_interval_that_all_its_entries_have() -> None:
    narrow = {"macro_ap": {"value": 50.0, "intervals": {"episodes": {"low": 49.0, "high": 51.0}}}}
    (wide,) = build_boards([entry(fake_value())])
    (both,) = build_boards([entry(fake_value()), entry(fake_value("b", figures=narrow))])
    none = {"macro_ap": {"value": 50.0}}
    (neither,) = build_boards([entry(fake_value()), entry(fake_value("b", figures=none))])
    assert wide.interval.value == "images"
    assert both.interval.value == "episodes"
    assert neither.interval is None


FEW = {"id": "one_per_label-v1", "episodes": "b" * 64, "count": 20, "total": 200}
SHOTS = {"id": "laso_k_shot-v1", "episodes": "e" * 64, "count": 200, "total": 200, "shots": 5}
ANY = {"id": "k_per_label-v1", "episodes": "c" * 64, "count": 200, "total": 200, "shots": 2}


def test_titles_say_what_is_special() -> None:
    values = [
        fake_value("plain"),
        fake_value("few", protocol=FEW),
        fake_value("part", tracks=fake_tracks(images="subset")),
        fake_value("shots", protocol=SHOTS),
        fake_value("four", protocol={**ANY, "queries": 4}),
        fake_value("nine", protocol={**ANY, "queries": 9, "episodes": "d" * 64}),
    ]
    boards = build_boards([entry(value) for value in values])
    assert {board.title for board in boards} == {
        "fake 4/3/3: 3 novel labels, 1-shot, all images",
        "fake 4/3/3: 3 novel labels, 1-shot, all images, first 20 of 200 episodes",
        "fake 4/3/3: 3 novel labels, 1-shot, part of the images",
        "fake 4/3/3: 3 novel labels, 5-shot, all images",
        "fake 4/3/3: 3 novel labels, 2-shot, all images, k_per_label-v1, K = 2, Q = 4",
        "fake 4/3/3: 3 novel labels, 2-shot, all images, k_per_label-v1, K = 2, Q = 9",
    }
    page = board_html(boards)
    assert page.count('<span class="tag">first 20 of 200 episodes</span>') == 2  # and the overview
    assert "## fake 4/3/3: 3 novel labels, 5-shot, all images" in board_markdown(boards)


@pytest.mark.parametrize(
    ("change", "added"),
    [
        ({"metrics_version": "metrics-v2"}, {"metrics-v1", "metrics-v2"}),
        (
            {"split": {"id": "fake-4-3-3-v1", "hash": "e" * 64, "dataset": "fake"}},
            {"split aaaaaaaa", "split eeeeeeee"},
        ),
        (
            {"protocol": {**FEW, "episodes": "f" * 64, "count": 200}},
            {"episodes bbbbbbbb", "episodes ffffffff"},
        ),
    ],
)
def test_titles_that_would_be_equal_say_more(change, added) -> None:
    values = [fake_value("one"), fake_value("two", **change), fake_value("few", protocol=FEW)]
    found = {board.title for board in build_boards([entry(value) for value in values])}
    plain = "fake 4/3/3: 3 novel labels, 1-shot, all images, "
    few = plain + "first 20 of 200 episodes"
    assert found == {few, *(plain + one for one in added)}


def test_a_board_of_reported_rows_alone_says_so() -> None:
    part = fake_tracks(images="subset")
    boards = build_boards([entry(fake_value(tracks=part)), entry(reported_value(tracks=part))])
    assert [board.title for board in boards] == [
        "fake 4/3/3: 3 novel labels, 1-shot, part of the images",
        "fake 4/3/3: 3 novel labels, 1-shot, nobody has run this here, part of the images",
    ]
    page = board_html(boards)
    assert page.count('<span class="tag t-none">nobody has run this here</span>') == 2


def test_ranks_are_shared_at_the_printed_precision_and_near_ones_are_marked() -> None:
    values = [
        fake_value("best", macro_ap=50.001),
        fake_value("equal", macro_ap=49.999),
        fake_value("near", macro_ap=48.5),
        fake_value("far", macro_ap=47.5),
    ]
    (board,) = build_boards([entry(value) for value in values])
    # intervals over images reach 2 points to each side
    assert [row.rank_text for row in board.rows] == ["1=", "1=", "3≈", "4"]
    for text in (board_markdown([board]), board_html([board])):
        assert "3≈" in text
        assert "the interval includes the value of the best row" in text
    assert r"3$\approx$" in board_latex([board])
