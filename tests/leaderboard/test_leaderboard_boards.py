"""Boards: what shares a table, ranks, chance, and the four files."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.report.entry_figures import Chance, Figure
from mlfsic_bench.report.entry_files import read_entries
from mlfsic_bench.report.entry_kinds import IntervalKind
from mlfsic_bench.report.leaderboard import against_chance, build_boards
from mlfsic_bench.report.leaderboard_card import card_of
from mlfsic_bench.report.leaderboard_page import board_html, policy, script_json
from mlfsic_bench.report.leaderboard_text import (
    board_csv,
    board_latex,
    board_markdown,
)
from mlfsic_bench.report.leaderboard_titles import titles
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
    assert against_chance(figure, Chance(low=low, high=high), IntervalKind.EPISODES) == verdict


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
    assert card_of(far)["verdict"] == ""
    by_images = "macro-AP is at chance by its interval over images (docs/claims.md)."
    assert card_of(near)["verdict"] == by_images


def test_chance_goes_by_the_figure_where_the_table_shows_no_interval() -> None:
    other = fake_value("bare", figures={"macro_ap": {"value": 20.0}})
    other["chance"] = {"macro_ap": {"low": 15.0, "high": 15.0}}
    (board,) = build_boards([entry(two_seeds("wide", 6.0)), entry(other)])
    assert board.interval is None
    assert [row.chance["macro_ap"] for row in board.rows] == ["above chance"] * 2


FEW = {"id": "one_per_label-v1", "episodes": "b" * 64, "count": 20, "total": 200}
SHOTS = {"id": "laso_k_shot-v1", "episodes": "e" * 64, "count": 200, "total": 200, "shots": 5}


def test_titles_say_what_is_special() -> None:
    values = [
        fake_value("plain"),
        fake_value("few", protocol=FEW),
        fake_value("part", tracks=fake_tracks(images="subset")),
        fake_value("shots", protocol=SHOTS),
    ]
    boards = build_boards([entry(value) for value in values])
    assert set(titles(boards)) == {
        "fake-4-3-3-v1, full, one_per_label-v1",
        "fake-4-3-3-v1, full, one_per_label-v1, first 20 of 200 episodes",
        "fake-4-3-3-v1, subset, one_per_label-v1",
        "fake-4-3-3-v1, full, laso_k_shot-v1, K = 5",
    }
    page = board_html(boards)
    assert page.count('<span class="tag">first 20 of 200 episodes</span>') == 1
    assert "## fake-4-3-3-v1, full, laso\\_k\\_shot-v1, K = 5" in board_markdown(boards)


@pytest.mark.parametrize(
    ("change", "told"),
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
def test_titles_that_would_be_equal_say_more(change, told) -> None:
    values = [fake_value("one"), fake_value("two", **change), fake_value("few", protocol=FEW)]
    found = titles(build_boards([entry(value) for value in values]))
    plain = "fake-4-3-3-v1, full, one_per_label-v1, "
    few = plain + "first 20 of 200 episodes"
    assert set(found) == {few, *(plain + one for one in told)}


def test_a_board_of_reported_rows_alone_says_so_where_titles_would_be_equal() -> None:
    part = fake_tracks(images="subset")
    boards = build_boards([entry(fake_value(tracks=part)), entry(reported_value(tracks=part))])
    assert sorted(titles(boards)) == [
        "fake-4-3-3-v1, subset, one_per_label-v1",
        "fake-4-3-3-v1, subset, one_per_label-v1, reported only",
    ]


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
        assert "3 entries on 1 board:" in done.output
    for name in OUTPUTS:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_board_in_the_repository_is_that_of_its_entries() -> None:
    boards = build_boards(read_entries(ROOT / "results"))
    for name, render in OUTPUTS.items():
        committed = (ROOT / "results" / "board" / name).read_text(encoding="utf-8")
        assert committed == render(boards), f"run mlfsic-bench leaderboard build ({name})"


def leaderboard(*words: object):
    return CliRunner().invoke(cli, ["leaderboard", *map(str, words)])


def test_check_holds_a_built_board_against_the_entries(tmp_path: Path) -> None:
    results = write_values([reported_value(), reported_value("second")], tmp_path / "results")
    assert leaderboard("build", "--results", results).exit_code == 0
    done = leaderboard("check", "--results", results)
    assert done.exit_code == 0, done.output
    assert f"{results}/board is their board" in done.output
    for name in OUTPUTS:
        path = results / "board" / name
        text = path.read_bytes()
        for bad in (text.replace(b"33", b"34", 1), text + b"\n", text[:-1], None):
            path.unlink() if bad is None else path.write_bytes(bad)
            done = leaderboard("check", "--results", results)
            assert isinstance(done.exception, BenchError)  # exit code 2
            assert f"{path} is not the board of the entries in {results}" in str(done.exception)
            path.write_bytes(text)
    (results / "leaderboard" / "fake-4-3-3-v1" / "second.json").unlink()
    assert isinstance(leaderboard("check", "--results", results).exception, BenchError)


def test_check_of_a_board_elsewhere(tmp_path: Path) -> None:
    results = write_values([reported_value()], tmp_path / "results")
    done = leaderboard("check", "--results", results, "--board", tmp_path / "built")
    assert isinstance(done.exception, BenchError)  # named, so it must be there
    assert leaderboard("build", "--results", results, "--out", tmp_path / "built").exit_code == 0
    assert not (results / "board").exists()
    done = leaderboard("check", "--results", results, "--board", tmp_path / "built")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path}/built is their board" in done.output


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
