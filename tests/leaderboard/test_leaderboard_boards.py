"""Boards: what shares a table, ranks, chance, and the four files."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.report.entry import Chance, Figure
from mlfsic_bench.report.entry_files import read_entries
from mlfsic_bench.report.leaderboard import against_chance, build_boards
from mlfsic_bench.report.leaderboard_page import board_html, policy, script_json
from mlfsic_bench.report.leaderboard_text import (
    board_csv,
    board_latex,
    board_markdown,
)
from tests.fakes.entries import (
    HOSTILE,
    entry,
    fake_figure,
    fake_tracks,
    fake_value,
    hostile_values,
    many_values,
    reported_value,
    write_values,
)

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = {
    "index.html": board_html,
    "leaderboard.md": board_markdown,
    "leaderboard.tex": board_latex,
    "leaderboard.csv": board_csv,
}


class Tags(HTMLParser):
    """Collects the attributes that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name) for name, _ in attrs]


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


def test_reported_rows_stand_beside_full_runs_only() -> None:
    subset = fake_value("part", tracks=fake_tracks(images="subset"))
    assert names([subset, reported_value()]) == [["printed"], ["part"]]
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
    figure = Figure.model_validate_json(json.dumps({"value": value, "intervals": interval}))
    assert against_chance(figure, Chance(low=low, high=high)) == verdict


def test_reported_rows_carry_their_chance_note() -> None:
    chance = {"macro_ap": {"low": 26.72, "high": 30.39}}
    value = reported_value(chance=chance, figures={"macro_ap": {"value": 27.24}})
    boards = build_boards([entry(value)])
    assert "27.24 (at chance)" in board_markdown(boards)
    assert "26.72 or more" in board_html(boards)


def test_the_same_entries_give_the_same_bytes(tmp_path: Path) -> None:
    entries = [entry(value) for value in many_values(30)]
    for render in OUTPUTS.values():
        assert render(build_boards(entries)) == render(build_boards(entries[::-1]))
    write_values(many_values(3), tmp_path / "results")
    for out in ("a", "b"):
        done = CliRunner().invoke(
            cli,
            [
                "leaderboard",
                "build",
                "--results",
                f"{tmp_path}/results",
                "--out",
                f"{tmp_path}/{out}",
            ],
        )
        assert done.exit_code == 0, done.output
        assert "3 entries on 1 boards" in done.output
    for name in OUTPUTS:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_board_in_the_repository_is_that_of_its_entries() -> None:
    boards = build_boards(read_entries(ROOT / "results"))
    for name, render in OUTPUTS.items():
        committed = (ROOT / "results" / "board" / name).read_text(encoding="utf-8")
        assert committed == render(boards), f"run mlfsic-bench leaderboard build ({name})"


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
