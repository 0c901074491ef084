"""Live features: how a network is trained in less memory or time, and what that may not change."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from mlfsic_bench.cli.run import run
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import identity
from mlfsic_bench.evaluation.inputs import open_inputs
from mlfsic_bench.evaluation.meta import TrainingMeta
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.features import live as live_module
from mlfsic_bench.features.augmentation import augmented
from mlfsic_bench.features.backbones.base import Backbone, Squash, lite_squash
from mlfsic_bench.features.backbones.objects import as_backbone, trial_image
from mlfsic_bench.features.compute import float32_products, splits
from mlfsic_bench.features.image_cache import FOLDER, HEADER, HERE, open_cache
from mlfsic_bench.features.live import CALLS, LiveFeatures, LiveOptions
from mlfsic_bench.features.memory import blocks_of, footprint, options_that_fit, require_memory
from mlfsic_bench.features.sources import join
from mlfsic_bench.features.training_options import PLAIN, Training, parse_augmentations
from tests.features.feature_fakes import SIZE, FolderDataset, make_images


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        return x + self.drop(torch.relu(self.norm(self.conv(x))))


def network() -> Backbone:
    """Two blocks with batch norm and dropout, the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        body = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Sequential(Block(), Block()))
    transform = Squash(SIZE, "bilinear", (0.5,) * 3, (0.5,) * 3)
    return Backbone(
        "blocks", body, channels=8, grid=(4, 4), transform=transform, weights="none"
    ).eval()


@pytest.fixture
def dataset(tmp_path):
    make_images(tmp_path / "images", 7)
    return FolderDataset(tmp_path / "images")


def source(dataset, training=PLAIN, trainable=True, **options) -> LiveFeatures:
    return LiveFeatures(
        network(), dataset, "cpu", trainable, LiveOptions(training=training, **options)
    )


def step(dataset, training=PLAIN, episode=3, **options):
    """Maps, gradients and state after one backward pass of an episode."""
    live = source(dataset, training, **options)
    ids = dataset.annotations().image_ids
    live.train(True)
    live.begin_episode(episode, ids)
    maps = live.local(ids)
    torch.manual_seed(episode)
    (maps * torch.randn(maps.shape)).sum().backward()
    gradients = torch.cat([p.grad.flatten() for p in live.trainable_parameters()])
    return maps.detach(), gradients, live.state()


def same(one, other):
    for a, b in zip(one[:2], other[:2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    for name in one[2]:
        torch.testing.assert_close(one[2][name], other[2][name])


# -- the same gradients in less memory -----------------------------------------------------------


def test_blocks_of_a_network_are_found_at_their_level():
    assert [type(block) for block in blocks_of(network().body)] == [Block, Block]
    leaves = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    assert blocks_of(leaves) == []
    assert len(blocks_of(nn.ModuleDict({"a": nn.ModuleList([leaves, Block()])}))) == 1


def test_checkpointing_changes_no_gradient_and_no_running_statistic(dataset):
    # dropout is drawn again as it was, and batch norms don't count the images twice
    assert not torch.equal(step(dataset)[1], step(dataset, episode=4)[1])
    same(step(dataset, Training(checkpointing=True)), step(dataset))


@pytest.mark.parametrize("training", [PLAIN, Training(checkpointing=True)])
def test_micro_batches_give_the_gradients_of_the_whole(dataset, training):
    # without dropout, which draws for all images at once where there is one batch
    def undropped(live):
        for module in live.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return live

    kept = network
    try:
        globals()["network"] = lambda: undropped(kept())
        whole = step(dataset, replace(training, batch_norm="frozen"))
        parts = step(dataset, replace(training, micro_batch=3))
    finally:
        globals()["network"] = kept
    same(parts, whole)
    assert torch.equal(whole[2]["body.1.0.norm.running_mean"], torch.zeros(8))


def test_both_passes_of_a_micro_batch_draw_the_same(dataset):
    live = source(dataset, Training(micro_batch=3, augment=("flip", "translate", "contrast")))
    seen = []
    live.train(True)
    live._require_memory(7)  # its pass on the meta device is none of these
    live.backbone.body[1][0].register_forward_hook(lambda m, a, made: seen.append(made.detach()))
    live.local(dataset.annotations().image_ids).sum().backward()
    assert [len(made) for made in seen] == [3, 3, 1, 3, 3]  # the last part is computed once
    torch.testing.assert_close(seen[0], seen[4])
    torch.testing.assert_close(seen[1], seen[3])


def test_a_network_without_blocks_can_not_be_checkpointed(dataset):
    backbone = network()
    backbone.body = nn.Sequential(*backbone.body[:1])
    options = LiveOptions(Training(checkpointing=True))
    with pytest.raises(BenchError, match="no blocks to compute again"):
        LiveFeatures(backbone, dataset, "cpu", True, options)


# -- without a graph -----------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", [True, False])
def test_without_a_graph_batches_are_bounded(dataset, trainable):
    live = source(dataset, trainable=trainable, batch_size=3)
    sizes = []
    live.backbone.body.register_forward_hook(lambda module, args, made: sizes.append(len(args[0])))
    ids = dataset.annotations().image_ids
    with torch.no_grad():
        parts = [live.local(ids), live.pooled(ids), live.averaged(ids)]
    assert sizes == [3, 3, 1] * 3
    whole = source(dataset, trainable=trainable)
    with torch.no_grad():
        for part, other in zip(
            parts, [whole.local(ids), whole.pooled(ids), whole.averaged(ids)], strict=True
        ):
            torch.testing.assert_close(part, other, rtol=1e-5, atol=1e-5)
            assert part.is_contiguous()


def test_weights_and_inputs_lie_channels_last(dataset):
    live = source(dataset)
    last = torch.channels_last
    assert live.backbone.body[0].weight.is_contiguous(memory_format=last)
    assert live.inputs(dataset.annotations().image_ids).is_contiguous(memory_format=last)


def test_bf16_rounds_products_and_keeps_weights(dataset):
    maps, gradients, state = step(dataset, precision="bf16")
    exact = step(dataset)
    assert maps.dtype == gradients.dtype == torch.float32
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float32}
    assert not torch.equal(maps, exact[0])
    torch.testing.assert_close(maps, exact[0], rtol=0.1, atol=0.1)


def test_float32_products_are_put_back():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with float32_products(tf32=True):
        assert torch.backends.cuda.matmul.allow_tf32
    with float32_products():
        assert not torch.backends.cudnn.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


# -- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [Squash(33), lite_squash(40), Squash(224, "bicubic")])
def test_normalised_pixels_are_the_input_bit_for_bit(transform):
    pixels = np.stack([transform.pixels(trial_image(i)) for i in range(3)])
    inputs = torch.stack([transform(trial_image(i)) for i in range(3)])
    assert torch.equal(transform.normalised(torch.from_numpy(pixels)), inputs)
    assert splits(transform)


def test_another_transform_is_used_as_it_is(dataset):
    def transform(image):
        return torch.from_numpy(np.array(image, np.float32).transpose(2, 0, 1) / 255)

    conv = nn.Conv2d(3, 4, 4, stride=4)
    resized = Squash(SIZE)
    backbone = as_backbone(
        conv, lambda i: transform(i.resize((SIZE, SIZE))), name="own", transform_id="own"
    )
    assert not splits(backbone.transform)
    assert splits(resized)
    live = LiveFeatures(backbone, dataset)
    name = dataset.annotations().image_ids[0]
    assert torch.equal(live.inputs([name])[0], backbone.transform(dataset.open_image(name)))


def test_images_begun_ahead_of_time_are_those_asked_for(dataset):
    ids = dataset.annotations().image_ids
    plain = source(dataset).inputs(ids)
    live = source(dataset)
    live.begin_episode(0, ids[:5])
    live.begin_episode(1, (*ids[:5], "no-such-image"))  # a guess may be wrong
    assert torch.equal(live.inputs(ids[1:4]), plain[1:4])
    assert torch.equal(live.inputs([ids[4], ids[0], ids[4]]), plain[[4, 0, 4]])
    assert torch.equal(live.inputs(ids[:5]), plain[:5])
    with pytest.raises(BenchError, match="no-such-image"):
        live.inputs([ids[0], "no-such-image"])


def test_every_network_side_by_side_is_told_of_an_episode(dataset):
    pair = [network(), network()]
    pair[1].name = "other"
    joined = join(pair, [LiveFeatures(one, dataset, "cpu", True) for one in pair])
    joined.begin_episode(5, dataset.annotations().image_ids)
    assert [one._episode for one in joined.sources.values()] == [5, 5]


@pytest.mark.skipif(not HERE, reason="the system has no preadv")
def test_decoded_images_are_kept_and_read_again(dataset, tmp_path):
    ids = dataset.annotations().image_ids
    options = {"cache": tmp_path / "cache", "ids": ids}
    first = source(dataset, **options).inputs(ids)
    (path,) = (tmp_path / "cache" / FOLDER).iterdir()
    row = 3 * SIZE * SIZE + HEADER.size
    assert path.stat().st_size == len(ids) * row
    opened = []

    class Watched(FolderDataset):
        def open_image(self, image_id):
            opened.append(image_id)
            return super().open_image(image_id)

    live = source(Watched(dataset.folder), **options)
    live._reader()  # compares a few images
    opened.clear()
    assert torch.equal(live.inputs(ids), first)
    assert opened == []
    # a row that was cut off is made again
    with path.open("r+b") as stream:
        stream.seek(2 * row + HEADER.size)
        stream.write(b"\x00\x01")
    assert torch.equal(live.inputs(ids), first)
    assert opened == [ids[2]]
    assert torch.equal(live.inputs(ids), first)
    assert opened == [ids[2]]


@pytest.mark.skipif(not HERE, reason="the system has no preadv")
def test_a_cache_of_other_images_is_begun_anew_and_none_is_no_error(dataset, tmp_path, monkeypatch):
    ids = dataset.annotations().image_ids
    lines: list[str] = []

    def opened(dataset, folder="cache"):
        live = source(dataset)
        reader = live._reader()
        return open_cache(
            tmp_path / folder, "fake", "squash", ids, ids, SIZE, reader.pixels, lines.append
        )

    cache = opened(dataset)
    for name in ids:
        cache.write(name, source(dataset)._reader().pixels(name))
    assert "are kept in" in lines.pop()
    make_images(tmp_path / "others", 7)
    for name in ids:
        (tmp_path / "others" / f"{name}.png").unlink()
    for old, new in zip(ids, reversed(ids), strict=True):
        os.link(dataset.folder / f"{old}.png", tmp_path / "others" / f"{new}.png")
    cache = opened(FolderDataset(tmp_path / "others"))
    assert "other images" in lines[0]
    assert not cache.read(ids[0], np.empty((SIZE, SIZE, 3), np.uint8))
    (tmp_path / "file").write_text("")
    assert opened(dataset, "file") is None
    full = SimpleNamespace(f_bavail=0, f_frsize=1)
    monkeypatch.setattr("mlfsic_bench.features.image_cache.os.fstatvfs", lambda file: full)
    assert opened(dataset) is None
    assert "no room" in lines[-1]


@pytest.mark.skipif(not HERE, reason="the system has no preadv")
def test_runs_with_other_images_share_one_file(dataset, tmp_path):
    ids = dataset.annotations().image_ids
    cache = tmp_path / "cache"
    few, more = ids[4:6], ids[2:]
    live = source(dataset, cache=cache, ids=more)
    assert not live._reader().cache.read(few[0], np.empty((SIZE, SIZE, 3), np.uint8))
    first = source(dataset, cache=cache, ids=few).inputs(few)  # while the other has it open
    (path,) = (cache / FOLDER).iterdir()
    before = path.read_bytes()
    assert live._reader().cache.read(few[0], np.empty((SIZE, SIZE, 3), np.uint8))
    assert torch.equal(live.inputs(more)[2:4], first)
    assert [one.name for one in (cache / FOLDER).iterdir()] == [path.name]
    row = 3 * SIZE * SIZE + HEADER.size
    assert path.read_bytes()[4 * row : 6 * row] == before[4 * row :]


@pytest.mark.skipif(not HERE, reason="the system has no preadv")
def test_a_disk_that_others_fill_ends_the_keeping(dataset, tmp_path, monkeypatch):
    ids = dataset.annotations().image_ids
    live = source(dataset, cache=tmp_path / "cache", ids=ids)
    live.inputs(ids[:1])
    full = SimpleNamespace(f_bavail=0, f_frsize=1)
    monkeypatch.setattr("mlfsic_bench.features.image_cache.os.fstatvfs", lambda file: full)
    assert torch.equal(live.inputs(ids), source(dataset).inputs(ids))
    (path,) = (tmp_path / "cache" / FOLDER).iterdir()
    assert path.stat().st_size == 3 * SIZE * SIZE + HEADER.size


# -- augmentation and exact resume ---------------------------------------------------------------


def test_augmentations_shift_mirror_and_scale():
    x = torch.rand(400, 3, 40, 32).contiguous(memory_format=torch.channels_last)
    seeds = list(range(400))
    assert torch.equal(augmented(x, (), seeds), x)
    flipped = augmented(x, ("flip",), seeds)
    mirrored = (flipped == x.flip(3)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], x[~mirrored])
    assert 150 < int(mirrored.sum()) < 250
    moved = augmented(x, ("translate",), seeds)
    inner = [
        any(
            torch.equal(moved[i, :, 2:-2, 2:-2], x[i].roll((dy, dx), (1, 2))[:, 2:-2, 2:-2])
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        )
        for i in range(60)
    ]
    assert all(inner)
    contrast = augmented(x, ("contrast",), seeds)
    torch.testing.assert_close(contrast.mean((2, 3)), x.mean((2, 3)))
    factor = contrast.std((1, 2, 3)) / x.std((1, 2, 3))
    assert 0.74 < float(factor.min()) < 0.8
    assert 1.2 < float(factor.max()) < 1.26
    both = augmented(x, ("translate", "flip"), seeds)
    assert torch.equal(both[mirrored], augmented(x.flip(3), ("translate",), seeds)[mirrored]) or (
        torch.equal(both[~mirrored], moved[~mirrored])
    )
    assert not both.is_contiguous()
    assert both.is_contiguous(memory_format=torch.channels_last)


def test_a_training_draws_by_episode_whatever_came_before(dataset):
    training = Training(augment=("flip", "translate"))
    ids = dataset.annotations().image_ids

    def drawn(live, episode):
        live.train(True)
        live.begin_episode(episode, ids)
        return live.local(ids).detach()

    live = source(dataset, training)
    drawn(live, 0)
    state = live.state()
    second = drawn(live, 1)
    resumed = source(dataset, training)
    resumed.load_state(state)
    assert CALLS not in state
    assert torch.equal(drawn(resumed, 1), second)
    other = source(dataset, training, seed=1)
    other.load_state(state)
    assert not torch.equal(drawn(other, 1), second)
    live.train(False)
    with torch.no_grad():
        live.load_state(state)
        fresh = source(dataset)
        fresh.load_state(state)
        assert torch.equal(live.local(ids), fresh.local(ids))  # nothing is drawn in evaluation


def test_outside_of_episodes_calls_are_counted_in_the_state(dataset):
    training, ids = Training(augment=("flip",)), dataset.annotations().image_ids
    live = source(dataset, training)
    live.train(True)
    live.local(ids)
    state = live.state()
    assert int(state[CALLS]) == 1
    for dropout, counted in ((0.2, True), (0.0, False)):  # without augmentation: if dropout draws
        other = source(dataset)
        for block in other.backbone.body[1]:
            block.drop.p = dropout
        other.train(True)
        other.local(ids)
        assert (CALLS in other.state()) is counted
    second = live.local(ids)
    resumed = source(dataset, training)
    resumed.train(True)
    resumed.load_state(state)
    assert torch.equal(resumed.local(ids), second)
    before = torch.random.get_rng_state()
    live.local(ids)
    assert torch.equal(torch.random.get_rng_state(), before)


# -- memory --------------------------------------------------------------------------------------


def test_memory_is_estimated_from_what_a_pass_keeps():
    backbone = network().train()
    backbone.requires_grad_(True)
    measured = footprint(backbone)
    assert measured is not None
    one = 4 * 8 * 16  # bytes of a map
    # kept: the input, and of each block what convolution, norm, relu and dropout get or give
    assert measured.kept.floats + measured.kept.others > 4 * 3 * SIZE * SIZE + 2 * 2 * one
    assert measured.kept.floats < 4 * 3 * SIZE * SIZE + 2 * 8 * one
    assert measured.between.floats < measured.kept.floats
    need = measured.need
    assert need(100, "bf16", PLAIN) < need(100, "fp32", PLAIN)
    assert need(100, "fp32", Training(checkpointing=True)) < need(100, "fp32", PLAIN)
    assert need(1000, "fp32", Training(micro_batch=8)) < need(1000, "fp32", PLAIN)
    assert 1.9 < need(10_000, "fp32", PLAIN) / need(5_000, "fp32", PLAIN) < 2.1
    assert blocks_of(backbone.body)[0].training


def test_what_can_not_fit_is_refused_with_options_that_would():
    backbone = network().train()
    measured = footprint(backbone)
    lines: list[str] = []
    plain = measured.need(200, "fp32", PLAIN)
    require_memory(backbone, measured, 200, "fp32", PLAIN, 10 * plain, lines.append)
    assert lines == []
    require_memory(backbone, measured, 200, "fp32", PLAIN, 1.1 * plain, lines.append)
    assert "estimate" in lines[0]
    with pytest.raises(BenchError, match="200 images with blocks") as refused:
        require_memory(backbone, measured, 200, "fp32", PLAIN, 0.9 * plain, print)
    assert "--micro-batch" in refused.value.remedy
    free = 0.9 * plain
    assert any(
        "bf16" in one for one in options_that_fit(backbone, measured, 200, "fp32", PLAIN, free)
    )
    with pytest.raises(BenchError) as refused:
        require_memory(backbone, measured, 200, "fp32", PLAIN, 1.0, print)
    assert "smaller network" in refused.value.remedy


def test_the_first_step_looks_at_the_memory(dataset, monkeypatch):
    monkeypatch.setattr(live_module, "free_memory", lambda device: 1.0)
    ids = dataset.annotations().image_ids
    live = source(dataset)
    with torch.no_grad():
        live.local(ids)
    with pytest.raises(BenchError, match="a training step of 7 images"):
        live.local(ids)


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("training", "mode", "said"),
    [
        (Training(tf32=True), "stored", "--tf32 does nothing with stored features"),
        (Training(augment=("flip",)), "live", "--augment does nothing with live features"),
        (Training(micro_batch=0), "end-to-end", "at least one image"),
        (Training(micro_batch=4, batch_norm="batch"), "end-to-end", "--batch-norm frozen"),
        (Training(compile=True, checkpointing=True), "end-to-end", "don't go together"),
        (Training(batch_norm="other"), "end-to-end", "kind of batch norm"),
        (Training(augment=("crop",)), "end-to-end", "augmentation"),
    ],
)
def test_options_that_are_wrong_or_idle_are_refused(training, mode, said):
    with pytest.raises(BenchError, match=said):
        training.check(mode)


def test_options_that_go_together_pass():
    PLAIN.check("stored")
    Training(compile=True, tf32=True, image_cache=False).check("live")
    Training(micro_batch=4, compile=True, augment=("flip",)).check("end-to-end")
    assert parse_augmentations("flip, translate,flip") == ("translate", "flip")


def test_a_plan_says_how_its_live_network_is_computed(tmp_path):
    plan = RunPlan(
        "protonet",
        "scenes-12-6-6-v1",
        "scenes-small",
        features="live",
        precision="bf16",
        training=Training(tf32=True, image_cache=True),
        cache=tmp_path,
        episodes=2,
    )
    inputs = open_inputs(plan)
    features = identity(inputs)["features"]
    assert features["precision"] == "bf16"
    assert features["tf32"] is True
    assert inputs.features.training == TrainingMeta(tf32=True)
    ids = inputs.episodes.episodes[0].support[:3]
    source = inputs.open_source(ids, (), lambda line: None)
    assert source.local(ids).shape[0] == 3
    assert next((tmp_path / FOLDER).iterdir()).stat().st_size > 0
    plain = open_inputs(replace(plan, precision="fp32", training=PLAIN))
    assert plain.features.training is None
    assert "tf32" not in identity(plain)["features"]


def test_the_command_line_refuses_options_without_effect():
    line = "protonet --split scenes-12-6-6-v1 --backbone scenes-small --micro-batch 4"
    done = CliRunner().invoke(run, line.split(), standalone_mode=False)
    assert isinstance(done.exception, BenchError)
    assert "--micro-batch does nothing with stored features" in str(done.exception)


def test_where_torch_can_not_compile_the_option_is_named(dataset, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("no compiler")

    live = source(dataset)
    live.options = LiveOptions(Training(compile=True))
    live.backbone.body.forward = fails
    with pytest.raises(BenchError, match="no compiler") as refused:
        live.local(dataset.annotations().image_ids)
    assert "--compile" in refused.value.remedy
