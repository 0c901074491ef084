"""When scores that came again count as the stored ones, and messages between the processes."""

from __future__ import annotations

import io
import math
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.episodes.protocol import Episode
from mlfsic_bench.evaluation.audit.audit import EPISODES
from mlfsic_bench.evaluation.audit.compare import QUERIES, TOLERANCE, Found, Stored, compare
from mlfsic_bench.evaluation.audit.fresh import _Server
from mlfsic_bench.evaluation.audit.messages import receive, send

IDS = ("a", "b", "c", "d")
SCORES = np.array([[0, 1000], [1, 1001], [2, 1002], [4, 1004]], np.float32)


def stored(scores: np.ndarray = SCORES, decisions: np.ndarray | None = None) -> Stored:
    episode = Episode(support=("s",), query=IDS)
    return Stored((episode,), scores[None], None if decisions is None else decisions[None])


def found(scores: np.ndarray, decisions: np.ndarray | None = None, rows: str = "dcba") -> Found:
    order = [IDS.index(row) for row in rows]
    kept = None if decisions is None else decisions[order]
    return Found(0, tuple(rows), scores[order], kept)


def test_rows_are_matched_by_image() -> None:
    difference = compare(stored(), found(SCORES, rows="cad"))
    assert difference.scores == 0
    assert difference.same


@pytest.mark.parametrize("column", [0, 1])
def test_differences_are_relative_to_the_range_of_the_label(column: int) -> None:
    """An offset or another label's size hides nothing."""
    scores = SCORES.astype(np.float64)
    scores[2, column] += 0.4
    difference = compare(stored(), found(scores.astype(np.float32)))
    assert difference.scores == pytest.approx(0.1, rel=1e-3)
    assert difference.image == "c"
    assert not difference.same


def test_tiny_scores_are_no_excuse() -> None:
    tiny = SCORES * np.float32(1e-20)
    assert compare(stored(tiny), found(tiny)).same
    assert not compare(stored(tiny), found(tiny[::-1])).same


def test_constant_scores_must_be_the_same() -> None:
    same = np.full((4, 2), -3.0, np.float32)
    assert compare(stored(same), found(same)).scores == 0
    other = compare(stored(same), found(same + 3))
    assert other.scores == pytest.approx(1.0)
    zero = np.zeros((4, 2), np.float32)
    assert not compare(stored(zero), found(zero + 1)).same


def test_decisions_may_differ_at_the_threshold_alone() -> None:
    scores = np.array([[-1, -1], [1e-5, 1], [0.5, 2], [3, 2.5]], np.float32)
    given = scores > 0
    at_zero, elsewhere = given.copy(), given.copy()
    at_zero[1, 0] ^= True
    elsewhere[2, 1] ^= True
    assert compare(stored(scores, given), found(scores, given)).same
    assert compare(stored(scores, given), found(scores, at_zero)).flips == 0
    assert compare(stored(scores, given), found(scores, elsewhere)).flips == 1
    close = np.array([[0, 0], [1, 1], [1 + 1e-6, 2], [3, 3]], np.float32)
    own = close > 1.0000005
    other = own.copy()
    other[1, 0] ^= True
    assert compare(stored(close, own), found(close, other)).flips == 0
    other[3, 0] ^= True
    assert compare(stored(close, own), found(close, other)).flips == 1


def test_decisions_on_one_side_alone_differ() -> None:
    assert not compare(stored(SCORES, SCORES > 1), found(SCORES)).same
    assert not compare(stored(SCORES), found(SCORES, SCORES > 1)).same


def test_the_tolerance_itself_still_agrees() -> None:
    scores = np.array([[0], [1], [0.5], [0.25]], np.float32)
    for factor, same in ((0.9, True), (1.1, False)):
        moved = scores.copy()
        moved[2] += np.float32(factor * TOLERANCE)
        assert compare(stored(scores), found(moved)).same is same


def test_messages_come_as_they_were_sent() -> None:
    stream = io.BytesIO()
    arrays = {"a": SCORES, "b": SCORES > 1, "c": np.zeros((0, 3), np.float32)}
    send(stream, {"first": 3, "ids": ["é"]}, arrays)
    send(stream, {"end": True})
    stream.seek(0)
    head, came = receive(stream)
    assert head == {"first": 3, "ids": ["é"]}
    for name, value in arrays.items():
        np.testing.assert_array_equal(came[name], value)
        assert came[name].dtype == value.dtype
    assert receive(stream) == ({"end": True}, {})
    with pytest.raises(EOFError):
        receive(stream)


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 8,
        (2).to_bytes(8, "little") + b"{}",
        (55).to_bytes(8, "little")
        + b'{"arrays": [["a", "object", [1]]], "padding": "xxxxxxx"}'[:55],
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        receive(io.BytesIO(data))


def test_the_page_states_what_escapes_an_audit() -> None:
    """The chances in docs/running.md, from how many episodes and images are looked at."""
    page = (Path(__file__).parents[2] / "docs" / "running.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([0-9.]+) % \|$", page, re.MULTILINE)
    assert len(rows) == 5
    inner = EPISODES - 2
    for cheats, told in rows:
        chance = math.comb(198 - int(cheats), inner) / math.comb(198, inner)
        assert float(told) == pytest.approx(100 * chance, abs=0.06)
    for images, told in ((3, "23.7 %"), (6, "5.1 %"), (13, "0.1 %")):
        chance = math.comb(64 - images, QUERIES) / math.comb(64, QUERIES)
        assert float(told[:-2]) == pytest.approx(100 * chance, abs=0.06)
        assert told in page


def test_the_fork_of_a_command_serves_sessions_and_can_be_ended() -> None:
    server = _Server(forked=True)
    server.tell({"trainable": None}, {})  # a job that lacks all else: the session fails
    ended, _ = server.hear(60)
    assert ended == {"ended": 1}
    assert "KeyError" in server.ended(1)
    assert server.process.poll() is None
    server.stop()
    assert server.process.poll() == -signal.SIGKILL
