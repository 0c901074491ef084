"""`scenes-20k`: scenes with more base images, everywhere where scenes can be named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.registry import dataset_names, needs_root, open_dataset
from mlfsic_bench.data.scenes import Scenes, Scenes20k
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.inputs import open_inputs
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.features.backbones.registry import build_backbone
from mlfsic_bench.features.extract import extract
from mlfsic_bench.splits.resolve import resolve_split

pytestmark = pytest.mark.slow

SPLIT = "scenes-12-6-6-20k-v1"


def test_scenes_20k_is_scenes_with_more_base_images() -> None:
    small = resolve_split("scenes-12-6-6-v1", data_root=None)
    large = resolve_split("scenes-12-6-6-20k-v1", data_root=None)
    assert large.dataset == "scenes-20k"
    assert large.hash != small.hash
    assert len(large.base.image_ids) == 20_000
    assert large.base.image_ids[:3000] == small.base.image_ids
    assert np.array_equal(large.base.targets[:3000], small.base.targets)
    for name in ("val", "novel"):
        one, two = small.parts[name], large.parts[name]  # type: ignore[index]
        assert one.labels == two.labels
        assert one.image_ids == two.image_ids
        assert np.array_equal(one.targets, two.targets)


def test_the_split_stays_what_it_is() -> None:
    assert resolve_split(SPLIT, data_root=None).hash == (
        "3d79414dfe4e1bb8a8125ced3c5bed1dc6817700fcd982a949f2e495676e0bf3"
    )


def test_drawn_data_sets_need_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    assert [name for name in dataset_names() if not needs_root(name)] == ["scenes", "scenes-20k"]
    assert open_dataset("scenes-20k", None) is open_dataset("scenes-20k", None)
    with pytest.raises(BenchError, match="needs a data root"):
        open_dataset("coco", None)


@pytest.mark.parametrize("image_id", ["scenes/000007", "scenes/800003", "scenes/901499"])
def test_pictures_and_masks_are_those_of_scenes(image_id: str) -> None:
    small, large = Scenes(), Scenes20k()
    assert large.image_bytes(image_id) == small.image_bytes(image_id)
    one, two = small.masks(image_id), large.masks(image_id)
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[label], two[label]) for label in one)


def test_images_beyond_those_of_scenes() -> None:
    with pytest.raises(BenchError, match="no image"):
        Scenes().pixels("scenes/019999")
    assert Scenes20k().masks("scenes/019999")
    with pytest.raises(BenchError, match="no image"):
        Scenes20k().pixels("scenes/020000")


def test_features_and_label_embeddings(tmp_path: Path) -> None:
    dataset = open_dataset("scenes-20k", None)
    backbone = build_backbone("scenes-small")
    store = extract(dataset, ["scenes/000000", "scenes/019999"], backbone, tmp_path / "store")
    assert len(store) == 2
    assert store.manifest.dataset == "scenes-20k"
    inputs = open_inputs(
        RunPlan(method="word-guided-attention", split=SPLIT, backbone="scenes-small")
    )
    assert inputs.embeddings is not None
    assert inputs.embeddings.name == "scenes-20k"
    assert len(inputs.episodes.episodes) == 200


def test_the_verbs_on_splits(tmp_path: Path) -> None:
    def output(*args: str) -> str:
        done = CliRunner().invoke(cli, ["splits", *args], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    (line,) = [line for line in output("list").splitlines() if line.startswith(SPLIT)]
    assert "scenes-20k" in line
    assert line.endswith("synthetic images, made when the split is used")
    assert "20,000 base images" in output("show", SPLIT)
    path = str(tmp_path / "split.json")
    assert "base: 20,000 images" in output("build", SPLIT, "--out", path)
    assert "the split built from the synthetic images" in output("verify", path)
    audit = json.loads(output("audit", SPLIT, "--quick", "--format=json"))
    assert audit["files"]["on_disk"] == 22_400
    assert not audit["leaks"]
