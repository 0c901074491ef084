"""The front itself: what the import loads, what is offered, and the error for each wrong type."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mlfsic_bench as mb
from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.splits.resolve import resolve_split
from tests.api.typed_example import example

SPLIT = "scenes-12-6-6-v1"
FUNCTIONS = [name for name in mb.__all__ if inspect.isfunction(getattr(mb, name))]


@pytest.fixture(scope="module")
def split() -> mb.LoadedSplit:
    return mb.load_split(SPLIT)


def test_the_import_loads_nothing_of_others() -> None:
    code = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "import mlfsic_bench\n"
        "dir(mlfsic_bench)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    command = [sys.executable, "-c", code]
    loaded = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    own = {name for name in loaded if name.partition(".")[0] == "mlfsic_bench"}
    assert own == {"mlfsic_bench", "mlfsic_bench.version"}
    tops = {name.partition(".")[0] for name in set(loaded) - own}
    assert tops <= {"typing", "_typing", "collections", "importlib"}


def test_every_name_is_there_and_explained() -> None:
    assert set(mb.__all__) <= set(dir(mb))
    assert sorted(FUNCTIONS) == FUNCTIONS
    for name in mb.__all__:
        value = getattr(mb, name)
        if name != "__version__":
            assert value.__doc__, name
    # Their examples are run as doctests.
    assert [name for name in FUNCTIONS if ">>>" not in (getattr(mb, name).__doc__ or "")] == []
    with pytest.raises(AttributeError, match="no attribute 'load_splits'"):
        mb.load_splits  # noqa: B018


def test_the_typed_example_runs(tmp_path: Path) -> None:
    assert example(str(tmp_path)).report.against == "protonet"


def test_metrics_are_functions_on_arrays() -> None:
    assert set(mb.metrics.__all__) <= set(dir(mb.metrics))
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(5, 8, 3)), rng.random((5, 8, 3)) < 0.4
    values = mb.metrics.episode_metrics(scores, targets)
    assert set(values) == set(mb.metrics.METRICS)
    assert {value.shape for value in values.values()} == {(5,)}
    with pytest.raises(AttributeError):
        mb.metrics.accuracy  # noqa: B018


def wrong() -> dict[str, tuple[Callable[[mb.LoadedSplit], Any], str, str]]:
    """Name of a mistake -> what makes it, what the error says, what it proposes."""
    ids = ["a", "b"]
    array = np.zeros((200, 24, 6))

    def run(split: mb.LoadedSplit, **options: Any) -> Any:
        chosen = {"split": split, "backbone": "scenes-small", "episodes": 2, **options}
        return mb.evaluate("protonet", **chosen)

    def written(split: mb.LoadedSplit, scores: Any = array, **options: Any) -> Any:
        own: dict[str, Any] = {
            "split": split,
            "episodes": mb.load_episodes(split),
            "card": mb.MethodCard("mine", trains=False),
        }
        return mb.write_scores(Path("never.npz"), scores, **{**own, **options})

    def both(split: mb.LoadedSplit) -> Any:
        features = mb.load_features(split, "scenes-small")
        return mb.iter_episodes(split, mb.load_episodes(split), features, transform=str)

    def other(split: mb.LoadedSplit) -> Any:
        return mb.load_episodes(mb.load_split("voc-8-6-6-v1"))

    return {
        "ids for a split": (lambda s: mb.load_episodes(ids), "no split", "load_split"),
        "ids to load": (lambda s: mb.load_split(ids), "by its id or its file", "passed on"),
        "split twice": (lambda s: mb.load_split(s), "by its id or its file", "passed on"),
        "unknown split": (lambda s: mb.load_split("scenes-12-6-6"), "unknown split", SPLIT),
        "a network": (lambda s: run(s, backbone=torch.nn.Flatten()), "no backbone", "as_backbone"),
        "a network for features": (
            lambda s: mb.load_features(s, torch.nn.Flatten()),  # type: ignore[arg-type]
            "no backbone",
            "as_backbone",
        ),
        "features of no split": (
            lambda s: mb.load_features(SPLIT, "scenes-small"),
            "no split",
            "load",
        ),
        "features of a text": (
            lambda s: mb.load_features(s, "scenes-small").pooled("scene"),
            "image ids",
            "ids",
        ),
        "ids for episodes": (lambda s: mb.iter_episodes(s, ids), "no episodes", "load_episodes"),
        "other episodes": (lambda s: mb.iter_episodes(s, other(s)), "another split", "load"),
        "both": (both, "features or as images", "one of the two"),
        "no backbone": (
            lambda s: run(s, backbone=None),
            "what makes the features",
            "name a backbone",
        ),
        "tensor as features": (
            lambda s: run(s, features=torch.ones(2)),
            "no features",
            "load_features",
        ),
        "features and backbone": (
            lambda s: run(s, features=mb.load_features(s, "scenes-small")),
            "can't be used",
            "load",
        ),
        "ids as episodes": (lambda s: run(s, episodes=ids), "no episodes", "load_episodes"),
        "val episodes": (
            lambda s: run(s, episodes=mb.load_episodes(s, part="val")),
            "novel",
            "load_episodes",
        ),
        "seed twice": (lambda s: run(s, seeds=[0, 0]), "training seeds", "correct"),
        "seed of text": (lambda s: run(s, seeds="0"), "training seeds", "correct"),
        "no seed": (lambda s: run(s, seeds=[]), "no seed to run", "name a seed"),
        "no method": (lambda s: mb.evaluate([], split=s), "makes the features", "backbone"),
        "method of a number": (
            lambda s: mb.evaluate(3, split=s, backbone="scenes-small"),
            "what was given is not a method",
            "Method",
        ),
        "options of an open split": (
            lambda s: run(s, min_pool=3),
            "open already",
            "name them there",
        ),
        "no results": (lambda s: mb.load_results(3), "no results", "folders"),
        "nothing to compare": (lambda s: mb.compare([]), "nothing to compare", "name"),
        "no such folder": (lambda s: mb.load_results("nowhere"), "nothing at nowhere", "check"),
        "shape": (lambda s: written(s, array[:, :, 1:]), r"can't be written", "in the order"),
        "too many": (
            lambda s: written(s, np.zeros((201, 24, 6))),
            "can't be written",
            "in the order",
        ),
        "not finite": (lambda s: written(s, array + 1e300), "can't be written", "in the order"),
        "text": (lambda s: written(s, "scores"), "can't be written", "in the order"),
        "complex": (lambda s: written(s, array * 1j), "can't be written", "in the order"),
        "masked": (lambda s: written(s, np.ma.array(array)), "can't be written", "in the order"),
        "masked each": (
            lambda s: written(s, [np.ma.array(one) for one in array]),
            "can't be written",
            "in the order",
        ),
        "numbers in text": (
            lambda s: written(s, array.astype(str)),
            "can't be written",
            "in the order",
        ),
        "a list of settings": (lambda s: run(s, settings=[1]), "no settings", "methods show"),
        "settings by number": (lambda s: run(s, settings={1: 2}), "no settings", "methods show"),
        "a number for embeddings": (lambda s: run(s, embeddings=5), "no label emb", "embeddings"),
        "a network alone": (
            lambda s: run(s, backbone=torch.nn.Conv2d(3, 4, 3)),
            "Conv2d is no backbone",
            "transform",
        ),
        "a tensor for a backbone": (
            lambda s: run(s, backbone=torch.ones(2)),
            "Tensor is no backbone",
            "transform",
        ),
        "a pair without an input": (
            lambda s: run(s, backbone=(torch.nn.Conv2d(3, 4, 3), torch.nn.Identity())),
            "gives no input",
            "resize",
        ),
        "decisions": (
            lambda s: written(s, decisions=array + 0.5),
            "can't be written",
            "in the order",
        ),
        "a name for a card": (lambda s: written(s, card="mine"), "which method", "MethodCard"),
        "a bad card": (
            lambda s: written(s, card=mb.MethodCard("", trains=False)),
            "description of these scores",
            "MethodCard",
        ),
    }


@pytest.mark.parametrize("case", list(wrong()))
def test_a_wrong_value_is_one_clear_error(case: str, split: mb.LoadedSplit) -> None:
    make, says, proposes = wrong()[case]
    with pytest.raises(mb.BenchError, match=says) as caught:
        make(split)
    text = str(caught.value)
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:] if ":" in line][:1] == [
        "expected"
    ]
    assert proposes in caught.value.remedy
    assert not Path("never.npz").exists()


def test_an_episode_is_ids_targets_features_and_images(split: mb.LoadedSplit) -> None:
    episodes = mb.load_episodes(split, count=3)
    features = mb.load_features(split, "scenes-small")
    first = next(mb.iter_episodes(split, episodes, features))
    drawn = episodes.episodes[0]
    assert (first.support_ids, first.query_ids) == (drawn.support, drawn.query)
    np.testing.assert_array_equal(first.query_targets, split.novel.targets_of(drawn.query))
    assert first.support_targets.diagonal().all()  # image i was drawn for label i
    torch.testing.assert_close(first.query.pooled(), features.pooled(drawn.query))
    assert first.support.local().shape == (6, features.channels, *features.grid)

    def transform(image: Any) -> torch.Tensor:
        return torch.tensor(np.asarray(image)).permute(2, 0, 1)

    shown = next(mb.iter_episodes(split, episodes, transform=transform))
    assert shown.query.shape == (24, 3, 112, 112)
    assert shown.support.dtype == torch.uint8
    plain = list(mb.iter_episodes(split, episodes))
    assert [episode.index for episode in plain] == [0, 1, 2]
    assert plain[0].support is None


def test_a_split_without_its_file_is_taken_too() -> None:
    bare = resolve_split(SPLIT, data_root=None)
    features = mb.load_features(bare, "scenes-small")
    episode = next(mb.iter_episodes(bare, mb.load_episodes(bare, count=1), features))
    assert episode.support.pooled().shape == (6, features.dim)


def test_a_data_set_may_be_an_object(tmp_path: Path) -> None:
    asked: list[str] = []

    class Counted(Scenes):
        def open_image(self, image_id: str) -> Any:
            asked.append(image_id)
            return super().open_image(image_id)

    split = mb.load_split(SPLIT, dataset=Counted())
    one = mb.load_episodes(split, count=1)
    episode = next(mb.iter_episodes(split, one, transform=lambda image: image.size))
    assert asked == [*episode.support_ids, *episode.query_ids]
    features = mb.load_features(split, "scenes-small", cache=tmp_path)
    (result,) = mb.evaluate("protonet", split=split, features=features, episodes=one, seeds=[0])
    assert sorted(asked[30:]) == sorted(asked[:30])
    assert tmp_path in result.path.parents
    assert result.record is not None
    assert result.record.split.dataset == "scenes"


def test_features_keep_what_they_know(split: mb.LoadedSplit, tmp_path: Path) -> None:
    features = mb.load_features(split, "scenes-small", cache=tmp_path)
    some = split.novel.image_ids[:3]
    features.extract(some)
    store = features._source
    features.pooled(some[::-1])
    assert features._source is store
    features.pooled(split.novel.image_ids[3:5])
    (store,) = features._stores
    assert set(store.ids) == set(split.novel.image_ids[:5])
    assert features.averaged(some).shape == (3, features.channels)


def test_scores_on_official_annotations_are_called_official(tmp_path: Path) -> None:
    given = mb.load_split("scenes-12-6-6-v1")
    for differs, name in (([], "coco-52-12-16-v1"), (["a"], "coco-52-12-16-v1-unofficial")):
        split = dataclasses.replace(given, id=name, dataset="coco", differs_from_official=differs)
        episodes = dataclasses.replace(mb.load_episodes(given), split_id=name)
        path = mb.write_scores(
            tmp_path / f"{name}.npz", np.zeros((1, 24, 6)), split=split, episodes=episodes,
            card=mb.MethodCard("mine", trains=False),
        )  # fmt: skip
        found = read_scores(path).meta.split
        assert (found.id, found.differs_from_official) == (name, differs)


def test_averages_of_maps_are_those_a_run_gets(split: mb.LoadedSplit, tmp_path: Path) -> None:
    file = tmp_path / "pair.py"
    file.write_text(
        "from torch import nn\n"
        "from mlfsic_bench.features.backbones.base import Squash\n"
        "from mlfsic_bench.features.backbones.objects import as_backbone\n\n\n"
        "class Pair(nn.Conv2d):\n"
        "    def forward(self, x):\n"
        "        maps = super().forward(x)\n"
        "        return maps, maps.amax((2, 3))\n\n\n"
        "def build(weights):\n"
        "    net = Pair(3, 4, 16, 16)\n"
        "    return as_backbone(net, Squash(112), name='pair', vector='pool')\n"
    )
    ids = split.novel.image_ids[:3]
    both = mb.load_features(split, f"scenes-small+{file}:build", cache=tmp_path)
    assert both.vector == "mean + attention pool"
    small = mb.load_features(split, "scenes-small", cache=tmp_path).pooled(ids)
    other = mb.load_features(split, f"{file}:build", cache=tmp_path).local(ids).mean((2, 3))
    torch.testing.assert_close(
        both.averaged(ids), torch.cat([small, other], 1), rtol=1e-6, atol=1e-6
    )
