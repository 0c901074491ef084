"""Parameters of word-guided attention, its presets and errors, and the page on its model."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Support
from mlfsic_bench.methods.word_guided.method import WordGuidedAttentionMethod
from mlfsic_bench.methods.word_guided.params import PRESETS, WordGuidedParams
from mlfsic_bench.training.history import read_history
from tests.fakes.source import FakeSource, fake_support, learnable_part
from tests.methods_wga.tiny_methods import FORMS, TINY, tiny, untrained


def test_what_cannot_be_done_is_one_clear_error():
    source = FakeSource()
    support = fake_support(source)
    with pytest.raises(BenchError, match="has not been trained"):
        tiny().adapt(support)
    wordless = Support(support.images, support.targets, support.labels, None, 0)
    with pytest.raises(BenchError, match="needs label embeddings"):
        untrained().adapt(wordless)
    with pytest.raises(BenchError, match="number of channels"):
        untrained().adapt(fake_support(FakeSource(7)))
    with pytest.raises(BenchError, match="does not fit"):
        tiny().load_state({"x": torch.zeros(1)})
    with pytest.raises(BenchError, match="does not fit"):
        tiny(d_j=8, n_a=2).load_state(untrained().state())


@pytest.mark.parametrize(
    "settings",
    [
        {"n_a": 13},
        {"residual": True, "n_a": 5},
        {"start": "identity"},
        {"start": "identity", "residual": True, "layer_norm": True},
        {"start": "identity", "residual": True, "aggregation": "per_image"},
        {"start": "identity", "residual": True, "output_projection": True, "n_a": 5},
        {"start": "identity", "prototype": "simple"},
        {"prototype": "simple", "aggregation": "per_image"},
        {"heads": 8},
        {"dropout": 1.0},
    ],
)
def test_parameters_that_do_not_go_together_are_refused(settings):
    with pytest.raises(ValidationError):
        WordGuidedParams(**{**TINY, **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"prototype": "simple", "n_a": 4},
        {"prototype": "simple_local", "layer_norm": True},
        {"prototype": "attention_global", "projections": "separate"},
        {"fine_tune_lr": 1e-3},
        {"fine_tune": "all"},
    ],
)
def test_a_parameter_without_effect_is_refused(settings):
    with pytest.raises(ValidationError, match="no effect"):
        WordGuidedParams(**settings)


def test_presets_are_valid_and_paper_is_the_default():
    assert WordGuidedParams(**PRESETS["paper"]) == WordGuidedParams()
    tomm = WordGuidedParams(**PRESETS["authors-tomm"])
    assert (tomm.lr, tomm.episodes_per_step, tomm.score) == (1e-4, 4, "margin_distance")


@pytest.mark.parametrize(
    ("epochs", "asked", "warmup"),
    [(200, 10, 10), (11, 10, 10), (10, 10, 5), (3, 10, 1), (1, 10, 0)],
)
def test_a_warm_up_longer_than_the_training_is_shortened(epochs, asked, warmup):
    assert WordGuidedParams(epochs=epochs, warmup_epochs=asked).warmup == warmup


def test_one_epoch_needs_no_other_setting(tmp_path):
    method = WordGuidedAttentionMethod(
        WordGuidedParams(d_j=12, d_mlp=10, n_a=3, epochs=1, steps_per_epoch=3)
    )
    method.fit(learnable_part("base"), None, FitContext(0, tmp_path))
    (row,) = read_history(tmp_path)
    assert row["lr"] == method.params.lr


def test_the_example_with_given_weights_in_the_docs():
    path = Path(__file__).parents[2] / "docs" / "model.md"
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert tried >= 10
    assert failed == 0


@pytest.mark.parametrize("form", FORMS)
def test_the_docs_name_every_tensor(form):
    text = (Path(__file__).parents[2] / "docs" / "model.md").read_text().partition("## Weights")[2]
    for name in untrained(**FORMS[form]).model.state_dict():
        assert f"`{name.partition('.')[0]}`" in text, name
