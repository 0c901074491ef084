import numpy as np
import pytest
import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import folded
from mlfsic_bench.features.compute import parse_device
from mlfsic_bench.features.extract import decode, extract, verify_store
from mlfsic_bench.features.live import LiveFeatures
from mlfsic_bench.features.sources import FeatureSource, StoredFeatures
from mlfsic_bench.features.store.manifest import default_cache, manifest_of, store_folder
from mlfsic_bench.features.store.store import INDEX, LOCAL, POOLED, FeatureStore
from mlfsic_bench.features.store.writer import StoreWriter
from mlfsic_bench.hashing import hash_bytes
from tests.fakes.processes import KILLED, run_apart
from tests.features.feature_fakes import FolderDataset, make_images, picked_backbone, small_backbone
from tests.features.killed_extraction import extract_until

pytestmark = pytest.mark.slow

COUNT = 11


@pytest.fixture
def dataset(tmp_path):
    make_images(tmp_path / "images", COUNT)
    return FolderDataset(tmp_path / "images")


def ids_of(dataset):
    return dataset.annotations().image_ids


def test_folding_keeps_the_function():
    backbone = small_backbone()
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    merged = folded(backbone)
    assert torch.allclose(merged(x), backbone(x), rtol=1e-5, atol=1e-6)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in merged.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())


def test_stored_maps_are_the_backbones(dataset, tmp_path):
    backbone, ids = small_backbone(), ids_of(dataset)
    store = extract(dataset, ids, backbone, tmp_path / "store")
    assert store.ids == ids
    assert [store.digest(i) for i in ids] == [hash_bytes(dataset.image_bytes(i)) for i in ids]
    x = torch.stack([decode(dataset, backbone, i)[2] for i in ids])
    with torch.no_grad():
        maps = backbone(x)
    assert torch.allclose(store.gather_local(ids), maps, rtol=1e-3, atol=1e-3)
    assert torch.allclose(store.gather_pooled(ids), maps.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 4), (64, 2)])
def test_batch_size_and_workers_do_not_matter(dataset, tmp_path, batch_size, workers):
    backbone, ids = small_backbone(), ids_of(dataset)
    first = extract(dataset, ids, backbone, tmp_path / "a", batch_size=4)
    other = extract(dataset, ids, backbone, tmp_path / "b", batch_size=batch_size, workers=workers)
    assert first.manifest.key == other.manifest.key
    assert torch.allclose(first.gather_pooled(ids), other.gather_pooled(ids), atol=1e-5)
    assert torch.allclose(first.gather_local(ids), other.gather_local(ids), rtol=2e-3, atol=1e-3)


def test_only_missing_images_are_run(dataset, tmp_path, monkeypatch):
    ids = ids_of(dataset)
    extract(dataset, ids[:4], picked_backbone(), tmp_path / "store")
    opened, open_image = [], FolderDataset.open_image
    monkeypatch.setattr(
        FolderDataset, "open_image", lambda self, i: opened.append(i) or open_image(self, i)
    )
    store = extract(dataset, reversed(ids), picked_backbone(), tmp_path / "store")
    assert set(opened) == set(ids[4:])
    assert store.ids == ids
    opened.clear()
    extract(dataset, ids, picked_backbone(), tmp_path / "store")
    assert not opened


def test_a_complete_store_is_read_while_another_process_writes(dataset, tmp_path):
    backbone, ids, folder = small_backbone(), ids_of(dataset), tmp_path / "store"
    extract(dataset, ids[:5], backbone, folder)
    with StoreWriter(folder, manifest_of(dataset, backbone, "fp32")):
        assert len(extract(dataset, ids[:5], backbone, folder)) == 5
        with pytest.raises(BenchError, match="another process"):
            extract(dataset, ids, backbone, folder)


def test_waiting_for_another_writer(dataset, tmp_path):
    backbone, ids, folder = small_backbone(), ids_of(dataset), tmp_path / "store"
    other = StoreWriter(folder, manifest_of(dataset, backbone, "fp32")).__enter__()
    lines = []

    def said(line):
        lines.append(line)
        other.__exit__(None, None, None)  # the other process ends as soon as we say that we wait

    assert len(extract(dataset, ids, backbone, folder, wait=True, log=said)) == COUNT
    assert ["waiting until" in line for line in lines] == [True, False]


def test_a_store_of_other_images_with_the_same_names_is_refused(dataset, tmp_path):
    backbone, ids, folder = small_backbone(), ids_of(dataset), tmp_path / "store"
    extract(dataset, ids, backbone, folder)
    make_images(tmp_path / "other", COUNT + 1)
    other = FolderDataset(tmp_path / "other")
    names = sorted((tmp_path / "other").iterdir())
    names[0].write_bytes(names[-1].read_bytes())
    with pytest.raises(BenchError, match="other images"):
        extract(other, ids, backbone, folder)


def test_a_corrupt_image_is_named_and_earlier_rows_stay(dataset, tmp_path):
    ids = ids_of(dataset)
    bad = dataset.folder / f"{ids[7]}.png"
    good = bad.read_bytes()
    bad.write_bytes(good[:60])
    with pytest.raises(BenchError, match=ids[7]):
        extract(dataset, ids, picked_backbone(), tmp_path / "store", batch_size=2)
    assert FeatureStore(tmp_path / "store").ids == ids[:6]
    bad.write_bytes(good)
    assert extract(dataset, ids, picked_backbone(), tmp_path / "store").ids == ids


def test_nan_weights_name_the_image(dataset, tmp_path):
    backbone = picked_backbone(float("nan"))
    with pytest.raises(BenchError, match="features of img000"):
        extract(dataset, ids_of(dataset), backbone, tmp_path / "store")


def test_bf16_is_a_store_of_its_own_and_tells_its_drift(dataset, tmp_path):
    backbone, ids, lines = small_backbone(), ids_of(dataset), []
    exact, rough = (store_folder(tmp_path, dataset, backbone, p) for p in ("fp32", "bf16"))
    assert exact != rough
    store = extract(dataset, ids, backbone, rough, precision="bf16", log=lines.append)
    assert store.manifest.precision == "bf16"
    lines = [line for line in lines if " a second" not in line]  # of a slow machine
    assert len(lines) == 2
    assert f"bf16 against fp32 on {COUNT} images" in lines[0]
    exact_pooled = extract(dataset, ids, backbone, exact).gather_pooled(ids)
    off = (store.gather_pooled(ids) - exact_pooled).norm() / exact_pooled.norm()
    assert 0 < off < 0.05
    assert f"{off:.0e}"[:1] in lines[0]


def test_verify_accepts_and_finds_changes(dataset, tmp_path):
    backbone, ids = small_backbone(), ids_of(dataset)
    store = extract(dataset, ids, backbone, tmp_path / "store")
    assert verify_store(store, dataset, backbone) == (COUNT, [])
    assert verify_store(store, dataset, backbone, sample=4)[0] == 4
    for name, row, dtype in ((LOCAL, 3, "<f2"), (POOLED, 5, "<f4")):
        values = np.fromfile(tmp_path / "store" / name, dtype)
        values.reshape(COUNT, -1)[row, 2] += 1
        values.tofile(tmp_path / "store" / name)
    image = dataset.folder / f"{ids[8]}.png"
    image.write_bytes(image.read_bytes() + b"tail")
    checked, differences = verify_store(FeatureStore(tmp_path / "store"), dataset, backbone)
    found = {d.image_id: d.reason for d in differences}
    assert checked == COUNT
    assert set(found) == {ids[3], ids[5], ids[8]}
    assert found[ids[3]].startswith("local map off by 1")
    assert found[ids[5]].startswith("pooled feature off by 1")
    assert "bytes have changed" in found[ids[8]]


def test_verify_refuses_other_weights(dataset, tmp_path):
    store = extract(dataset, ids_of(dataset), small_backbone(0), tmp_path / "store")
    with pytest.raises(BenchError, match="not made by this backbone"):
        verify_store(store, dataset, small_backbone(1))


def test_the_folder_follows_from_the_identity(dataset, tmp_path, monkeypatch):
    a, b = small_backbone(0), small_backbone(1)
    assert store_folder(tmp_path, dataset, a) == store_folder(tmp_path, "fake", small_backbone(0))
    assert store_folder(tmp_path, dataset, a) != store_folder(tmp_path, dataset, b)
    assert manifest_of(dataset, a, "fp32").key[:16] in store_folder(tmp_path, dataset, a).name
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "named"))
    assert default_cache() == tmp_path / "named"
    monkeypatch.delenv("MLFSIC_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "mlfsic-bench"


def test_devices():
    assert parse_device("cpu").type == "cpu"
    with pytest.raises(BenchError, match="not a device"):
        parse_device("tpu9000")
    if not torch.cuda.is_available():
        with pytest.raises(BenchError, match="no cuda here"):
            parse_device("cuda")


# --- the two sources ---------------------------------------------------------------------------


def test_stored_and_live_give_the_same(dataset, tmp_path):
    backbone, ids = small_backbone(), ids_of(dataset)
    stored = StoredFeatures(extract(dataset, ids, backbone, tmp_path / "store"))
    live = LiveFeatures(backbone, dataset)
    some = [ids[5], ids[0], ids[5]]
    for source in (stored, live):
        assert isinstance(source, FeatureSource)
        assert (source.channels, source.grid) == (6, (4, 4))
        assert source.trainable_parameters() == []
        assert source.state() == {}
        source.train(True)
        source.load_state({})
        assert source.local([]).shape == (0, 6, 4, 4)
        assert not source.local(some).requires_grad
    assert torch.allclose(stored.local(some), live.local(some), rtol=1e-3, atol=1e-3)
    assert torch.allclose(stored.pooled(some), live.pooled(some), rtol=1e-4, atol=1e-5)
    with pytest.raises(BenchError, match="stored"):
        stored.load_state({"body.weight": torch.zeros(1)})


def test_a_trainable_backbone_learns_and_comes_back(dataset):
    live = LiveFeatures(small_backbone(), dataset, trainable=True)
    some = ids_of(dataset)[:4]
    before = live.state()
    reference = live.local(some).detach()
    live.train(True)
    optimizer = torch.optim.SGD(live.trainable_parameters(), lr=0.1)
    live.local(some).square().mean().backward()
    assert all(p.grad is not None for p in live.trainable_parameters())
    optimizer.step()
    live.train(False)
    assert not torch.allclose(live.local(some), reference)
    changed = {name for name, value in live.state().items() if not torch.equal(value, before[name])}
    assert any("running_mean" in name for name in changed)
    assert any(name.endswith("weight") for name in changed)
    live.load_state(before)
    assert torch.equal(live.local(some).detach(), reference)
    with torch.no_grad():
        assert not live.local(some).requires_grad
    with pytest.raises(BenchError, match="missing"):
        live.load_state({})


def test_a_frozen_live_backbone_stays_in_evaluation(dataset):
    live = LiveFeatures(small_backbone(), dataset)
    live.train(True)
    assert not live.backbone.training
    assert not any(p.requires_grad for p in live.backbone.parameters())


# --- kill -9 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("syncs", [2, 3, 4, 11])  # three for each batch, the last for its index
def test_kill_9_changes_no_byte(tmp_path, syncs):
    make_images(tmp_path / "images", 12)
    dataset = FolderDataset(tmp_path / "images")
    ids, store = ids_of(dataset), tmp_path / "killed"
    extract(dataset, ids, picked_backbone(), tmp_path / "undisturbed", batch_size=2)
    assert run_apart(extract_until, dataset.folder, store, syncs) == KILLED
    assert run_apart(extract_until, dataset.folder, store, 2) == KILLED
    assert run_apart(extract_until, dataset.folder, store) == 0
    for name in (LOCAL, POOLED, INDEX, "manifest.json"):
        assert (store / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
