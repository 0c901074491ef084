"""The board ranks what was audited, and foreign scores that were verified, and says which."""

from __future__ import annotations

import csv
import io
import shutil
from typing import Any

import pytest

from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.leaderboard.board import build_boards
from mlfsic_bench.leaderboard.entry import Audited, parse_entry, read_entry
from mlfsic_bench.leaderboard.page import board_html
from mlfsic_bench.leaderboard.text import board_csv, board_latex, board_markdown
from tests.fakes.entries import cards, entry, fake_file, fake_value, reported_value
from tests.leaderboard.submitted import as_audited, edit, ok, packed, wrong


def of_run(entry_id: str, *audits: str | None, **changes: Any) -> dict[str, Any]:
    """An entry of runs of ours, with what their records say of audits."""
    files = [
        {
            **fake_file(entry_id, seed),
            "record": f"scores/{entry_id}/record.json",
            "record_sha256": "e" * 64,
            "run": "f" * 64,
            "audit": audit,
        }
        for seed, audit in enumerate(audits)
    ]
    proof = {"kind": "scores verified", "files": files}
    return fake_value(entry_id, proof=proof, training_seeds=len(files), **changes)


VALUES = [
    of_run("cheat", "failed", macro_ap=69.0),
    of_run("old", None, macro_ap=55.0),
    of_run("half", "passed", "not made", macro_ap=50.0),
    of_run("sound", "passed", "passed", macro_ap=45.0),
    fake_value("foreign", macro_ap=40.0),
    reported_value("printed"),
]


def test_c1_only_audited_and_foreign_scores_have_a_rank() -> None:
    (board,) = build_boards([entry(value) for value in VALUES])
    assert [(row.entry.id, row.rank, row.entry.audited) for row in board.rows] == [
        ("sound", 1, Audited.YES),
        ("foreign", 2, Audited.FOREIGN),
        ("cheat", None, Audited.FAILED),
        ("old", None, Audited.NO),
        ("half", None, Audited.NO),
    ]
    assert board.reported[0].entry.audited is None


def test_every_form_of_the_board_says_which() -> None:
    boards = build_boards([entry(value) for value in VALUES])
    markdown = board_markdown(boards)
    told = "in a fresh process: old, half."
    failed = "because its audit failed: cheat."
    foreign = "Ranked on scores of another program, every value computed again: foreign."
    for text in (markdown, board_latex(boards), board_html(boards)):
        assert told in text
        assert failed in text
        assert foreign in text
    rows = {line.split("|")[2].strip(" *"): line for line in markdown.splitlines() if "|" in line}
    assert rows["sound"].endswith("| scores verified, audited |")
    assert rows["foreign"].endswith("| foreign scores, verified |")
    assert rows["cheat"].endswith("| scores verified, audit failed |")
    assert rows["old"].endswith("| scores verified, not audited |")
    assert rows["printed"].endswith("| reported |")
    lines = list(csv.DictReader(io.StringIO(board_csv(boards))))
    assert {line["entry"]: (line["rank"], line["audit"]) for line in lines} == {
        "sound": ("1", "audited"),
        "foreign": ("2", "foreign scores, verified"),
        "cheat": ("", "audit failed"),
        "old": ("", "not audited"),
        "half": ("", "not audited"),
        "printed": ("", ""),
    }
    texts = cards(board_html(boards))
    assert "Audit audit failed" in texts["cheat"]
    assert "not ranked" in texts["old"]
    assert "another program" in texts["foreign"]
    assert "Audit" not in texts["printed"]


def test_an_entry_says_what_its_records_say_of_audits(runs, split_file, tmp_path) -> None:
    path = packed(tmp_path, split_file, runs["a0"])
    assert read_entry(path).proof.files[0].audit == "passed"
    ok("check", path, "--split", split_file)
    for claimed in ("failed", None):
        edit(path, lambda v, to=claimed: v["proof"]["files"][0].update(audit=to))
        text = wrong("check", path, "--split", split_file)
        assert "proof.files.0.audit: entry " in text


@pytest.mark.parametrize("status", ["failed", "not made"])
def test_what_is_not_audited_is_not_rerun_verified(status, runs, split_file, tmp_path) -> None:
    again = as_audited(shutil.copytree(runs["b0"], tmp_path / "again"), status)
    words = (runs["a0"], "--rerun", again, "--split", split_file, "--out", tmp_path / "out")
    assert "its run has passed no audit" in wrong("pack", *words)
    path = packed(tmp_path / "out", split_file, runs["a0"], "--rerun", runs["b0"])
    assert read_entry(path).audited is Audited.YES
    file = read_entry(path).proof.reruns[0]
    record = tmp_path / "out" / file.record
    as_audited(record.parent, status)
    edit(
        path,
        lambda v: v["proof"]["reruns"][0].update(record_sha256=hash_file(record), audit=status),
    )
    assert "its run has passed no audit" in wrong("check", path, "--split", split_file)


def test_an_audit_without_a_record_is_refused() -> None:
    value = fake_value("foreign")
    value["proof"]["files"][0]["audit"] = "passed"
    with pytest.raises(BenchError, match="without the record that says so"):
        parse_entry(value, "mine")
