"""The zero-shot row: cosines of images and texts in one space."""

import dataclasses

import numpy as np
import pytest
import torch
from mlfsic_baselines.text.zero_shot import ZeroShot

from mlfsic_bench.embeddings.label_embeddings import make_label_embeddings
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.inputs import open_inputs
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.features.backbones.registry import build_backbone
from mlfsic_bench.methods.contract import Images
from mlfsic_bench.splits.resolve import resolve_split
from tests.fakes.source import FakeSource, fake_support

SPLIT = "scenes-12-6-6-v1"


class Directions:
    """A text side: each text has a direction of its own, keyed by its bytes."""

    hash = "d" * 64

    def encode(self, texts):
        rows = [np.random.default_rng(list(text.encode())).standard_normal(128) for text in texts]
        return np.array(rows, np.float32)


def with_text_side():
    network = build_backbone("scenes-small")
    network.text = Directions()
    return network


def test_scores_are_cosines_and_decisions_more_than_an_even_share():
    source = FakeSource()
    support = fake_support(source, 4, d_w=6)
    predictor = ZeroShot(ZeroShot.Params(scale=7)).adapt(support)
    query = Images(("a", "b", "c"), source)
    scores, decisions = predictor(query), predictor.decide(query)
    for i, image in enumerate(query.pooled().numpy()):
        row = []
        for word in support.embeddings.numpy():
            row.append(7 * float(image @ word) / np.sqrt((image**2).sum() * (word**2).sum()))
        np.testing.assert_allclose(scores[i], row, rtol=1e-5)
        shares = [np.exp(one) / sum(np.exp(row)) for one in row]
        assert decisions[i].tolist() == [share > 1 / 4 for share in shares]


def test_the_support_is_not_looked_at():
    source = FakeSource()
    support = fake_support(source, 4, d_w=6)
    other = dataclasses.replace(support, targets=1 - support.targets)
    query = Images(("a", "b"), source)
    same = [ZeroShot().adapt(one)(query) for one in (support, other)]
    torch.testing.assert_close(*same)


def test_embeddings_of_another_width_are_refused():
    with pytest.raises(BenchError, match="space of the backbone"):
        ZeroShot().adapt(fake_support(FakeSource(), 4, d_w=5))


def test_a_run_takes_the_embeddings_of_the_backbones_text_side(tmp_path):
    plan = RunPlan("zero-shot", SPLIT, with_text_side(), episodes=2, out=tmp_path / "run")
    record = read_record(run_method(plan))
    assert record.words is not None
    assert record.words.space == "scenes-small"
    assert record.words.templates == ["a photo of a {}."]
    assert record.audit_status == "passed"
    scores = read_scores(tmp_path / "run" / "scores.npz")
    assert scores.decisions is not None
    plain = dataclasses.replace(plan, templates=("{}",), out=tmp_path / "plain")
    assert read_record(run_method(plain)).key != record.key


def test_a_backbone_without_a_text_side_is_one_clear_error():
    with pytest.raises(BenchError, match="scenes-small has no text side"):
        open_inputs(RunPlan("zero-shot", SPLIT, "scenes-small"))


def test_a_file_of_text_vectors_will_do_where_its_width_fits(tmp_path):
    split = resolve_split(SPLIT, data_root=None)
    labels = [label for part in split.parts.values() for label in part.labels]
    given = make_label_embeddings(labels, Directions().encode(labels), "clip.txt")
    plan = RunPlan("zero-shot", SPLIT, "scenes-small", embeddings=given, episodes=2)
    record = read_record(run_method(dataclasses.replace(plan, out=tmp_path / "run")))
    assert record.words is not None
    assert record.words.space is None


def test_other_methods_are_given_the_text_side_when_asked(tmp_path):
    from pathlib import Path

    plan = RunPlan("word-guided-attention", SPLIT, with_text_side(), embeddings=Path("backbone"))
    opened = open_inputs(plan)
    assert opened.embeddings is not None
    assert opened.embeddings.dimension == 128


def test_templates_without_an_encoder_are_refused():
    with pytest.raises(BenchError, match="--template says"):
        open_inputs(RunPlan("protonet", SPLIT, "scenes-small", templates=("a {}",)))
