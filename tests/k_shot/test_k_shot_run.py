"""From the split to the table: runs of every method, scores, answers, caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mlfsic_bench.analysis.paper_table import as_text, paper_tables
from mlfsic_bench.data.coco import Coco
from mlfsic_bench.episodes import k_shot
from mlfsic_bench.episodes.files import draw_episodes
from mlfsic_bench.episodes.k_shot import LasoBalanced, LasoKShot
from mlfsic_bench.episodes.protocol import find_protocol
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation import predict as evaluate_module
from mlfsic_bench.evaluation.identity import identity, run_key
from mlfsic_bench.evaluation.inputs import Inputs, open_inputs
from mlfsic_bench.evaluation.parts import select_parts
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.evaluation.scores import read_scores, read_targets, write_targets
from mlfsic_bench.methods.contract import Images, Method, Predictor, Support
from mlfsic_bench.methods.registry import find_method, make_method, method_names
from mlfsic_bench.plugins.files import source_hash
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.files import to_split
from mlfsic_bench.splits.split import Split
from tests.fakes.laso_world import DEFINITION, SPLIT, laso_root
from tests.fakes.world import FakeFeatures, Mean, _direction, fake_embeddings, fake_inputs

pytestmark = pytest.mark.slow


class LasoFeatures(FakeFeatures):
    """The fake features of the tiny COCO, whose ids do not name their part; 2 x 2 places."""

    grid = (2, 2)

    def local(self, ids: Sequence[str]) -> Tensor:
        return self.pooled(ids)[:, :, None, None].expand(-1, -1, 2, 2).contiguous()

    def _vector(self, name: str) -> Tensor:
        part = self.split.novel if name in self.split.novel._row else self.split.base
        row = part.targets_of((name,))[0]
        shown = [label for label, has in zip(part.labels, row, strict=True) if has]
        vectors = [_direction("label", label) for label in shown]
        return torch.stack(vectors).sum(0) + 0.3 * _direction("image", name)


@pytest.fixture(scope="module")
def trainable(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """A split with images enough to train on."""
    return to_split(
        build_file(DEFINITION, Coco(laso_root(tmp_path_factory.mktemp("five"), per_label=5)))
    )


def laso_inputs(split: Split, name: str = "", shots: int = 1, count: int = 3) -> Inputs:
    settings = dict(find_method(name).check_settings) if name else {}

    def make() -> Method:
        return make_method(name, settings, None) if name else Mean()

    method, plain = make(), fake_inputs()
    return replace(
        plain,
        split=split,
        episodes=draw_episodes(LasoKShot(shots), split, "novel", count),
        count=count,
        selection=select_parts(split) if method.trains else None,
        embeddings=fake_embeddings(split),
        method=method,
        make_method=make,
        method_source=source_hash(name) if name else plain.method_source,
        plan=RunPlan(name, "laso", "fake", settings=settings) if name else None,
        features=plain.features.model_copy(update={"grid": (2, 2)}),
        open_source=lambda wanted, others, log: LasoFeatures(split),
    )


@pytest.mark.parametrize("name", method_names())
def test_every_method_runs_on_supports_of_any_size(
    name: str, trainable: Split, tmp_path: Path
) -> None:
    inputs = laso_inputs(trainable, name, shots=2)
    sizes = {len(episode.support) for episode in inputs.episodes.episodes}
    assert len(sizes) > 1
    assert 16 not in sizes
    folder = execute(inputs, tmp_path / "run")
    record, scores = read_record(folder), read_scores(folder / "scores.npz")
    assert record.status == "success"
    assert record.audit_status == "passed"
    assert scores.scores.shape == (3, 80, 16)
    assert (record.episodes.protocol, record.episodes.shots) == ("laso_k_shot-v1", 2)
    if inputs.method.trains:
        assert any("the split has no val label" in note for note in record.notes)
        assert record.selection_episodes == 0


def test_scores_and_answers_are_those_of_each_run(split: Split, tmp_path: Path) -> None:
    inputs = laso_inputs(split)
    folder = execute(inputs, tmp_path / "run")
    scores, answers = read_scores(folder / "scores.npz"), read_targets(folder / "targets.npz")
    source = LasoFeatures(split)
    for i, episode in enumerate(inputs.episodes.episodes):
        f = torch.nn.functional.normalize(source.pooled(episode.support), dim=1)
        Y = torch.tensor(split.novel.targets_of(episode.support), dtype=torch.float32)
        p = torch.nn.functional.normalize(Y.T @ f, dim=1)
        q = torch.nn.functional.normalize(source.pooled(episode.query), dim=1)
        np.testing.assert_allclose(scores.scores[i], (4 * q @ p.T).numpy(), atol=1e-5)
        assert tuple(answers.query[i]) == episode.query
        np.testing.assert_array_equal(answers.targets[i], split.novel.targets_of(episode.query))
    ap = read_record(folder).metrics["macro_ap"]
    assert ap.mean is not None
    assert ap.half_width is not None
    assert ap.mean > 0.3 > ap.half_width > 0


def test_the_query_is_stored_once(split: Split, tmp_path: Path) -> None:
    folder = execute(laso_inputs(split, count=3), tmp_path / "run")
    path = folder / "targets.npz"
    with np.load(path) as arrays:
        assert arrays["query"].shape == (1, 48)
        assert arrays["targets"].shape == (1, 48, 16)
    answers = read_targets(path)
    assert answers.targets.shape == (3, 48, 16)
    write_targets(tmp_path / "again.npz", answers)
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()
    targets = answers.targets.copy()
    targets[1, 0, 0] ^= 1
    changed = replace(answers, targets=targets)
    write_targets(tmp_path / "changed.npz", changed)
    np.testing.assert_array_equal(read_targets(tmp_path / "changed.npz").targets, targets)


def test_queries_are_scored_in_blocks(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = execute(laso_inputs(split), tmp_path / "whole")
    asked: list[int] = []
    pooled = LasoFeatures.pooled

    def counted(self: LasoFeatures, ids: Sequence[str]) -> Tensor:
        asked.append(len(ids))
        return pooled(self, ids)

    monkeypatch.setattr(evaluate_module, "BLOCK", 20)
    monkeypatch.setattr(LasoFeatures, "pooled", counted)
    blocks = execute(laso_inputs(split), tmp_path / "blocks")
    assert asked.count(20) >= 6
    assert max(asked) == 20
    a, b = (read_scores(folder / "scores.npz").scores for folder in (whole, blocks))
    np.testing.assert_allclose(a, b, atol=1e-6)


class Together(Mean):
    """Remembers how many query images it was given at once."""

    transductive = True
    asked: ClassVar[list[int]] = []

    def adapt(self, support: Support) -> Predictor:
        inner = super().adapt(support)

        def predictor(query: Images) -> Tensor:
            self.asked.append(len(query))
            return inner(query)

        return predictor


def test_a_transductive_method_gets_the_whole_query_or_an_error(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = replace(laso_inputs(split), method=Together(), make_method=Together)
    monkeypatch.setattr(evaluate_module, "BLOCK", 20)
    execute(inputs, tmp_path / "whole")
    assert set(Together.asked) == {48}
    assert read_record(tmp_path / "whole").method.transductive
    monkeypatch.setattr(evaluate_module, "MOST_TOGETHER", 20)
    with pytest.raises(BenchError, match="query is too large"):
        execute(inputs, tmp_path / "large")
    assert not (tmp_path / "large").exists()


def test_key_names_shots_and_runs(split: Split) -> None:
    keys = {
        run_key(identity(laso_inputs(split, shots=shots, count=count)))
        for shots, count in ((1, 3), (2, 3), (1, 2))
    }
    assert len(keys) == 3


def test_table(split: Split, tmp_path: Path) -> None:
    runs = [execute(laso_inputs(split, name), tmp_path / name) for name in ("protonet", "random")]
    other = execute(laso_inputs(split, "random", shots=2), tmp_path / "two")
    tables, _ = paper_tables([*runs, other])
    one, two = as_text(tables[:1]), as_text(tables[1:])
    assert "at least 1 support image per label and the same 48 query images, 3 episodes" in one
    assert "laso_k_shot-v1, K = 1" in " ".join(one.split())
    assert "at least 2 support images per label" in two
    assert "Means over episodes" in one


def test_a_balanced_query_is_scored_with_its_repeats(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k_shot, "DRAWS", 300)
    drawn = draw_episodes(LasoBalanced(1), split, "novel", 3)
    inputs = replace(laso_inputs(split, "protonet"), episodes=drawn)
    folder = execute(inputs, tmp_path / "run")
    record, scores = read_record(folder), read_scores(folder / "scores.npz")
    assert (record.status, record.audit_status) == ("success", "passed")
    assert (record.episodes.protocol, record.episodes.shots) == ("laso_k_shot_balanced-v1", 1)
    assert scores.scores.shape == (3, 300, 16)
    query = read_targets(folder / "targets.npz").query[0]
    assert tuple(query) == drawn.episodes[0].query
    for image in set(query[:50]):  # an image has one score, however often it is drawn
        rows = scores.scores[1, query == image]
        np.testing.assert_allclose(rows, rows[:1].repeat(len(rows), 0), atol=1e-6)
    assert run_key(identity(inputs)) != run_key(identity(laso_inputs(split, "protonet")))
    tables, _ = paper_tables([folder])
    shown = " ".join(as_text(tables).split())
    assert "the same 300 query images (drawn with repeats), 3 episodes" in shown


# -- plans ----------------------------------------------------------------------------------------


def plan(root: Path, **fields: object) -> RunPlan:
    given: dict[str, object] = {
        "method": "protonet", "split": SPLIT, "backbone": "scenes-small", "data_root": root,
        "protocol": LasoKShot(1), "available_only": True, "device": "cpu",
    }  # fmt: skip
    return RunPlan(**(given | fields))  # type: ignore[arg-type]


def test_a_plan_opens_the_runs_of_the_split(root: Path) -> None:
    inputs = open_inputs(plan(root))
    assert inputs.episodes == draw_episodes(LasoKShot(1), inputs.split, "novel")
    assert (inputs.count, inputs.own_episodes) == (10, True)
    assert open_inputs(plan(root, protocol=LasoKShot(2))).episodes.protocol.shots == 2
    assert open_inputs(plan(root, episodes=4)).count == 4


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"protocol": LasoKShot(9)}, "episodes with K = 9"),
        ({"episodes": 11}, "from 1 to 10"),
    ],
)
def test_plans_that_can_not_be(root: Path, fields: dict[str, object], reason: str) -> None:
    with pytest.raises(BenchError) as error:
        open_inputs(plan(root, **fields))
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("name", "chosen", "reason"),
    [
        ("laso_k_shot", {}, "add --shots K, any K from 1 on"),
        ("one_per_label", {"shots": 1}, "leave out --shots, or --protocol"),
        ("laso", {}, "laso_k_shot"),
        ("laso_k_shot", {"shots": 0}, "at least 1 for 'shots'"),
    ],
)
def test_protocols_that_can_not_be(name: str, chosen: dict[str, int], reason: str) -> None:
    with pytest.raises(BenchError) as error:
        find_protocol(name, **chosen)
    assert reason in str(error.value)


def test_a_file_says_how_its_episodes_were_drawn(root: Path, tmp_path: Path) -> None:
    split = open_inputs(plan(root)).split
    path = tmp_path / "runs.json"
    path.write_bytes(draw_episodes(LasoKShot(2), split, "novel", 4).format())
    alone = open_inputs(plan(root, protocol=None, episodes_file=path))
    assert (alone.episodes.protocol, alone.count) == (LasoKShot(2), 4)
    assert alone.own_episodes
    same = open_inputs(plan(root, protocol=LasoKShot(2), episodes_file=path))
    assert same.episodes == alone.episodes
    with pytest.raises(BenchError, match="episodes of another protocol"):
        open_inputs(plan(root, episodes_file=path))
    content = draw_episodes(LasoKShot(2), split, "novel", 2)
    turned = replace(content, episodes=content.episodes[::-1])
    path.write_bytes(turned.format())
    assert not open_inputs(plan(root, protocol=None, episodes_file=path)).own_episodes
