"""Feature packs: the same scores and the same key from one file, without images or backbone."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli, main
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.features.given import GivenFeatures
from mlfsic_bench.features.packs.manifest import PackedSplit, from_bytes, scale_of, to_bytes
from mlfsic_bench.features.packs.pack import Pack
from mlfsic_bench.features.packs.writer import write_pack
from mlfsic_bench.features.store.manifest import Manifest
from mlfsic_bench.features.store.store import FeatureStore
from mlfsic_bench.features.store.writer import StoreWriter
from mlfsic_bench.results.reopen import RunPaths, reopen
from mlfsic_bench.splits.files import to_split
from mlfsic_bench.splits.resolve import shipped_file
from tests.hostile.npz import archive, members

SPLIT = "scenes-12-6-6-v1"
SHORT = {
    "epochs": "1", "warmup_epochs": "1", "steps_per_epoch": "2", "select_every": "1",
    "d_j": "16", "d_mlp": "16", "n_a": "2",
}  # fmt: skip


def store_of(folder: Path, name: str = "one", rows: int = 600, dim: int = 0) -> FeatureStore:
    """A store of rows that follow from its name."""
    rng = np.random.default_rng(len(name))
    own = {"vector": "projection", "dim": dim} if dim else {}
    manifest = Manifest("scenes", name, "0" * 64, "t", 3, (2, 2), **own)
    ids = [f"scenes/{i:06d}" for i in range(rows)]
    with StoreWriter(folder / name, manifest) as writer:
        writer.add(
            ids,
            ["f" * 64] * rows,
            rng.normal(size=(rows, 4, 3)).astype("f4"),
            rng.normal(size=(rows, dim or 3)).astype("f4"),
        )
    return FeatureStore(folder / name)


def pack_of(path: Path, *stores: FeatureStore, ids: tuple[str, ...] = (), **said: object) -> Pack:
    split = PackedSplit(id=SPLIT, hash=shipped_file(SPLIT).hash or "", part="base")
    write_pack(
        path, stores, ids or stores[0].ids,
        split=split, split_file=None, weights="default", **said,  # type: ignore[arg-type]
    )  # fmt: skip
    return Pack(path)


def export(out: Path, *options: str) -> Result:
    """`features export`, which must succeed."""
    command = ["features", "export", "--out", str(out), *options]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of all parts, as somebody else would make it."""
    out = tmp_path_factory.mktemp("pack") / "all.mlfsic-features"
    export(out, "--split", SPLIT, "--backbone", "scenes-small", "--part", "all", "--episodes", "2")
    return out


def plan(method: str, out: Path, **options: object) -> RunPlan:
    return RunPlan(method, episodes=2, device="cpu", out=out, **options)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["protonet", "word-guided-attention"])
def test_a_pack_gives_the_key_and_the_scores_of_the_images(
    method: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    settings = SHORT if method != "protonet" else {}
    images = plan(
        method, tmp_path / "images", split=SPLIT, backbone="scenes-small", settings=settings
    )
    of_images = run_method(images)
    shutil.copy(whole, tmp_path / "sent.mlfsic-features")
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "elsewhere"))

    def none(*_: object) -> None:
        raise AssertionError("a run of a pack needs neither images nor networks")

    monkeypatch.setattr("mlfsic_bench.features.backbones.registry.build_backbones", none)
    monkeypatch.setattr("mlfsic_bench.features.extract.extract", none)
    packed = plan(
        method, tmp_path / "pack", split="", features_pack=tmp_path / "sent.mlfsic-features",
        settings=settings,
    )  # fmt: skip
    of_pack = run_method(packed)
    one, two = read_record(of_images), read_record(of_pack)
    assert one.key == two.key
    assert (of_images / "scores.npz").read_bytes() == (of_pack / "scores.npz").read_bytes()
    assert two.audit_status == "passed"
    assert one.features is not None
    assert two.features is not None
    assert (one.features.source, two.features.source) == (None, "pack")
    assert one.features == two.features.model_copy(update={"source": None})
    assert any("of a pack" in note for note in two.notes)
    again = reopen(of_pack, RunPaths(features_pack=whole))
    assert again.record.key == two.key


@pytest.mark.slow
def test_a_training_method_names_what_a_pack_of_novel_images_lacks(tmp_path: Path) -> None:
    out = tmp_path / "novel.mlfsic-features"
    export(out, "--split", SPLIT, "--backbone", "scenes-small", "--episodes", "2", "--pooled-only")
    lacking = plan("word-guided-attention", tmp_path / "run", split="", features_pack=out)
    with pytest.raises(BenchError, match="lacks features that this run needs") as caught:
        run_method(lacking)
    assert "3,000 of 3,000 images of base" in caught.value.found
    assert "features export --split scenes-12-6-6-v1 --part all" in caught.value.remedy
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_rounded_pack_measures_itself_and_is_another_run(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.mlfsic-features"
    result = export(
        out, "--features-pack", str(whole), "--episodes", "2", "--precision", "int8",
        "--pooled-only", "--made-by", "A. Person",
    )  # fmt: skip
    assert "protonet on 2 episodes, exact and int8:" in result.output
    manifest = Pack(out).manifest
    assert manifest.measured is not None
    change = manifest.measured.metrics["macro_ap"]
    exact = read_record(
        run_method(plan("protonet", tmp_path / "e", split=SPLIT, features_pack=whole))
    )
    small = read_record(run_method(plan("protonet", tmp_path / "s", split="", features_pack=out)))
    assert exact.metrics["macro_ap"].mean == pytest.approx(change.exact)
    assert small.metrics["macro_ap"].mean == pytest.approx(change.packed)
    assert exact.key != small.key
    assert small.features is not None
    assert str(small.features.rounded).startswith("int8 ")
    assert any("rounded to int8" in note for note in small.notes)
    assert small.features.title == "scenes-small (feature pack, rounded to int8)"
    for precision in ("exact", "int8"):
        again = CliRunner().invoke(
            cli,
            ["features", "export", "--features-pack", str(out), "--precision", precision,
             "--out", str(tmp_path / "again.mlfsic-features")],
        )  # fmt: skip
        assert "are rounded" in str(again.exception)
        assert not (tmp_path / "again.mlfsic-features").exists()


@pytest.mark.parametrize("change", [lambda b: b + b, lambda b: b"x" + b, lambda b: b + b"x"])
def test_a_pack_is_one_archive_from_the_first_byte_to_the_last(change: Any, tmp_path: Path) -> None:
    pack_of(tmp_path / "a", store_of(tmp_path))
    (tmp_path / "b").write_bytes(change((tmp_path / "a").read_bytes()))
    with pytest.raises(BenchError, match="or two archives"):
        Pack(tmp_path / "b")


def test_equal_features_give_equal_bytes_and_every_row_comes_back(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    one = pack_of(tmp_path / "a", store)
    pack_of(tmp_path / "b", store)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    ids = ["scenes/000599", "scenes/000000", "scenes/000300"]
    (packed,) = one.networks
    assert torch.equal(packed.gather_pooled(ids), store.gather_pooled(ids))
    assert torch.equal(packed.gather_local(ids), store.gather_local(ids))
    assert all(packed.digest(i) == store.digest(i) for i in store.ids)
    assert all(np.asarray(array).flags.aligned for array in (packed._local, packed._pooled))
    assert one.wrong_hashes() == []


def test_several_networks_are_joined_as_their_stores_are(tmp_path: Path) -> None:
    stores = store_of(tmp_path, "one"), store_of(tmp_path, "three", dim=5)
    pack_of(tmp_path / "a", *stores, ids=stores[0].ids[:4])
    given = GivenFeatures(tmp_path / "a")
    made_by = given.describe()
    assert (made_by.name, made_by.channels, made_by.dim) == ("one+three", 6, 8)
    source = given.source(torch.device("cpu"))
    ids = list(stores[0].ids[:4])
    expected = torch.cat([store.gather_pooled(ids) for store in stores], 1)
    assert torch.equal(source.pooled(ids), expected)
    assert source.local(ids).shape == (4, 6, 2, 2)


@pytest.mark.parametrize("kept", ["fp16", "int8"])
def test_rounded_values_are_near(kept: str, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    (packed,) = pack_of(tmp_path / "a", store, kept=kept).networks
    ids = list(store.ids)
    off = (packed.gather_pooled(ids) - store.gather_pooled(ids)).abs().max()
    assert 0 < off < (2e-3 if kept == "fp16" else 2e-2)
    off = (packed.gather_local(ids) - store.gather_local(ids)).abs().max()
    assert off < 2e-2


def test_eight_bits_keep_the_ends_of_every_channel_and_one_that_never_changes() -> None:
    values = np.array([[0, -3, 7], [1, 5, 7], [0.5, 0, 7]], "f4")
    scale = scale_of(iter([values[:1], values[1:]]))
    back = from_bytes(to_bytes(values, scale), scale)
    np.testing.assert_allclose(back[:2], values[:2], atol=1e-6)
    np.testing.assert_allclose(back, values, atol=8 / 255 / 2 + 1e-6)


def test_verify_and_info_of_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack_of(tmp_path / "a", store_of(tmp_path))
    content = members(tmp_path / "a")
    content["pooled-0.npy"] = content["pooled-0.npy"][:-1] + b"\1"
    archive(tmp_path / "bad", content)
    for name, code, says in (("a", 0, "600 of 600"), ("bad", 1, "pooled-0.npy: another SHA-256")):
        with pytest.raises(SystemExit) as end:
            main(["features", "verify", str(tmp_path / name)])
        assert (end.value.code, says in capsys.readouterr().out) == (code, True)
    with pytest.raises(SystemExit):
        main(["features", "info", str(tmp_path / "a"), "--format", "json"])
    about = json.loads(capsys.readouterr().out)
    assert about["networks"][0]["backbone"] == "one"
    assert about["images"] == 600


def test_a_pack_carries_a_split_that_does_not_ship(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    content = shipped_file(SPLIT)
    of = PackedSplit(id=content.id, hash=content.hash or "", part="base")
    write_pack(tmp_path / "a", [store], store.ids, split=of, split_file=content, weights="default")
    assert GivenFeatures(tmp_path / "a").split_file() == content
    assert zipfile.ZipFile(tmp_path / "a").testzip() is None
    with pytest.raises(BenchError, match="another data set"):
        GivenFeatures(tmp_path / "a").require(
            dataclasses.replace(to_split(content), dataset="other"), {}
        )


def test_a_store_of_the_cache_is_no_pack(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    with pytest.raises(BenchError, match="that this program extracted"):
        GivenFeatures(store.folder)
