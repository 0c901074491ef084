import types

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data import registry
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features import extract as extraction
from mlfsic_bench.features.backbones import registry as backbones
from mlfsic_bench.features.compute import parse_device
from mlfsic_bench.features.store.store import LOCAL, FeatureStore
from mlfsic_bench.splits import resolve
from mlfsic_bench.splits.split import Part, Split
from tests.features.feature_fakes import FolderDataset, make_images, small_backbone

COUNT = 9


def run(*args, env=None):
    return CliRunner().invoke(
        cli, ["features", *(str(a) for a in args)], env=env or {"MLFSIC_DATA": None}
    )


def ok(*args, env=None):
    result = run(*args, env=env)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A split, a data set and a backbone behind the real commands; says what was asked of them."""
    ids = make_images(tmp_path / "images", COUNT)
    asked = types.SimpleNamespace(split=None, root=None, weights=None, run=None, ids=ids)
    parts = {"base": ids[:4], "val": ids[4:6], "novel": ids[6:]}

    def split(name, *, data_root, dataset=None, available_only=False, min_pool=None):
        asked.split, asked.min_pool = (name, data_root, available_only), min_pool
        made = {
            key: Part(("a",), value if not available_only else value[:1], np.ones((len(value), 1)))
            for key, value in parts.items()
        }
        return Split("fake-v1", "0" * 64, "fake", "open", made)

    def dataset(name, root, spec=None):
        asked.root = (name, root)
        return FolderDataset(tmp_path / "images")

    def build(name, weights="default"):
        asked.weights = (name, weights)
        return small_backbone(1 if weights == "none" else 0)

    real = extraction.extract

    def extract(*args, **kwargs):
        asked.run = kwargs
        return real(*args, **kwargs)

    monkeypatch.setattr(resolve, "resolve_split", split)
    monkeypatch.setattr(registry, "dataset_of", dataset)
    monkeypatch.setattr(backbones, "known_spec", lambda name: name)
    monkeypatch.setattr(backbones, "build_backbone", build)
    monkeypatch.setattr(backbones, "find_builder", lambda spec: None)
    monkeypatch.setattr(extraction, "extract", extract)
    return asked


def extract_args(tmp_path, *more):
    return ("extract", "--split", "fake-v1", "--backbone", "small", "--cache", tmp_path, *more)


def stores(tmp_path):
    return sorted(p for p in tmp_path.iterdir() if p.name.startswith("fake-small-"))


def test_extract_info_verify(asked, tmp_path):
    out = ok(*extract_args(tmp_path, "--data-root", tmp_path / "images"))
    (folder,) = stores(tmp_path)
    assert str(folder) in out
    assert FeatureStore(folder).ids == asked.ids
    assert asked.split == ("fake-v1", tmp_path / "images", False)
    assert asked.root == ("fake", tmp_path / "images")
    assert asked.weights == ("small", "default")
    out = ok("info", folder)
    manifest = FeatureStore(folder).manifest
    for shown in ("fake", "small", "4 x 4", manifest.key, manifest.weights_hash, str(COUNT)):
        assert shown in out
    assert f"{COUNT} of {COUNT} images checked: equal" in ok("verify", folder)
    assert asked.weights == ("small", "default")
    assert f"3 of {COUNT} images checked: equal" in ok("verify", folder, "--sample", 3)
    values = np.fromfile(folder / LOCAL, "<f2")
    values.reshape(COUNT, -1)[2, 0] += 1
    values.tofile(folder / LOCAL)
    result = run("verify", folder)
    assert result.exit_code == 1
    assert f"1 of {COUNT} images differ" in result.output
    assert asked.ids[2] in result.output


@pytest.mark.parametrize(("part", "count"), [("base", 4), ("val", 2), ("novel", 3), ("all", 9)])
def test_part(asked, tmp_path, part, count):
    assert f"{count} images of fake-v1 ({part})" in ok(*extract_args(tmp_path, "--part", part))
    assert len(FeatureStore(stores(tmp_path)[0])) == count


def test_available_only_and_weights(asked, tmp_path):
    ok(*extract_args(tmp_path, "--available-only", "--weights", "none"))
    assert asked.split[2] is True
    assert asked.weights == ("small", "none")
    (folder,) = stores(tmp_path)
    assert len(FeatureStore(folder)) == 3
    ok("verify", folder, "--weights", "none")
    result = run("verify", folder)
    assert isinstance(result.exception, BenchError)
    assert "not made by this backbone" in result.exception.what


def test_workers_and_batch_size_reach_the_extraction(asked, tmp_path):
    ok(*extract_args(tmp_path, "--workers", 3, "--batch-size", 5))
    assert (asked.run["workers"], asked.run["batch_size"]) == (3, 5)


def test_precision(asked, tmp_path):
    out = ok(*extract_args(tmp_path, "--precision", "bf16"))
    assert "bf16 against fp32 on 9 images" in out
    ok(*extract_args(tmp_path))
    kinds = sorted(FeatureStore(f).manifest.precision for f in stores(tmp_path))
    assert kinds == ["bf16", "fp32"]


def test_cache_and_root_from_the_environment(asked, tmp_path):
    env = {"MLFSIC_CACHE": str(tmp_path / "elsewhere"), "MLFSIC_DATA": str(tmp_path)}
    ok("extract", "--split", "fake-v1", "--backbone", "small", env=env)
    assert len(stores(tmp_path / "elsewhere")) == 1
    assert asked.root == ("fake", tmp_path)
    ok("verify", stores(tmp_path / "elsewhere")[0], "--data-root", tmp_path / "other", env=env)
    assert asked.root == ("fake", tmp_path / "other")


def test_device(asked, tmp_path):
    ok(*extract_args(tmp_path, "--device", "cpu"))
    for args in (extract_args(tmp_path), ("verify", stores(tmp_path)[0])):
        result = run(*args, "--device", "cuda:99")
        assert isinstance(result.exception, BenchError)
        assert "there is no cuda:99" in result.exception.what


def test_info_of_no_store(tmp_path):
    result = run("info", tmp_path)
    assert isinstance(result.exception, BenchError)
    assert "there is no manifest" in result.exception.what


def test_min_pool_reaches_the_split(asked, tmp_path):
    ok(*extract_args(tmp_path))
    assert asked.min_pool is None
    ok(*extract_args(tmp_path, "--min-pool", 7))
    assert asked.min_pool == 7


def test_device_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parse_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert parse_device("auto").type == "cuda"


def test_info_of_a_cache_lists_its_stores(asked, tmp_path):
    cache = tmp_path / "cache"
    env = {"MLFSIC_CACHE": str(cache), "MLFSIC_DATA": None}
    assert "0 feature stores" in ok("info", env=env)
    for weights in ("default", "none"):
        ok("extract", "--split", "fake-v1", "--backbone", "small", "--weights", weights, env=env)
    first, second = sorted(cache.iterdir())
    (second / LOCAL).write_bytes(b"")
    for output in (ok("info", env=env), ok("info", cache)):
        assert f"{cache}: 2 feature stores" in output
        size = sum(path.stat().st_size for path in first.iterdir()) / 1e6
        assert f"{first.name}         9 images  {size:>10,.1f} MB" in output
        assert f"{second.name}  damaged: 0 bytes" in output
