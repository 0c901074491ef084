"""A protocol is one object, which commands, files, runs, scores and tables ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.episodes.files import find_episodes
from mlfsic_bench.episodes.protocol import find_protocol, protocol_with_id
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import execute
from tests.fakes.world import fake_inputs, fake_split

SCENES = "scenes-12-6-6-v1"


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], catch_exceptions=False)


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


def test_sampled_verified_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    chosen = ("--shots", 2, "--queries", 3)
    said = call("episodes", "sample", SCENES, *chosen, "--count", 4, "--out", path).output
    assert "4 novel episodes" in said
    assert "k_per_label-v1, K = 2, Q = 3" in said
    assert "regenerates byte for byte" in call("episodes", "verify", path).output
    by_file = call("episodes", "show", path, 3).output
    assert by_file == call("episodes", "show", SCENES, 3, *chosen).output
    assert "k_per_label-v1, K = 2, Q = 3" in by_file
    assert "support (12 images; image, drawn for, all its labels" in by_file
    disjoint = ("--protocol", "disjoint_per_label")
    said = call("episodes", "sample", SCENES, *disjoint, "--out", path).output
    assert "48 novel episodes" in said
    assert "not among the 48 official" not in call("episodes", "show", SCENES, 47, *disjoint).output
    assert "regenerates byte for byte" in call("episodes", "verify", path).output


def test_records_and_tables_say_k_and_q(tmp_path: Path) -> None:
    split = fake_split()
    drawn = find_episodes(find_protocol(shots=2, queries=3), split, count=4)
    folder = execute(replace(fake_inputs(split=split), episodes=drawn, count=4), tmp_path / "run")
    card = read_record(folder).episodes
    assert (card.protocol, card.shots, card.queries) == ("k_per_label-v1", 2, 3)
    assert card.drawn_by == drawn.protocol
    shown = call("table", folder).output
    assert "2 support and 3 query images per label, 4 episodes" in shown
    assert "k_per_label-v1, K = 2, Q = 3" in shown
