"""Label counts for all query images of the episodes: made, kept and read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mlfsic_baselines.label_count import LabelCountHead

from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation import counts as module
from mlfsic_bench.evaluation.counts import (
    LabelCounts,
    counts_of,
    label_counts,
    read_counts,
    write_counts,
)
from mlfsic_bench.evaluation.fit import training_parts
from mlfsic_bench.evaluation.plan import RunPlan
from tests.fakes.world import Trained, fake_inputs

EPISODES = 6


@pytest.fixture(scope="module")
def made() -> LabelCounts:
    return counts_of(fake_inputs(Trained, episodes=EPISODES))


def test_each_query_image_has_the_heads_count(made: LabelCounts) -> None:
    inputs = fake_inputs(Trained, episodes=EPISODES)
    head = LabelCountHead.fitted(*training_parts(inputs, lambda line: None))
    source = inputs.open_source((), (), lambda line: None)
    view = inputs.view(inputs.split.novel, "novel", source)
    for index, (episode, row) in enumerate(zip(inputs.episodes.episodes, made.counts, strict=True)):
        query, support = view.query(episode), view.support(index, episode)
        found = dict(zip(query.ids, head.counts(query, support).tolist(), strict=True))
        assert row.tolist() == [found[image] for image in episode.query]
    assert made.counts.min() >= 1
    assert made.counts.max() <= len(inputs.split.novel.labels)
    assert made.meta.episodes.hash == inputs.episodes.hash
    assert made.meta.val is not None
    assert made.meta.val.accuracy_of_one > 0


def test_no_method_seed_or_novel_label_is_in_it(made: LabelCounts) -> None:
    other = counts_of(fake_inputs(Trained, {"steps": 1}, episodes=EPISODES, seed=5))
    assert (other.counts == made.counts).all()
    assert other.meta == made.meta


def test_a_file_of_counts(made: LabelCounts, tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    write_counts(path, made)
    again = read_counts(path)
    assert (again.counts == made.counts).all()
    assert again.meta == made.meta
    arrays = read_arrays(path, kind="counts file", required=("counts", "meta"))
    for wrong in (made.counts * 0, made.counts[:2], made.counts[0], made.counts * 1.0):
        write_arrays(path, arrays | {"counts": wrong})
        with pytest.raises(BenchError, match="valid file of label counts"):
            read_counts(path)
    write_arrays(path, arrays | {"meta": np.array('{"kind": "mlfsic-bench scores"}')})
    with pytest.raises(BenchError, match="the description in"):
        read_counts(path)
    with pytest.raises(BenchError, match="frozen backbone"):
        label_counts(RunPlan(method="", split="x", backbone="y", features="end-to-end"))


def test_the_command(made: LabelCounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunPlan] = []

    def fake(plan: RunPlan, log: object) -> LabelCounts:
        asked.append(plan)
        return (
            made
            if len(asked) == 1
            else replace(made, meta=made.meta.model_copy(update={"val": None}))
        )

    monkeypatch.setattr(module, "label_counts", fake)
    out = tmp_path / "c.npz"
    words = ["counts", "--split", "s", "--backbone", "b", "--shots", "3", "--out", str(out)]
    words += ["--protocol", "k_per_label"]
    text = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert "on val:" in text
    assert "always 1" in text
    assert (read_counts(out).counts == made.counts).all()
    assert asked[0].protocol is not None
    assert "on val" not in CliRunner().invoke(cli, words, catch_exceptions=False).output
    missing = CliRunner().invoke(cli, ["counts", "--split", "s", "--out", str(out)])
    assert missing.exit_code == 2
