import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.sources import StoredFeatures
from mlfsic_bench.features.store.manifest import Manifest, read_manifest
from mlfsic_bench.features.store.store import (
    INDEX,
    LOCAL,
    POOLED,
    BufferPool,
    FeatureStore,
    _as_written,
    _line_by_line,
    index_lines,
)
from mlfsic_bench.features.store.writer import StoreWriter
from tests.fakes.processes import run_apart
from tests.features.killed_extraction import BUSY, write_to
from tests.searches import examples

M = Manifest("fake", "small", "0" * 64, "squash16", channels=3, grid=(2, 2))


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    local = rng.standard_normal((count, 4, 3)).astype(np.float32)
    return [f"i{k}" for k in range(count)], ["d"] * count, local, local.mean(axis=1)


def filled(folder, count=5, batch=2):
    ids, digests, local, pooled = rows(count)
    with StoreWriter(folder, M) as writer:
        for s in range(0, count, batch):
            part = slice(s, s + batch)
            writer.add(ids[part], digests[part], local[part], pooled[part])
    return ids, local, pooled


def test_what_is_written_is_read(tmp_path):
    ids, local, pooled = filled(tmp_path)
    store = FeatureStore(tmp_path)
    assert store.ids == tuple(ids)
    assert len(store) == 5
    assert "i3" in store
    assert "x" not in store
    order = ["i4", "i0", "i4", "i2"]
    got = store.gather_local(order)
    expected = local[[4, 0, 4, 2]].astype(np.float16).astype(np.float32)
    assert got.dtype == torch.float32
    assert got.shape == (4, 3, 2, 2)
    assert np.array_equal(got.permute(0, 2, 3, 1).reshape(4, 4, 3).numpy(), expected)
    assert np.array_equal(store.gather_pooled(order).numpy(), pooled[[4, 0, 4, 2]])
    assert (tmp_path / LOCAL).stat().st_size == 5 * 4 * 3 * 2
    assert (tmp_path / POOLED).stat().st_size == 5 * 3 * 4


def test_nothing_asked_for_gives_nothing(tmp_path):
    filled(tmp_path)
    store = FeatureStore(tmp_path)
    assert store.gather_local([]).shape == (0, 3, 2, 2)
    assert store.gather_pooled([]).shape == (0, 3)


def test_an_empty_store_can_be_read(tmp_path):
    with StoreWriter(tmp_path, M):
        pass
    assert len(FeatureStore(tmp_path)) == 0


@examples(30)
@given(st.lists(st.integers(0, 4), max_size=70))
def test_any_gather_is_plain_indexing(tmp_path_factory, picks):
    folder = tmp_path_factory.mktemp("store")
    _, local, pooled = filled(folder)
    store = FeatureStore(folder)
    ids = [f"i{k}" for k in picks]
    half = local.astype(np.float16).astype(np.float32)
    got = store.gather_local(ids).permute(0, 2, 3, 1).reshape(-1, 4, 3).numpy()
    assert np.array_equal(got, half[picks] if picks else half[:0])
    assert np.array_equal(store.gather_pooled(ids).numpy(), pooled[picks] if picks else pooled[:0])


def test_a_gathered_tensor_is_never_overwritten(tmp_path):
    filled(tmp_path)
    store = FeatureStore(tmp_path)
    first = store.gather_local(["i0", "i1"])
    view, kept = first[1:], first.clone()
    for _ in range(6):
        store.gather_local(["i2", "i3"])
    assert torch.equal(first, kept)
    del first
    for _ in range(6):
        store.gather_local(["i2", "i3"])
    assert torch.equal(view, kept[1:])


def test_a_tensor_saved_by_a_graph_is_never_overwritten(tmp_path):
    filled(tmp_path)
    store = FeatureStore(tmp_path)
    w = torch.ones(3, 1, 1, requires_grad=True)
    loss = (store.gather_local(["i0", "i1"]) * w).sum()
    expected = store.gather_local(["i0", "i1"]).sum(dim=(0, 2, 3))
    for _ in range(6):
        store.gather_local(["i2", "i3"])
    loss.backward()
    assert torch.allclose(w.grad.flatten(), expected)


def test_memory_of_dropped_tensors_is_used_again():
    pool = BufferPool()
    first = pool.tensor((100, 30))
    place = first.data_ptr()
    assert pool.tensor((100, 30)).data_ptr() != place
    del first
    found = {pool.tensor((100, 30)).data_ptr() for _ in range(4)}
    held = [pool.tensor((100, 30)) for _ in range(6)]
    assert place in found | {t.data_ptr() for t in held}
    assert len({t.data_ptr() for t in held}) == 6


def test_images_without_features_are_named(tmp_path):
    filled(tmp_path)
    with pytest.raises(BenchError, match="2 of the images") as error:
        FeatureStore(tmp_path).gather_pooled(["i0", "absent", "gone", "absent"])
    assert "absent, gone" in error.value.found


def test_a_killed_batch_is_cut_away(tmp_path):
    _, local, _ = filled(tmp_path, 5)
    before = {name: (tmp_path / name).read_bytes() for name in (LOCAL, POOLED, INDEX)}
    for name, tail in ((LOCAL, b"x" * 37), (POOLED, b"y" * 50), (INDEX, b'{"id": "i9", "sha')):
        with (tmp_path / name).open("ab") as stream:
            stream.write(tail)
    reader = FeatureStore(tmp_path)
    assert len(reader) == 5
    with StoreWriter(tmp_path, M) as writer:
        assert writer.ids == {f"i{k}" for k in range(5)}
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    half = local[2].astype(np.float16).astype(np.float32)
    assert np.array_equal(
        reader.gather_local(["i2"]).permute(0, 2, 3, 1).numpy().ravel(), half.ravel()
    )


def test_adding_later_appends_and_an_open_reader_is_unmoved(tmp_path):
    ids, digests, local, pooled = rows(6)
    with StoreWriter(tmp_path, M) as writer:
        writer.add(ids[:3], digests[:3], local[:3], pooled[:3])
    reader = FeatureStore(tmp_path)
    with StoreWriter(tmp_path, M) as writer:
        writer.add(ids[3:], digests[3:], local[3:], pooled[3:])
        assert len(FeatureStore(tmp_path)) == 6
    assert len(reader) == 3
    assert np.array_equal(reader.gather_pooled(ids[:3]).numpy(), pooled[:3])
    assert np.array_equal(FeatureStore(tmp_path).gather_pooled(ids).numpy(), pooled)


def test_a_second_writer_is_refused_also_from_another_process(tmp_path):
    with StoreWriter(tmp_path, M):
        with pytest.raises(BenchError, match="another process is writing"):
            StoreWriter(tmp_path, M).__enter__()
        assert run_apart(write_to, tmp_path) == BUSY
    assert run_apart(write_to, tmp_path) == 0


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (float("nan"), "NaN or infinity"),
        (float("inf"), "NaN or infinity"),
        (-float("inf"), "NaN or infinity"),
        (70000.0, "to 70000"),
        (-70000.0, "from -70000"),
    ],
)
def test_values_that_float16_cannot_hold_name_the_image(tmp_path, value, found):
    ids, digests, local, pooled = rows(4)
    local[2, 1, 1] = value
    with StoreWriter(tmp_path, M) as writer:
        with pytest.raises(BenchError, match="features of i2 ") as error:
            writer.add(ids, digests, local, pooled)
        assert found in error.value.found
        writer.add(ids[:2], digests[:2], local[:2], pooled[:2])
    assert FeatureStore(tmp_path).ids == ("i0", "i1")


def test_a_pooled_nan_names_the_image(tmp_path):
    ids, digests, local, pooled = rows(2)
    pooled[1, 0] = np.nan
    with StoreWriter(tmp_path, M) as writer, pytest.raises(BenchError, match="features of i1 "):
        writer.add(ids, digests, local, pooled)


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on file sizes")
def test_a_full_disk_leaves_whole_rows(tmp_path):
    import resource
    import signal

    ids, digests, local, pooled = rows(6)
    row = 4 * 3 * 2
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with StoreWriter(tmp_path, M) as writer:
            writer.add(ids[:2], digests[:2], local[:2], pooled[:2])
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 * row + 5, old[1]))
            with pytest.raises(BenchError, match="cannot write to the feature store") as error:
                writer.add(ids[2:], digests[2:], local[2:], pooled[2:])
            assert "errno 27" in error.value.found
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / LOCAL).stat().st_size == 2 * row
    with StoreWriter(tmp_path, M) as writer:
        writer.add(ids[2:], digests[2:], local[2:], pooled[2:])
    assert np.array_equal(FeatureStore(tmp_path).gather_pooled(ids).numpy(), pooled)


def test_another_identity_is_refused(tmp_path):
    filled(tmp_path)
    other = replace(M, transform="squash99")
    with pytest.raises(BenchError, match="holds other features") as error:
        StoreWriter(tmp_path, other).__enter__()
    assert "squash16" in error.value.found
    with StoreWriter(tmp_path, M):  # the failed writer let go of the lock
        pass


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(BenchError, match="not a feature store"):
        StoreWriter(tmp_path, M).__enter__()
    with pytest.raises(BenchError, match="there is no manifest"):
        FeatureStore(tmp_path / "absent")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BenchError, match="cannot write"):
        StoreWriter(tmp_path / "file" / "store", M).__enter__()


@pytest.mark.parametrize("name", [LOCAL, POOLED])
def test_missing_data_is_damage(tmp_path, name):
    filled(tmp_path)
    os.truncate(tmp_path / name, 10)
    with pytest.raises(BenchError, match="damaged"):
        FeatureStore(tmp_path)
    with pytest.raises(BenchError, match="damaged"):
        StoreWriter(tmp_path, M).__enter__()


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"id": "z"}',
        '{"id": "z", "sha256": "d", "extra": 1}',
        '{"id": "z", "sha256": "d", "sha256": "e"}',
        '{"id": 7, "sha256": "d"}',
        '{"id": "z", "sha256": true}',
        '{"id": "i0", "sha256": "d"}',
    ],
)
def test_a_foreign_line_in_the_index_is_damage(tmp_path, line):
    filled(tmp_path)
    lines = (tmp_path / INDEX).read_text().splitlines()
    lines[3] = line
    (tmp_path / INDEX).write_text("\n".join(lines) + "\n")
    with pytest.raises(BenchError, match="damaged"):
        FeatureStore(tmp_path)


def test_an_index_is_read_the_same_quickly_and_line_by_line():
    rng, path = np.random.default_rng(0), Path("index.jsonl")

    def found(read, data):
        try:
            index = read(data, path)
        except BenchError as error:
            return error.what
        return index.ids, [index.digest(row) for row in range(len(index.ids))], index.size

    names = ["a", "b/2.jpg", "with blank", "c.png"]
    for digests in (["0f" * 32] * 4, ["unknown"] * 4, ["ab", "unknown", "cd", "ef"]):
        sound = index_lines(names, digests)
        assert (_as_written(sound) is None) == (len(set(map(len, digests))) > 1)
        for _ in range(300):
            data = bytearray(sound)
            for at in rng.integers(0, len(data), rng.integers(0, 3)):
                data[at] = rng.choice(list(b' "\\\n\x7fab{}:,\xc3'))
            if rng.random() < 0.3:
                data[:] = data.replace(*[(b"a", b""), (b"b", b" b"), (b"c", b"a")][rng.integers(3)])
            whole = bytes(data[: data.rfind(b"\n") + 1])
            quick = _as_written(whole)
            if quick is not None:
                assert found(lambda data, path: _as_written(data), whole) == found(
                    _line_by_line, whole
                )


def test_the_manifest_survives_and_its_key_covers_everything(tmp_path):
    M.write(tmp_path)
    assert read_manifest(tmp_path) == M
    changes = {
        "dataset": "other",
        "backbone": "other",
        "weights_hash": "1" * 64,
        "transform": "other",
        "channels": 4,
        "grid": (2, 3),
        "precision": "bf16",
    }
    assert set(changes) == set(M.as_json())
    keys = {replace(M, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {M.key}) == len(changes) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema"),
        ({"chanels": 3}, "unknown key"),
        ({"channels": 0}, "not the manifest"),
        ({"channels": True}, "not the manifest"),
        ({"grid": [2]}, "not the manifest"),
        ({"grid": None}, "not the manifest"),
        ({"transform": "changed"}, "not the manifest"),
        ({"channels": None}, "not the manifest"),
    ],
)
def test_altered_manifests_are_refused(tmp_path, change, message):
    M.write(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BenchError) as error:
        read_manifest(tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_damaged_row_is_blamed_on_the_store(tmp_path, bad):
    ids, _, _ = filled(tmp_path)
    for name, kind, asked in ((LOCAL, "<f2", "check"), (POOLED, "<f4", "pooled")):
        values = np.fromfile(tmp_path / name, kind).reshape(len(ids), -1)
        values[3, 1], kept = bad, values[3, 1]
        values.tofile(tmp_path / name)
        source = StoredFeatures(FeatureStore(tmp_path))
        getattr(source, asked)(ids[:3])
        with pytest.raises(BenchError, match="store is damaged") as caught:
            getattr(source, asked)(ids)
        assert caught.value.found == "NaN or infinity for i3"
        assert f"features verify {tmp_path}" in caught.value.remedy
        values[3, 1] = kept
        values.tofile(tmp_path / name)


def test_finite_features_whose_sum_is_not_are_sound(tmp_path):
    filled(tmp_path)
    np.full((5, 3), 3e38, "<f4").tofile(tmp_path / POOLED)
    source = StoredFeatures(FeatureStore(tmp_path))
    assert torch.isfinite(source.pooled(source.store.ids)).all()
