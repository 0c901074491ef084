"""Features that another program made become a store like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.cli.main import main
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.features.imported import import_features, wrong_content
from mlfsic_bench.features.store.store import POOLED, UNKNOWN, FeatureStore
from mlfsic_bench.leaderboard.build import stated
from mlfsic_bench.results.result import open_result
from mlfsic_bench.splits.resolve import resolve_split

SPLIT = "scenes-12-6-6-v1"
SAID = {"dataset": "scenes", "made_by": "CLIP ViT-B/16", "pretraining": "400 million pairs"}
IDS = np.array([f"scenes/{i:06d}" for i in range(300)])
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(300, 5)).astype("f4")
MAPS = RNG.normal(size=(300, 5, 2, 3)).astype("f4")


def imported(file: Path, out: Path, name: str = "mine", **said: str) -> FeatureStore:
    return import_features(file, name=name, out=out, **{**SAID, **said})  # type: ignore[arg-type]


def test_every_kind_of_file_makes_the_same_store(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", ids=IDS, vectors=VECTORS)
    folder = tmp_path / "folder"
    folder.mkdir()
    np.save(folder / "vectors.npy", VECTORS[::-1].astype("f8"))
    (folder / "ids.txt").write_text("\n".join(IDS[::-1]))
    stores = [imported(tmp_path / "a.npz", tmp_path / "1"), imported(folder, tmp_path / "2")]
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"id": IDS.tolist(), "vector": VECTORS.tolist()})
    parquet.write_table(table, tmp_path / "a.parquet")
    stores.append(imported(tmp_path / "a.parquet", tmp_path / "3"))
    assert len({store.manifest.key for store in stores}) == 1
    for store in stores:
        np.testing.assert_array_equal(store.gather_pooled(list(IDS)).numpy(), VECTORS)
        assert not store.has_maps
        assert {store.digest(i) for i in store.ids} == {UNKNOWN}
        with pytest.raises(BenchError, match="no local maps"):
            store.gather_local(list(IDS[:2]))


def test_another_content_is_another_store(tmp_path: Path) -> None:
    keys = set()
    for n, change in enumerate([VECTORS, VECTORS + 1, VECTORS[:, :4]]):
        np.savez(tmp_path / "a.npz", ids=IDS, vectors=change)
        keys.add(imported(tmp_path / "a.npz", tmp_path / str(n)).manifest.weights_hash)
    np.savez(tmp_path / "a.npz", ids=IDS[::-1], vectors=VECTORS)
    keys.add(imported(tmp_path / "a.npz", tmp_path / "other").manifest.weights_hash)
    assert len(keys) == 4


def test_maps_come_back_and_means_are_checked(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ids=IDS, vectors=MAPS.mean((2, 3)), maps=MAPS)
    store = imported(tmp_path / "a.npz", tmp_path / "s", vector="mean")
    assert (store.manifest.grid, store.manifest.vector) == ((2, 3), "mean")
    local = store.gather_local(list(IDS)).numpy()
    np.testing.assert_allclose(local, MAPS, atol=2e-3)
    assert wrong_content(store) is None
    np.savez(tmp_path / "b.npz", ids=IDS, vectors=VECTORS, maps=MAPS)
    with pytest.raises(BenchError, match="can't be imported") as caught:
        imported(tmp_path / "b.npz", tmp_path / "t", vector="mean")
    assert "scenes/000000" in caught.value.found
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("vectors", "maps"),
    [((3, 70_000), None), ((3, 4), (3, 70_000, 1, 1)), ((3, 4), (3, 1, 1, 70_000))],
)
def test_what_no_store_can_hold_leaves_nothing_behind(
    vectors: tuple[int, ...], maps: tuple[int, ...] | None, tmp_path: Path
) -> None:
    arrays = {"ids": IDS[:3], "vectors": np.zeros(vectors, np.float32)}
    if maps:
        arrays["maps"] = np.zeros(maps, np.float32)
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BenchError, match="can't be imported"):
        imported(tmp_path / "a.npz", tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["resnet50", "a+b", "../x", "timm:x", ""])
def test_a_name_is_their_own(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ids=IDS, vectors=VECTORS)
    with pytest.raises(BenchError, match="can't be called"):
        imported(tmp_path / "a.npz", tmp_path / "s", name=name)


def test_verify_finds_a_changed_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", ids=IDS, vectors=VECTORS)
    store = imported(tmp_path / "a.npz", tmp_path / "s")
    for code, says in ((0, "300 of 300 images checked: equal"), (1, "content hash")):
        with pytest.raises(SystemExit) as end:
            main(["features", "verify", str(store.folder)])
        output = capsys.readouterr()
        assert (end.value.code, says in output.out) == (code, True)
        assert "there is no network to compare it with" in output.err
        data = (store.folder / POOLED).read_bytes()
        (store.folder / POOLED).write_bytes(b"\1" + data[1:])


@pytest.mark.slow
def test_a_run_says_what_made_its_features_and_so_does_the_board(tmp_path: Path) -> None:
    novel = resolve_split(SPLIT, data_root=None).novel
    rng = np.random.default_rng(1)
    vectors = novel.targets @ rng.normal(size=(len(novel.labels), 8))
    np.savez(tmp_path / "a.npz", ids=np.array(novel.image_ids), vectors=vectors)
    store = imported(tmp_path / "a.npz", tmp_path / "s", name="my-clip")
    plan = RunPlan(
        "protonet", SPLIT, features_pack=store.folder, episodes=2, device="cpu",
        out=tmp_path / "run",
    )  # fmt: skip
    record = read_record(run_method(plan))
    assert record.features is not None
    assert (record.features.source, record.features.grid) == ("imported", (0, 0))
    assert any("made by: CLIP ViT-B/16; pre-training: 400 mil" in note for note in record.notes)
    said = stated([open_result(tmp_path / "run")])
    assert (said.backbone, said.pretraining) == ("my-clip (imported features)", None)
