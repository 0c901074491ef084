"""What a run gives a plug-in, what it keeps from it, and whom it blames."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import select_parts
from mlfsic_bench.evaluation.predict import adapt_all
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import execute, notes_on_scores, share_tied
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.methods.calls import MethodFailedError, method_call
from mlfsic_bench.methods.contract import Images
from mlfsic_bench.methods.limited import LimitedFeatures, limited_to
from mlfsic_bench.text import exception_text
from tests.fakes.world import FakeFeatures, Mean, Trained, fake_inputs, fake_run, fake_split
from tests.plugins_corpus.answers import DecidesInPlace, OsExit
from tests.plugins_corpus.changes import CHANGES


class Words(Mean):
    """Says what it is given."""

    uses_embeddings = True
    given: list = []  # noqa: RUF012

    def adapt(self, support):
        self.given.append(support.embeddings)
        return super().adapt(support)


class Undeclared(Words):
    uses_embeddings = False
    given: list = []  # noqa: RUF012


def test_c2_label_vectors_go_to_methods_that_declare_them(tmp_path: Path) -> None:
    declared = read_record(fake_run(tmp_path / "a", Words, episodes=2, embeddings=True))
    undeclared = read_record(fake_run(tmp_path / "b", Undeclared, episodes=2, embeddings=True))
    assert all(torch.is_tensor(words) for words in Words.given)
    assert Undeclared.given == [None, None]
    assert (declared.method.uses_words, undeclared.method.uses_words) == (True, False)
    assert any("are not given to the method" in note for note in undeclared.notes)
    assert not any("are not given" in note for note in declared.notes)
    assert undeclared.identity["words"] == declared.identity["words"]


def test_c2_training_parts_have_words_only_where_declared(tmp_path: Path) -> None:
    seen = []

    class Looks(Trained):
        def fit(self, base, val, context):
            seen.extend([base.embeddings, val.embeddings, base.episode(0).support.embeddings])

    fake_run(tmp_path / "run", Looks, episodes=2, embeddings=True)
    assert seen == [None, None, None]


class Tunes(Mean):
    """Takes a gradient step on its prototypes."""

    def adapt(self, support):
        with torch.enable_grad():
            p = support.images.pooled().mean(0).clone().requires_grad_()
            p.square().sum().backward()
        return super().adapt(support)


class DeclaredTunes(Tunes):
    adapts_by_gradient = True


def test_c2_gradients_are_for_methods_that_declare_them(tmp_path: Path) -> None:
    fake_run(tmp_path / "declared", DeclaredTunes, episodes=2)
    with pytest.raises(BenchError, match="adapts_by_gradient = True"):
        fake_run(tmp_path / "undeclared", Tunes, episodes=2)


class AdaptsThere(Mean):
    def adapt(self, support):
        os.chdir(os.sep)
        return super().adapt(support)


class FitsThere(Trained):
    def fit(self, base, val, context):
        os.chdir(os.sep)
        super().fit(base, val, context)


@pytest.mark.parametrize("method", [AdaptsThere, FitsThere])
def test_c5_outputs_lie_where_they_were_named(method, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    execute(fake_inputs(method, episodes=2), Path("run"))
    assert Path.cwd() == tmp_path
    assert (tmp_path / "run" / "scores.npz").is_file()
    assert (tmp_path / "run" / "checkpoints").is_dir() == method.trains


@pytest.mark.parametrize("what", ["torch's default dtype", "numpy's error handling"])
def test_c5_the_next_method_is_not_blamed(what, tmp_path: Path) -> None:
    class Pollutes(Mean):
        def adapt(self, support):
            CHANGES[what]()
            return super().adapt(support)

    clean = read_scores(fake_run(tmp_path / "a", episodes=3) / "scores.npz").scores
    fake_run(tmp_path / "b", Pollutes, episodes=3)
    after = read_scores(fake_run(tmp_path / "c", episodes=3) / "scores.npz").scores
    np.testing.assert_allclose(after, clean, rtol=1e-6)


def test_c3_what_is_stored_is_what_was_scored(tmp_path: Path) -> None:
    from tests.fakes.plugins.minimal import Minimal

    plain = read_scores(fake_run(tmp_path / "a", Minimal, episodes=3) / "scores.npz")
    spoilt = read_scores(fake_run(tmp_path / "b", DecidesInPlace, episodes=3) / "scores.npz")
    assert spoilt.decisions is not None
    np.testing.assert_allclose(spoilt.scores, plain.scores, rtol=1e-6)


def test_c6_a_method_can_not_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(MethodFailedError, match=r"episode 0(.|\n)*os\._exit\(0\) was called"):
        fake_run(tmp_path / "run", OsExit, episodes=2)
    assert read_record(tmp_path / "run").status == "error"


def test_c7_scores_that_look_wrong_are_noted(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(3, 8, 2)).astype(np.float32)
    assert notes_on_scores(logits, None) == []
    assert "probabilities" in notes_on_scores(1 / (1 + np.exp(-logits)), None)[0]
    assert notes_on_scores(1 / (1 + np.exp(-logits)), logits > 0) == []
    assert "every label is predicted" in notes_on_scores(logits + 100, None)[0]
    (tied,) = notes_on_scores(np.sign(logits), None)
    assert tied.startswith("100 % of scores are tied")
    assert share_tied(np.array([[[0.0], [1.0], [0.0], [2.0]]], np.float32)) == pytest.approx(0.5)

    class Probabilities(Mean):
        def adapt(self, support):
            good = super().adapt(support)
            return lambda query: good(query).sigmoid()

    record = read_record(fake_run(tmp_path / "run", Probabilities, episodes=3))
    assert any("look like probabilities" in note for note in record.notes)


def test_b2_our_own_errors_are_not_the_plugins(tmp_path: Path) -> None:
    class Locked(FakeFeatures):
        def pooled(self, ids):
            raise PermissionError(13, "Permission denied", "d/c")

    split = fake_split()
    inputs = replace(fake_inputs(episodes=2), open_source=lambda *a: LimitedFeatures(Locked(split)))
    with pytest.raises(BenchError, match="can't be read or made") as caught:
        execute(inputs, tmp_path / "run")
    assert "Permission denied" in caught.value.found
    assert "correct the method" not in str(caught.value)


def test_b2_a_log_that_breaks_is_not_the_plugins(tmp_path: Path) -> None:
    def broken(line: str) -> None:
        if line.startswith("step"):
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        execute(fake_inputs(Trained, episodes=2), tmp_path / "run", broken)


def test_b2_a_cache_without_permission(tmp_path: Path, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "d/c")

    monkeypatch.setattr("mlfsic_bench.features.extract.extract", refuse)
    args = ["run", "protonet", "--split", "scenes-12-6-6-v1", "--backbone", "scenes-small"]
    args += ["--episodes", "1", "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "c")]
    with pytest.raises(BenchError, match="it is not the method that is wrong"):
        CliRunner().invoke(cli, args, catch_exceptions=False)


def test_a_source_serves_the_images_at_hand() -> None:
    split = fake_split()
    source = LimitedFeatures(FakeFeatures(split))
    ids = split.novel.image_ids
    few = Images(ids[:2], source)
    with limited_to(few, and_ids=ids[4:5]):
        assert source.pooled([ids[1], ids[4]]).shape[0] == 2
        with pytest.raises(BenchError, match="that it was not given"):
            source.local(ids[2:3])
        with limited_to(Images(ids[6:7], source)), pytest.raises(BenchError, match="not given"):
            few.pooled()
        assert few.pooled().shape[0] == 2
    assert source.pooled(ids[2:3]).shape[0] == 1


def test_features_are_plain_tensors_whatever_the_mode() -> None:
    source = LimitedFeatures(FakeFeatures(fake_split()))
    with torch.inference_mode():
        features = source.pooled(source.source.split.novel.image_ids[:2])
        assert not features.is_inference()


def test_d2_one_val_label_is_nothing_to_select_on(tmp_path: Path) -> None:
    whole = fake_split()
    part = whole.val
    first = part.targets[:, 0]
    whole.parts["val"] = type(part)(
        part.labels[:1],
        tuple(i for i, keep in zip(part.image_ids, first, strict=True) if keep),
        part.targets[first][:, :1],
    )
    selection = select_parts(whole)
    assert selection.val is None
    assert selection.episodes == ()
    record = read_record(fake_run(tmp_path / "run", Trained, split=whole, episodes=2))
    assert any("only one val label" in n and "last weights" in n for n in record.notes)


def test_an_exception_says_little_and_harms_nothing() -> None:
    class Lies(BaseException):
        def __str__(self):
            raise SystemExit

    assert exception_text(Lies()).startswith("Lies: (its text can't be had")
    assert len(exception_text(ValueError("x" * 10**7))) <= 1000
    assert exception_text(ValueError("\x1b[2J\ud800")) == "ValueError: �[2J�"


class FeignedError(BenchError):
    """A class of a plug-in, which is not ours."""


def test_only_our_own_errors_pass() -> None:
    with pytest.raises(MethodFailedError, match="FeignedError"), method_call("m", "at all"):
        raise FeignedError("w", expected="e", found="f", remedy="r")
    with pytest.raises(BenchError, match=r"^w"), method_call("m", "while fitting"):
        raise BenchError("w", expected="e", found="f", remedy="r")


def test_a_predictor_decides_only_where_it_did(tmp_path: Path) -> None:
    inputs = fake_inputs(episodes=2)
    source = inputs.open_source((), (), print)
    view = inputs.view(inputs.split.novel, "novel", source)
    supports = [view.support(i, e) for i, e in enumerate(inputs.episodes.episodes[:2])]
    (predictor, _) = adapt_all(Mean(), supports, 0)
    assert getattr(predictor, "decide", None) is None
    assert not predictor(view.query(inputs.episodes.episodes[0])).requires_grad
