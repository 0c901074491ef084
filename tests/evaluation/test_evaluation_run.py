"""A run from inputs to record: parts, outputs, resuming, and methods that misbehave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.inputs import Inputs
from mlfsic_bench.evaluation.parts import endless_episodes, select_parts, val_episodes
from mlfsic_bench.evaluation.predict import CHUNK
from mlfsic_bench.evaluation.provenance import checkout_state
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.evaluation.scores import read_scores, read_targets
from mlfsic_bench.features.sources import Shape
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    Predictor,
    Support,
    TrainingPart,
)
from mlfsic_bench.methods.limited import LimitedFeatures
from tests.fakes.world import (
    CHANNELS,
    FakeFeatures,
    Mean,
    Trained,
    fake_inputs,
    fake_run,
    fake_split,
)


def test_scores_are_those_of_the_method(tmp_path: Path) -> None:
    inputs = fake_inputs(episodes=CHUNK + 3)
    folder = execute(inputs, tmp_path / "run")
    scores, answers = read_scores(folder / "scores.npz"), read_targets(folder / "targets.npz")
    episode = inputs.episodes.episodes[CHUNK + 1]
    part, source = inputs.split.novel, inputs.open_source((), (), print)
    support = Support(
        Images(episode.support, source),
        torch.tensor(part.targets_of(episode.support), dtype=torch.float32),
        part.labels,
        None,
        0,
    )
    expected = Mean().adapt(support)(Images(episode.query, source))
    np.testing.assert_allclose(scores.scores[CHUNK + 1], expected.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(answers.targets[CHUNK + 1], part.targets_of(episode.query))
    assert tuple(answers.query[CHUNK + 1]) == episode.query


class ByPlace(Method):
    """Cheats: says that the image at place i shows label i // 4, as a file of episodes lists it."""

    name = "by-place"

    def adapt(self, support: Support) -> Predictor:
        labels = len(support.labels)
        return lambda query: torch.eye(labels)[torch.arange(len(query)) // 4] - 0.5


def test_places_in_the_query_tell_nothing(tmp_path: Path) -> None:
    inputs = fake_inputs(ByPlace, episodes=40)
    folder = execute(inputs, tmp_path / "run")
    seen = inputs.episodes.episodes[0].query
    assert list(seen) != sorted(seen)
    chance = execute(fake_inputs(Shuffled, episodes=40), tmp_path / "chance")
    (cheat, random) = (read_record(f).metrics["macro_ap"].mean for f in (folder, chance))
    assert cheat is not None
    assert random is not None
    assert cheat < random + 0.1 < 0.7


class Shuffled(Method):
    """Scores by the last digits of an image's id: no better than chance."""

    name = "shuffled"

    def adapt(self, support: Support) -> Predictor:
        L = len(support.labels)
        return lambda query: torch.tensor(
            [[float((int(i[-6:]) * 7919 + 13 * c) % 101) for c in range(L)] for i in query.ids]
        )


def test_features_of_other_images_are_refused() -> None:
    opened: list[str] = []

    def opener(ids: Sequence[str]) -> FakeFeatures:
        opened.extend(ids)
        return FakeFeatures(split)

    split = fake_split()
    base, novel = split.base.image_ids, split.novel.image_ids
    cpu = torch.device("cpu")
    shape = Shape(CHANNELS, (1, 1), CHANNELS, "mean")
    source = LimitedFeatures.deferred(shape, cpu, base[:3], base[3:], opener)
    assert source.pooled(base[:2]).shape == (2, CHANNELS)
    assert set(opened) == set(base[:3])
    with pytest.raises(BenchError, match="was not given"):
        source.pooled(novel[:1])
    assert source.pooled(base[3:5]).shape == (2, CHANNELS)
    assert not set(opened) & set(novel)


def test_episodes_of_another_origin_are_noted(tmp_path: Path) -> None:
    own = execute(fake_inputs(episodes=3), tmp_path / "own")
    foreign = replace(fake_inputs(episodes=3), own_episodes=False)
    other = execute(foreign, tmp_path / "other")
    assert not any("--episodes-file" in note for note in read_record(own).notes)
    assert any("--episodes-file" in note for note in read_record(other).notes)


def test_done_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    lines: list[str] = []
    execute(fake_inputs(episodes=3), folder, lines.append)
    assert "is done already" in lines[0]
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_damaged_scores_are_made_again(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    whole = (folder / "scores.npz").read_bytes()
    (folder / "scores.npz").write_bytes(whole[:-1])
    assert (fake_run(folder, episodes=3) / "scores.npz").read_bytes() == whole


def test_damaged_chunk_is_scored_again(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    whole = (folder / "scores.npz").read_bytes()
    (folder / "scores.npz").unlink()
    (folder / "parts").mkdir()
    (folder / "parts" / "00000.npz").write_bytes(b"half a file")
    assert (fake_run(folder, episodes=3) / "scores.npz").read_bytes() == whole


def test_another_run_in_the_folder(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    with pytest.raises(BenchError, match=r"holds another run(.|\n)*seed: 0 -> 1"):
        fake_run(folder, episodes=3, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(BenchError, match="not a run"):
        fake_run(tmp_path / "mine", episodes=3)
    assert [p.name for p in (tmp_path / "mine").iterdir() if p.name[0] != "."] == ["thesis.tex"]


def test_state_of_another_run(tmp_path: Path) -> None:
    one = fake_run(tmp_path / "one", Trained, episodes=3)
    two = fake_run(tmp_path / "two", Trained, episodes=3, seed=1)
    (two / "scores.npz").unlink()
    (two / "method.pt").write_bytes((one / "method.pt").read_bytes())
    with pytest.raises(BenchError, match="belongs to another run"):
        fake_run(two, Trained, episodes=3, seed=1)
    assert read_record(two).status == "error"


def test_only_images_that_are_needed_are_asked_for(tmp_path: Path) -> None:
    asked: set[str] = set()
    fake_run(tmp_path / "run", episodes=3, asked=asked)
    assert {name.partition("/")[0] for name in asked} == {"novel"}


def test_training_seed_changes_the_training_episodes() -> None:
    split = fake_split()
    one = [endless_episodes(split.base, split.hash, 0)(i) for i in (0, 40, 3)]
    again = [endless_episodes(split.base, split.hash, 0)(i) for i in (0, 40, 3)]
    other = [endless_episodes(split.base, split.hash, 1)(i) for i in (0, 40, 3)]
    assert one == again
    assert one != other


def test_labels_with_small_pools_sit_out_of_training() -> None:
    whole = fake_split()
    targets = whole.base.targets.copy()
    keep = ~targets[:, 1] | (np.cumsum(targets[:, 1]) <= 3)
    part = type(whole.base)(
        whole.base.labels,
        tuple(i for i, k in zip(whole.base.image_ids, keep, strict=True) if k),
        targets[keep],
    )
    whole.parts["base"] = part
    selection = select_parts(whole)
    assert selection.excluded_labels == {"base": ["bee"]}
    assert selection.base.labels == ("ant", "cat", "dog")
    assert selection.val is whole.val
    assert len(selection.episodes) == 100


def test_excluded_labels_is_recorded_and_a_starved_base_refused(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", Trained, split=fake_split(val=2), episodes=3)
    record = read_record(folder)
    assert record.excluded_labels["val"] == ["elk", "fox", "gnu"]
    assert any("nothing is selected on val" in note for note in record.notes)
    with pytest.raises(BenchError, match="no base label"):
        fake_inputs(Trained, split=fake_split(base=2), episodes=3)


def test_first_episodes_are_the_same_as_among_all(tmp_path: Path) -> None:
    few = read_scores(fake_run(tmp_path / "few", episodes=30, count=7) / "scores.npz")
    whole = read_scores(fake_run(tmp_path / "all", episodes=30) / "scores.npz")
    np.testing.assert_allclose(few.scores, whole.scores[:7], rtol=1e-5)
    assert (few.meta.episodes.count, few.meta.episodes.total) == (7, 30)


class Bad(Mean):
    """Misbehaves in episode 2 in the way its subclass says."""

    name = "fake-bad"

    def adapt(self, support: Support) -> Predictor:
        good = super().adapt(support)
        return lambda query: self.spoil(good(query))

    def spoil(self, scores: Tensor) -> Tensor | None:
        raise NotImplementedError


class GivesNan(Bad):
    def spoil(self, scores: Tensor) -> Tensor | None:
        scores[0, 0] = torch.nan
        return scores


class GivesHalf(Bad):
    def spoil(self, scores: Tensor) -> Tensor | None:
        return scores[: len(scores) // 2]


class GivesInts(Bad):
    def spoil(self, scores: Tensor) -> Tensor | None:
        return scores.long()


class GivesNothing(Bad):
    def spoil(self, scores: Tensor) -> Tensor | None:
        return None


class Raises(Bad):
    def spoil(self, scores: Tensor) -> Tensor | None:
        raise KeyError("no such key")


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (GivesNan, "1 of 36 are NaN"),
        (GivesHalf, r"torch.float32 with shape \[6, 3\]"),
        (GivesInts, "torch.int64"),
        (GivesNothing, "NoneType"),
        (Raises, "KeyError(.|\n)*test_evaluation_run.py"),
    ],
)
def test_wrong_scores(tmp_path: Path, method: type[Method], reason: str) -> None:
    with pytest.raises(BenchError, match=f"fake-bad(.|\n)*episode 0(.|\n)*{reason}"):
        fake_run(tmp_path / "run", method, episodes=3)
    record = read_record(tmp_path / "run")
    assert record.status == "error"
    assert record.failure is not None
    assert record.failure.stage == "evaluate"
    assert not (tmp_path / "run" / "scores.npz").exists()


class FailsLater(Mean):
    name = "fake-later"

    def adapt(self, support: Support) -> Predictor:
        if support.images.ids == fake_inputs().episodes.episodes[23].support:
            raise ZeroDivisionError("in the middle")
        return super().adapt(support)


def test_the_failing_episode_is_named_and_work_is_kept(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"to episode 23(.|\n)*in the middle"):
        fake_run(tmp_path / "run", FailsLater)
    assert [p.name for p in (tmp_path / "run" / "parts").glob("0*")] == ["00000.npz"]


class FitFails(Trained):
    def fit(self, *parts: object) -> None:
        raise RuntimeError("no convergence")


class OddState(Trained):
    def state(self) -> dict[str, Tensor]:
        return {"weight": [1.0]}  # type: ignore[dict-item]


class OneShort(Mean):
    def adapt_all(self, supports: Sequence[Support]) -> list[Predictor]:
        return super().adapt_all(supports)[1:]


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (FitFails, "while fitting(.|\n)*no convergence"),
        (OddState, "state that can't be saved"),
        (OneShort, "a list of 3 predictors"),
    ],
)
def test_wrong_methods(tmp_path: Path, method: type[Method], reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        fake_run(tmp_path / "run", method, episodes=3)


class Decides(Mean):
    """Has decisions of its own."""

    def adapt(self, support: Support) -> Predictor:
        good = super().adapt(support)

        class Both:
            def __call__(self, query: Images) -> Tensor:
                return good(query)

            def decide(self, query: Images) -> Tensor:
                return good(query) > 2

        return Both()


def test_decisions_are_kept(tmp_path: Path) -> None:
    scores = read_scores(fake_run(tmp_path / "run", Decides, episodes=3) / "scores.npz")
    assert scores.decisions is not None
    np.testing.assert_array_equal(scores.decisions, scores.scores > 2)


def test_record_with_an_unknown_key(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    value = json.loads((folder / "record.json").read_text())
    value["stagez"] = []
    (folder / "record.json").write_text(json.dumps(value))
    with pytest.raises(BenchError, match="did you mean 'stages'"):
        read_record(folder)


def test_provenance_outside_a_checkout(tmp_path: Path) -> None:
    assert checkout_state(tmp_path) == (None, None)


def test_a_record_of_an_earlier_version_calls_excluded_labels_sitting_out(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    path = folder / "record.json"
    value = json.loads(path.read_text())
    del value["excluded_labels"]
    path.write_text(json.dumps({**value, "sitting_out": {"base": ["bee"]}}))
    assert read_record(folder).excluded_labels == {"base": ["bee"]}


def trial(inputs: Inputs) -> Inputs:
    """The same run on the val episodes."""
    assert inputs.selection is not None
    part, episodes = val_episodes(inputs.split, inputs.selection)
    return replace(inputs, val=part, episodes=episodes, count=len(episodes.episodes))


def test_a_trial_scores_the_val_episodes_that_training_selects_on(tmp_path: Path) -> None:
    inputs = trial(fake_inputs(Trained, embeddings=True, episodes=4))
    execute(inputs, tmp_path)
    record, targets = read_record(tmp_path), read_targets(tmp_path / "targets.npz")
    assert inputs.selection is not None
    assert record.episodes.part == "val"
    assert record.episodes.count == len(inputs.selection.episodes)
    assert targets.meta.labels == list(inputs.selection.val.labels)  # type: ignore[union-attr]
    assert targets.query[0].tolist() == list(inputs.selection.episodes[0].query)
    assert any("a trial on the val episodes" in note for note in record.notes)


def test_a_run_takes_over_the_very_fit_of_its_trial_and_no_other(tmp_path: Path) -> None:
    fits: list[int] = []

    class Counted(Trained):
        def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
            fits.append(1)
            super().fit(base, val, context)

    whole = fake_inputs(Counted, embeddings=True, episodes=4)
    execute(trial(whole), tmp_path / "trial")
    said: list[str] = []
    execute(whole, tmp_path / "run", said.append, fitted=tmp_path / "trial")
    assert len(fits) == 1
    assert any("the same fit" in line for line in said)
    execute(whole, tmp_path / "alone")
    assert len(fits) == 2
    runs = [read_scores(tmp_path / name / "scores.npz").scores for name in ("run", "alone")]
    np.testing.assert_array_equal(*runs)
    execute(replace(whole, seed=1), tmp_path / "other", fitted=tmp_path / "trial")
    assert len(fits) == 3
