"""Entries: their schema, what it refuses, and the ones in the repository."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.leaderboard.entry import (
    Adaptation,
    Embeddings,
    Entry,
    State,
    check_files,
    parse_entry,
    read_entries,
    read_entry,
    schema_text,
    slug,
    write_entry,
)
from mlfsic_bench.leaderboard.reported import reported_entries
from mlfsic_bench.results.published import read_published
from tests.fakes.entries import entry, fake_file, fake_value, reported_value, write_values

RESULTS = Path(__file__).resolve().parents[2] / "results"


def with_change(path: str, new: object) -> dict[str, object]:
    """A verified entry in which the value at a dotted path is another; `None` key is removed."""
    value = copy.deepcopy(fake_value())
    place = value
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step)] if step.isdigit() else place[step]
    if isinstance(place, list):
        place[int(last)] = new
    elif new is ...:
        del place[last]
    else:
        place[last] = new
    return value


def test_an_entry_survives_its_file(tmp_path: Path) -> None:
    one = entry(fake_value())
    path = write_entry(one, tmp_path)
    assert path == tmp_path / "leaderboard" / "fake-4-3-3-v1" / "mine.json"
    assert read_entry(path) == one
    first = path.read_bytes()
    write_entry(one, tmp_path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("path", "new", "says"),
    [
        ("nmae", "x", "did you mean 'name'?"),
        ("split.hsah", "x", "did you mean 'hash'?"),
        ("figures.macro_ap.valu", 1.0, "did you mean 'value'?"),
        ("proof.files.0.score", "x", "did you mean 'scores'?"),
        ("tracks.imagess", "full", "did you mean 'images'?"),
        ("name", ..., "'name' is missing"),
        ("name", "", "at least 1 character"),
        ("name", "x" * 121, "at most 120 characters"),
        ("id", "../evil", "lower-case letters, digits and hyphens"),
        ("id", "Upper", "lower-case letters, digits and hyphens"),
        ("split.id", "..", "lower-case letters, digits and hyphens"),
        ("state", "verified", "'scores verified' or 'rerun verified'"),
        ("state", "reported", "with a proof of 'scores verified'"),
        ("tracks.words", "glove", "'word vectors'"),
        ("figures.macro_map", {"value": 1.0}, "no metric of this name"),
        ("figures.macro_ap.value", 101.0, "less than or equal to 100"),
        ("figures.macro_ap.value", "40", "valid number"),
        ("figures.macro_ap.intervals.images", {"low": 3.0, "high": 2.0}, "low 3.0 is above high"),
        ("figures.macro_ap.intervals.other", {"low": 3.0, "high": 4.0}, "'training seeds'"),
        ("figures", {}, "at least 1 item"),
        ("per_label.1", {"label": "hen", "ap": 3.0}, "a label stands twice"),
        ("training_seeds", 2, "training_seeds 2 with 1 files"),
        ("split.hash", None, "split.hash is null"),
        ("metrics_version", None, "metrics_version is null"),
        ("metrics_version", "v1", "such as metrics-v1"),
        ("protocol.count", 300, "300 of 200 episodes"),
        ("proof.files.0.scores", "/etc/passwd", "a path below the folder"),
        ("proof.files.0.scores", "a/../../b", "a path below the folder"),
        ("proof.files.0.scores", "..", "a path below the folder"),
        ("links", [{"title": "x", "url": "javascript:alert(1)"}], "begins with https://"),
        ("links", [{"title": "x", "url": "http://example.org"}], "begins with https://"),
        ("links", [{"title": "x", "url": "https://a@example.org"}], "begins with https://"),
        ("links", [{"title": "x", "url": "https://exa\u202emple.org"}], "begins with https://"),
        ("links", [{"title": "x", "url": "https:///path"}], "begins with https://"),
        ("dates.made", "23 Nov", "a year, month or day"),
        ("schema_version", 2, "schema_version"),
        ("schema_version", True, "a whole number"),
        ("schema_version", 1.0, "a whole number"),
        ("dates.made", "2026-13-45", "of the calendar"),
        ("dates.made", "2026-02-30", "of the calendar"),
        ("dates.submitted", "2026-11-22", "made on 2026-11-23, after it was submitted"),
        ("dates.submitted", "2025", "made on 2026-11-23, after it was submitted"),
        ("name", "  ", "not blank"),
        ("name", "a\u200bb", "U+200B is one"),
        ("authors", [" "], "not blank"),
        ("citation", " \n", "not blank"),
        ("links", [{"title": "x", "url": "https://example.org:99999999"}], "links.0.url"),
        ("links", [{"title": "x", "url": "https://example.org:0"}], "links.0.url"),
        ("figures.macro_ap.value", 50.0, "50.0 lies outside its interval over episodes"),
        ("per_label.0.ap", 50.0, "50.0 lies outside its interval over episodes"),
        ("chance.macro_ap", {"low": 2.0, "high": 1.0}, "low 2.0 is above high 1.0"),
        ("per_label.0.label", "he\u0301n", "composed form"),
        ("proof.files", [fake_file("x"), fake_file("x")], "a training seed stands twice"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(path: str, new: object, says: str) -> None:
    with pytest.raises(BenchError) as error:
        parse_entry(with_change(path, new), "an entry")
    assert says in str(error.value)
    assert "an entry" in error.value.what


@pytest.mark.parametrize("depth", [10, 11, 300, 900, 5_000, 100_000])
def test_deep_parameters_are_refused_and_nothing_crashes(depth: int, tmp_path: Path) -> None:
    from mlfsic_bench.leaderboard.board import build_boards
    from mlfsic_bench.leaderboard.page import board_html

    value = json.dumps(fake_value(card="DEEP"))
    deep = '{"x": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
    card = '{"method": "m", "preset": null, "trains": null, "parameters": ' + deep + "}"
    path = tmp_path / "x.json"
    path.write_text(value.replace('"DEEP"', card))
    if depth == 10:
        assert board_html(build_boards([read_entry(path)]))
    else:
        with pytest.raises(BenchError):
            read_entry(path)


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(BenchError, match=r"name is not valid(.|\n)*Unicode text"):
        parse_entry(fake_value(name="\ud800"), "an entry")


@pytest.mark.parametrize("text", ["{", "[]", "[1]", '{"id": NaN}', '{"id": 1, "id": 2}', "\xff"])
def test_files_that_are_no_entries(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(BenchError, match=r"x\.json"):
        read_entry(path)


def test_the_json_schema_is_printed_and_names_every_key() -> None:
    printed = CliRunner().invoke(cli, ["leaderboard", "schema"])
    assert printed.output == schema_text()
    assert set(json.loads(printed.output)["properties"]) == set(Entry.model_fields)


def test_entries_lie_under_their_names(tmp_path: Path) -> None:
    write_values([fake_value()], tmp_path)
    assert [one.id for one in read_entries(tmp_path)] == ["mine"]
    path = tmp_path / "leaderboard" / "fake-4-3-3-v1" / "mine.json"
    moved = path.rename(path.with_name("other.json"))
    with pytest.raises(BenchError, match="does not lie where its entry belongs"):
        read_entries(tmp_path)
    moved.rename(path)
    (path.parent / "notes.txt").write_text("x")
    with pytest.raises(BenchError, match=r"notes\.txt is not an entry"):
        read_entries(tmp_path)
    with pytest.raises(BenchError, match="has no entries"):
        read_entries(tmp_path / "nowhere")


def test_evidence_must_be_there_and_unchanged(tmp_path: Path) -> None:
    from mlfsic_bench.hashing import hash_bytes

    file = fake_file("mine") | {
        "scores_sha256": hash_bytes(b"scores"),
        "answers_sha256": hash_bytes(b"answers"),
    }
    one = entry(fake_value(proof={"kind": "scores verified", "files": [file]}))
    folder = tmp_path / "scores" / "mine"
    with pytest.raises(BenchError, match="is not the file the entry names"):
        check_files(one, tmp_path)
    folder.mkdir(parents=True)
    (folder / "scores.npz").write_bytes(b"scores")
    (folder / "answers.npz").write_bytes(b"answers")
    assert check_files(one, tmp_path) == 2
    (folder / "answers.npz").write_bytes(b"other")
    with pytest.raises(BenchError, match=r"answers\.npz is not the file"):
        check_files(one, tmp_path)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.write_bytes(b"answers")
    (folder / "answers.npz").unlink()
    (folder / "answers.npz").symlink_to(elsewhere)
    with pytest.raises(BenchError, match="leads out of the results folder"):
        check_files(one, tmp_path)


def test_published_rows_carry_their_figures_and_source() -> None:
    table = read_published("yan-2022-table1")
    entries = {one.id: one for one in reported_entries()}
    assert len(entries) == 16
    for row in table.rows:
        one = entries[slug(f"yan-2022-table1-{row.method or row.name}")]
        assert {name: figure.value for name, figure in one.figures.items()} == row.values
        assert one.state is State.REPORTED
        assert one.proof.table == 1
        assert one.split.hash is None
    yan = entries["yan-2022-table2-word-guided-attention"]
    assert yan.name == "Yan et al. (2022), word-guided attention"
    assert (yan.card.method, yan.proof.row) == ("word-guided-attention", "Yan et al. (2022)")
    assert (yan.tracks.words, yan.tracks.adaptation) == (Embeddings.GIVEN, Adaptation.NONE)
    assert yan.chance["macro_ap"].low == pytest.approx(26.72, abs=0.005)


def test_a_reported_entry_needs_no_hashes() -> None:
    one = entry(reported_value())
    assert not one.verified
    assert one.training_seeds is None


def test_the_entries_in_the_repository_are_sound() -> None:
    entries = read_entries(RESULTS)
    states = {one.state for one in entries}
    assert {State.REPORTED, State.SCORES} <= states
    assert all(check_files(one, RESULTS) or not one.verified for one in entries)
    printed = {one.id: one for one in entries if one.state is State.REPORTED}
    assert printed == {one.id: one for one in reported_entries()}


def test_check_says_how_many(tmp_path: Path) -> None:
    write_values([reported_value()], tmp_path)
    done = CliRunner().invoke(cli, ["leaderboard", "check", "--results", str(tmp_path)])
    assert done.exit_code == 0
    assert "1 entry is valid; 0 files" in done.output
    assert f"no board in {tmp_path}/board to compare with them" in done.output
