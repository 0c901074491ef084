"""CPU and GPU agree: features, every method's scores, one training step. Needs a CUDA device.

MLFSIC_GPU_TESTS_ON=cpu runs the same tests without one, as a rehearsal (tools/gpu_check.py).
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.embeddings.label_embeddings import load_embeddings
from mlfsic_bench.embeddings.texts import embed_labels
from mlfsic_bench.evaluation.parts import PartView, endless_episodes, first_base_images
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.features.backbones.registry import build_backbone, build_backbones
from mlfsic_bench.features.compute import float32_products
from mlfsic_bench.features.extract import extract
from mlfsic_bench.features.live import LiveFeatures, LiveOptions
from mlfsic_bench.features.sources import FeatureSource, StoredFeatures, join
from mlfsic_bench.features.store.manifest import manifest_of
from mlfsic_bench.features.store.store import FeatureStore
from mlfsic_bench.features.training_options import PLAIN, Training
from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.methods.registry import find_method, make_method, method_names
from mlfsic_bench.splits.resolve import resolve_split

GPU = os.environ.get("MLFSIC_GPU_TESTS_ON", "cuda")
pytestmark = pytest.mark.skipif(
    GPU == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"
)
SPLIT = "scenes-12-6-6-v1"
BASE_IMAGES = 150
# That every method keeps its tensors on the device only a GPU can show; a rehearsal needs no more
# than one method of each kind.
METHODS = method_names() if GPU == "cuda" else ["protonet", "linear", "word-guided-attention"]


@pytest.fixture(scope="module")
def split():
    """The scenes with few base images: some methods ask for the features of all of them."""
    whole = resolve_split(SPLIT, data_root=None)
    base = first_base_images(whole, BASE_IMAGES)
    return replace(whole, parts={**whole.parts, "base": base})


@pytest.fixture(scope="module")
def store(split, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Features of the base images and of the first two novel episodes, made on the CPU."""
    episodes = [endless_episodes(split.novel, split.hash, 0)(i) for i in range(2)]
    novel = {i for e in episodes for i in (*e.support, *e.query)}
    ids = sorted({*split.base.image_ids, *novel})
    folder = tmp_path_factory.mktemp("features")
    return extract(Scenes(), ids, build_backbone("scenes-small"), folder, device="cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of features for all runs."""
    return tmp_path_factory.mktemp("cache")


class Directions:
    """A text side: a direction for each text, in the space of `scenes-small`."""

    hash = "0" * 64

    def encode(self, texts):
        rows = [np.random.default_rng(list(text.encode())).standard_normal(128) for text in texts]
        return np.array(rows, np.float32)


def view(split, part: str, source, text_side: bool) -> PartView:
    labels = [label for p in split.parts.values() for label in p.labels]
    if text_side:
        embeddings = embed_labels(labels, Directions(), name="directions")
    else:
        embeddings = load_embeddings("scenes", labels)
    return PartView(split.parts[part], "novel", split.hash, 0, source, embeddings)


def test_extraction_agrees(store: FeatureStore, tmp_path: Path) -> None:
    backbone = build_backbone("scenes-small")
    other = extract(Scenes(), store.ids[:20], backbone, tmp_path, device=GPU)
    assert manifest_of(Scenes(), backbone, "fp32") == store.manifest
    a, b = store.gather_pooled(other.ids), other.gather_pooled(other.ids)
    assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max()))


def test_live_features_lie_on_the_gpu_and_agree(store: FeatureStore) -> None:
    live = LiveFeatures(build_backbone("scenes-small"), Scenes(), torch.device(GPU))
    maps = live.local(store.ids[:8])
    assert maps.device.type == torch.device(GPU).type
    stored = store.gather_local(store.ids[:8])
    assert torch.allclose(maps.cpu(), stored, rtol=5e-3, atol=5e-3 * float(stored.abs().max()))


def test_two_networks_agree_and_train_on_the_gpu() -> None:
    ids = [f"scenes/{i:06d}" for i in range(4)]
    names = "scenes-deep+scenes-patch"

    def joined(device: str, trainable: bool) -> FeatureSource:
        pair = build_backbones(names)
        return join(pair, [LiveFeatures(b, Scenes(), device, trainable) for b in pair])

    cpu, gpu = (joined(device, False).local(ids) for device in ("cpu", GPU))
    assert gpu.device.type == torch.device(GPU).type
    assert torch.allclose(cpu, gpu.cpu(), rtol=5e-3, atol=5e-3 * float(cpu.abs().max()))
    source = joined(GPU, True)
    before = source.state()
    source.pooled(ids).square().mean().backward()
    torch.optim.SGD(source.trainable_parameters(), lr=0.1).step()
    assert not torch.allclose(source.local(ids).cpu(), cpu)
    source.load_state(before)
    assert torch.allclose(source.local(ids).detach().cpu(), gpu.cpu(), atol=1e-5)


def gradients(device: str, training: Training = PLAIN, precision: str = "fp32") -> torch.Tensor:
    """Of the features of twelve images by the weights of a network, in training mode."""
    ids = [f"scenes/{i:06d}" for i in range(12)]
    options = LiveOptions(training, precision)  # type: ignore[arg-type]
    live = LiveFeatures(build_backbone("scenes-deep"), Scenes(), device, True, options)
    live.train(True)
    live.begin_episode(0, ids)
    with float32_products(training.tf32):
        live.local(ids).square().mean().backward()
    return torch.cat([p.grad.detach().cpu().flatten() for p in live.trainable_parameters()])


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def test_gradients_agree_and_micro_batches_and_checkpointing_keep_them() -> None:
    exact = gradients("cpu")
    assert cosine(gradients(GPU), exact) > 0.999
    assert cosine(gradients(GPU, Training(checkpointing=True)), gradients(GPU)) > 0.9999
    frozen = gradients(GPU, Training(batch_norm="frozen"))
    assert cosine(gradients(GPU, Training(micro_batch=5)), frozen) > 0.9999
    flipped = Training(micro_batch=5, augment=("flip", "contrast"))
    whole = Training(batch_norm="frozen", augment=("flip", "contrast"))
    assert cosine(gradients(GPU, flipped), gradients("cpu", whole)) > 0.999


def test_rounded_products_stay_near() -> None:
    exact = gradients("cpu")
    assert cosine(gradients(GPU, Training(tf32=True)), exact) > 0.99
    assert cosine(gradients(GPU, precision="bf16"), exact) > 0.9


@pytest.mark.skipif(GPU == "cpu", reason="compiling for a CPU takes too long for a rehearsal")
def test_a_compiled_network_agrees() -> None:
    frozen = gradients(GPU, Training(batch_norm="frozen"))
    assert cosine(gradients(GPU, Training(compile=True, batch_norm="frozen")), frozen) > 0.999


def test_images_ahead_of_time_are_the_same_on_the_gpu() -> None:
    ids = [f"scenes/{i:06d}" for i in range(6)]
    live = LiveFeatures(build_backbone("scenes-small"), Scenes(), GPU)
    plain = live.inputs(ids).cpu()
    for number in range(20):  # batches are begun while others are used
        live.begin_episode(number, ids[number % 3 :])
        assert torch.equal(live.inputs(ids[3:]).cpu(), plain[3:])


@pytest.mark.parametrize("name", METHODS)
def test_scores_of_the_same_state_agree(name: str, split, store: FeatureStore) -> None:
    settings = find_method(name).check_settings
    answers = []
    state = None
    for device in ("cpu", GPU):
        source = StoredFeatures(store, torch.device(device))
        method = make_method(name, settings, None)
        if state is None and method.trains:
            base = view(split, "base", source, method.needs_text_side).training_part(
                lambda i: endless_episodes(split.base, split.hash, 0)(0), None
            )
            method.fit(base, None, FitContext(seed=1))
        state = method.state() if state is None else state
        fresh = make_method(name, settings, None)
        fresh.load_state({key: value.cpu() for key, value in state.items()})
        novel = view(split, "novel", source, method.needs_text_side)
        episodes = [endless_episodes(split.novel, split.hash, 0)(i) for i in range(2)]
        predictors = fresh.adapt_all([novel.support(i, e) for i, e in enumerate(episodes)])
        scored = [label(novel.query(e)) for label, e in zip(predictors, episodes, strict=True)]
        answers.append(torch.stack([s.detach().cpu() for s in scored]))
    largest = float(answers[0].abs().max())
    assert torch.allclose(answers[0], answers[1], rtol=1e-3, atol=1e-3 * largest)


@pytest.mark.parametrize("name", ["protonet", "word-guided-attention"])
def test_a_run_on_the_gpu_has_the_key_of_a_run_on_the_cpu(
    name: str, cache: Path, tmp_path: Path
) -> None:
    folders = [
        run_method(
            RunPlan(
                method=name,
                split=SPLIT,
                backbone="scenes-small",
                settings=dict(find_method(name).check_settings),
                episodes=2,
                base_images=None if name == "protonet" else BASE_IMAGES,
                device=device,
                cache=cache,
                out=tmp_path / name_of,
            )
        )
        for name_of, device in (("first", "cpu"), ("second", GPU))
    ]
    cpu, gpu = (read_scores(folder / "scores.npz") for folder in folders)
    assert cpu.meta == gpu.meta
    if name == "protonet":  # nothing is trained, so nothing can drift
        largest = float(np.abs(cpu.scores).max())
        assert np.allclose(cpu.scores, gpu.scores, rtol=1e-3, atol=1e-3 * largest)
