"""A protocol is one object: one that is added is known to commands, files, runs and scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.episodes import protocol
from mlfsic_bench.episodes.files import draw_episodes, find_episodes, read_episodes
from mlfsic_bench.episodes.protocol import Protocol, find_protocol, protocol_with_id
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.splits.resolve import resolve_split
from tests.fakes.world import fake_inputs, fake_split

SCENES = "scenes-12-6-6-v1"


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Protocol:
    """The protocol `k_per_label` with K = 2 and Q = 3, added as docs/episodes.md says."""
    place = ("tests.episodes.k_per_label", "KPerLabel")
    monkeypatch.setitem(protocol.PROTOCOLS, "k_per_label", place)
    monkeypatch.setitem(protocol.OPTIONS, "queries", ("Q", "Query images of each label."))
    return find_protocol("k_per_label", shots=2, queries=3)


def test_what_the_two_protocols_are() -> None:
    one, laso = find_protocol(), find_protocol("laso_k_shot", shots=5)
    assert (one.id, one.shots, one.queries, one.choices) == ("one_per_label-v1", 1, 4, {})
    assert (laso.id, laso.shots, laso.queries) == ("laso_k_shot-v1", 5, None)
    assert (one.title, laso.title) == ("one_per_label-v1", "laso_k_shot-v1, K = 5")
    assert (one.tag, laso.tag) == ("", "5-shot")
    drawn_for = one.drawn_for(2, 8)
    assert drawn_for is not None
    assert drawn_for.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert one.drawn_for(2, 7) is None
    assert laso.drawn_for(2, 8) is None
    assert protocol_with_id("laso_k_shot-v1", shots=5) == laso
    for name, shots in (("one_per_label-v2", None), ("laso_k_shot-v1", None), (one.id, 1)):
        with pytest.raises(BenchError):
            protocol_with_id(name, shots=shots)


def test_an_added_protocol_has_files(added: Protocol, tmp_path: Path) -> None:
    split = resolve_split(SCENES, data_root=None)
    content = draw_episodes(added, split, "novel")
    path = tmp_path / added.file_name(split.id, "novel")
    assert path.name == f"{SCENES}.novel-2-shot-3-query-episodes.json"
    path.write_bytes(content.format())
    kept = read_episodes(path, split)
    assert (kept.protocol, len(kept.episodes)) == (added, 4)
    assert kept == find_episodes(added, split, count=4, hash=kept.hash)
    assert {(len(e.support), len(e.query)) for e in kept.episodes} == {(12, 18)}
    for args in (("verify", path), ("show", path, 3)):
        call = ["episodes", *map(str, args)]
        done = CliRunner().invoke(cli, call, catch_exceptions=False)
        assert done.exit_code == 0
    assert "k_per_label-v1, K = 2, Q = 3" in done.output


def test_an_added_protocol_is_run_and_scored(added: Protocol, tmp_path: Path) -> None:
    split = fake_split()
    inputs = replace(fake_inputs(split=split), episodes=find_episodes(added, split), count=4)
    folder = execute(inputs, tmp_path / "run")
    card = read_record(folder).episodes
    assert (card.protocol, card.shots, card.queries) == ("k_per_label-v1", 2, 3)
    assert card.drawn_by == added
    shown = CliRunner().invoke(cli, ["table", str(folder)], catch_exceptions=False).output
    assert "2 support and 3 query images per label, 4 episodes" in shown
    assert "k_per_label-v1, K = 2, Q = 3" in shown
