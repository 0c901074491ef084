"""Targets that were stored, not rebuilt: a state of their own that verifies nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.scores import StoredTargets, read_scores, read_targets, write_targets
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.leaderboard.board import build_boards
from mlfsic_bench.leaderboard.entry import IntervalKind, State, parse_entry, read_entry
from mlfsic_bench.leaderboard.text import board_markdown
from mlfsic_bench.leaderboard.wording import STORED_NOTE
from tests.fakes.entries import entry, fake_file, fake_value
from tests.fakes.world import fake_run
from tests.leaderboard.submitted import as_audited, edit, ok, packed, wrong


def test_stored_targets_are_a_state_of_their_own_and_never_ranked(
    runs, split_file, tmp_path
) -> None:
    run = shutil.copytree(runs["a0"], tmp_path / "run")
    scores, answers = read_scores(run / "scores.npz"), read_targets(run / "targets.npz")
    perfect = StoredTargets((scores.scores > 0).astype("uint8"), answers.query, answers.meta)
    write_targets(run / "targets.npz", perfect)
    digest = hash_file(run / "targets.npz")
    edit(run / "record.json", lambda r: r["outputs"].update({"targets.npz": digest}))
    out = tmp_path / "out"
    line = ok("pack", run, "--out", out, "--stored-targets").splitlines()[0]
    forged = read_entry(Path(line))
    assert forged.state is State.STORED
    assert forged.figures["macro_ap"].value == pytest.approx(100.0)
    assert "targets STORED, not rebuilt" in ok("check", out)

    sound = as_audited(fake_run(tmp_path / "m", episodes=4))
    honest = read_entry(packed(tmp_path / "h", split_file, sound))
    (board,) = build_boards([forged, honest])
    assert [(row.entry.id, row.rank) for row in board.rows] == [(honest.id, 1), (forged.id, None)]
    assert board.interval is IntervalKind.IMAGES
    assert STORED_NOTE in board_markdown([board])
    assert STORED_NOTE not in board_markdown(build_boards([honest]))

    # and calling it verified does not help
    def claim(value: Any) -> None:
        value["state"] = value["proof"]["kind"] = "scores verified"

    edit(Path(line), claim)
    assert "not the targets of the split's episodes" in wrong("check", out, "--split", split_file)


def test_an_interval_over_images_is_not_claimed_on_stored_targets(runs, tmp_path) -> None:
    line = ok("pack", runs["a0"], "--out", tmp_path, "--stored-targets").splitlines()[0]

    def claim(value: Any) -> None:
        figure = value["figures"]["macro_ap"]
        figure["intervals"]["images"] = {"low": figure["value"], "high": figure["value"]}

    edit(Path(line), claim)
    assert "an interval over images" in wrong("check", tmp_path)


def test_stored_answers_confirm_no_verified_entry(runs, split_file, tmp_path) -> None:
    packed(tmp_path, split_file, runs["a0"])
    text = ok("check", tmp_path, "--stored-targets")
    assert "'scores verified' is NOT confirmed" in text
    assert text.endswith(
        "1 entry checked, 1 of them NOT confirmed: their targets were not rebuilt\n"
    )
    assert "NOT" not in ok("check", tmp_path, "--split", split_file)


def test_stored_targets_need_the_record_of_their_run() -> None:
    value = fake_value(state="scores stored")
    value["proof"] = {"kind": "scores stored", "files": [fake_file("x")]}
    with pytest.raises(BenchError, match="without the record"):
        parse_entry(value, "an entry")


def test_a_board_of_stored_targets_alone_has_no_ranks() -> None:
    record = {"record": "a/record.json", "record_sha256": "e" * 64, "run": "f" * 64}
    value = fake_value(state="scores stored", per_label=[])
    value["proof"] = {"kind": "scores stored", "files": [{**fake_file("x"), **record}]}
    for figure in value["figures"].values():
        del figure["intervals"]["images"]
    (board,) = build_boards([entry(value)])
    assert [row.rank for row in board.rows] == [None]
    assert board.interval is IntervalKind.EPISODES
