"""Bad backbones, weights and label embeddings, and disks without room."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from mlfsic_bench.features.store.store import INDEX, LOCAL, POOLED
from tests.bad_input.cases import RUN_LEAVES, SCENES, STORE_LEAVES, as_file, case, main_ok
from tests.fakes.voc import write_voc

RUN = ["run", "protonet", *SCENES, "--out", "out", "--embeddings", "scenes"]


class Payload:
    """Pickled, this asks whoever unpickles it to make the folder `executed`."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file can grow beyond `room` bytes; the system refuses the write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes_none = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # what is imported now would stay cut off in this checkout
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_none
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _weights(change):
    from mlfsic_bench.features.backbones.scenes import shipped_weights

    weights = OrderedDict(shipped_weights())
    change(weights)
    torch.save(weights, "weights.pt")
    return [*RUN, "--weights", "./weights.pt"]


@case("an unknown backbone", "'resnet5O'", "did you mean 'resnet50'")
def _backbone(folder, monkeypatch):
    return ["run", "random", *SCENES[:3], "resnet5O", "--out", "out"]


@case("two networks, one unknown", "unknown backbone 'scenes-pach'", "did you mean 'scenes-patch'")
def _second_unknown(folder, monkeypatch):
    return ["run", "random", *SCENES[:3], "scenes-small+scenes-pach", "--out", "out"]


@case("the same network twice", "'scenes-small' twice", "--backbone")
def _twice(folder, monkeypatch):
    return ["run", "random", *SCENES[:3], "scenes-small+scenes-small", "--out", "out"]


@case("a network without a name", "an empty name", "joined by +")
def _nameless(folder, monkeypatch):
    return ["features", "extract", *SCENES[:3], "scenes-small+"]


@case("one weight file for two networks", "w.pt", "for scenes-small, scenes-patch", "1 value")
def _one_for_two(folder, monkeypatch):
    names = "scenes-small+scenes-patch"
    return ["run", "random", *SCENES[:3], names, "--weights", "w.pt", "--out", "out"]


@case("a weight file with a + for two networks", "3 values", "must be renamed")
def _plus_in_path(folder, monkeypatch):
    names = "scenes-small+scenes-patch"
    return ["features", "extract", *SCENES[:3], names, "--weights", "a+b.pt+default"]


@case("weights that are not there", "nowhere.pt", "--weights")
def _no_weights(folder, monkeypatch):
    return [*RUN, "--weights", "nowhere.pt"]


@case("weights that are a malicious pickle", "weights.pt", "nothing of it was loaded")
def _pickle(folder, monkeypatch):
    torch.save({"0.weight": Payload()}, "weights.pt")
    return [*RUN, "--weights", "weights.pt"]


@case("weights of wrong shapes", "weights.pt", "0.weight", "(2, 2)")
def _shapes(folder, monkeypatch):
    return _weights(lambda w: w.update({"0.weight": torch.ones(2, 2)}))


@case("weights with an entry too few and one too many", "missing: 0.weight", "unexpected: extra")
def _entries(folder, monkeypatch):
    return _weights(lambda w: w.update({"extra": w.pop("0.weight")}))


@case("weights with NaN", "scenes/", "NaN", leaves=(*RUN_LEAVES, *STORE_LEAVES))
def _nan(folder, monkeypatch):
    return _weights(lambda w: w.update({"0.weight": w["0.weight"] * float("nan")}))


@case("weights with NaN, computed live", "backbone", "scenes/", "NaN", leaves=RUN_LEAVES)
def _nan_live(folder, monkeypatch):
    return [*_weights(lambda w: w.update({"0.weight": w["0.weight"] * float("nan")})),
            "--features", "live"]  # fmt: skip


@case("weights with NaN in one of two networks", "backbone", "scenes/", "NaN", leaves=RUN_LEAVES)
def _nan_in_one(folder, monkeypatch):
    _weights(lambda w: w.update({"0.weight": w["0.weight"] * float("nan")}))
    pair = ["--backbone", "scenes-patch+scenes-small", "--weights", "default+./weights.pt"]
    return [*RUN, *pair, "--features", "live"]


@case("a store with NaN in one of two networks", "cache/scenes-scenes-small-", "NaN", "scenes/",
      leaves=("again", "again/*", "cache/scenes-scenes-patch-*"))  # fmt: skip
def _nan_in_one_store(folder, monkeypatch):
    _spoilt(folder, POOLED, "<f4")
    pair = ["--backbone", "scenes-patch+scenes-small"]
    return ["run", "protonet", *SCENES, *pair, "--cache", "cache", "--out", "again"]


@case("no GPU", "--device cpu")
def _no_gpu(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return [*RUN, "--device", "cuda"]


@case("no GPU for an extraction", "--device cpu")
def _no_gpu_extract(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return ["features", "extract", *SCENES[:4], "--device", "cuda"]


@case("a device that is none", "'gpu'", "auto, cpu, cuda")
def _device(folder, monkeypatch):
    return ["features", "extract", *SCENES[:4], "--device", "gpu"]


@case("a device that a backbone does not compute on", "'meta'", "cpu, cuda or cuda:N")
def _meta(folder, monkeypatch):
    return ["features", "extract", *SCENES[:4], "--device", "meta"]


@case("a device of another kind", "'mps'", "cpu, cuda or cuda:N")
def _mps(folder, monkeypatch):
    return ["features", "extract", *SCENES[:4], "--device", "mps"]


@case("a store that is none", "nowhere")
def _no_store(folder, monkeypatch):
    return ["features", "info", "nowhere"]


@case("a damaged store", "cache/scenes-scenes-small-")
def _damaged(folder, monkeypatch):
    main_ok(*RUN)
    (store,) = (path.parent for path in (folder / "cache").glob("*/manifest.json"))
    (store / LOCAL).write_bytes((store / LOCAL).read_bytes()[:1000])
    return ["features", "info", f"cache/{store.name}"]


@case("a store with NaN in a pooled feature", "cache/scenes-scenes-small-", "NaN", "scenes/",
      "features verify ", leaves=RUN_LEAVES)  # fmt: skip
def _nan_pooled(folder, monkeypatch):
    return _spoilt(folder, POOLED, "<f4")


@case("a store with NaN in its maps", "cache/scenes-scenes-small-", "NaN", "scenes/",
      "features verify ", leaves=("again", "again/*"))  # fmt: skip
def _nan_local(folder, monkeypatch):
    _spoilt(folder, LOCAL, "<f2")
    text = """
from mlfsic_bench.methods.contract import Method
class Maps(Method):
    name = "maps"
    def adapt(self, support):
        p = support.targets.T @ support.images.local().mean((2, 3))
        return lambda query: query.pooled() @ p.T
"""
    spec = as_file(folder / "maps.py", text) + ":Maps"
    return ["run", spec, *SCENES, "--cache", "cache", "--out", "again"]


def _spoilt(folder, name, kind):
    """A store in the cache whose every row holds a NaN, and the run that made it, not yet done."""
    main_ok(*RUN, "--cache", "cache")
    (store,) = (path.parent for path in (folder / "cache").glob("*/manifest.json"))
    values = np.fromfile(store / name, kind)
    values[:: values.size // 500] = np.nan
    values.tofile(store / name)
    shutil.rmtree(folder / "out")
    return [*RUN, "--cache", "cache"]


def _index(folder):
    main_ok(*RUN)
    (store,) = (path.parent for path in (folder / "cache").glob("*/manifest.json"))
    return store, ["features", "info", f"cache/{store.name}"]


@case("a folder for the index of a store", "index.jsonl", "a folder")
def _index_folder(folder, monkeypatch):
    store, args = _index(folder)
    (store / INDEX).unlink()
    (store / INDEX).mkdir()
    return args


@case("an index nested too deep", "index.jsonl line 1", "RecursionError")
def _index_deep(folder, monkeypatch):
    store, args = _index(folder)
    (store / INDEX).write_text("[" * 200_000 + "\n")
    return args


@case("a folder for the maps of a store", "local.f16")
def _maps_folder(folder, monkeypatch):
    store, args = _index(folder)
    (store / LOCAL).unlink()
    (store / LOCAL).mkdir()
    return args


@case("a store checked with other weights", "was not made by this backbone", "weights_hash")
def _other_weights(folder, monkeypatch):
    main_ok(*RUN)
    (store,) = (path.parent for path in (folder / "cache").glob("*/manifest.json"))
    return ["features", "verify", f"cache/{store.name}", "--weights", "none"]


def _words(folder, text):
    return [*RUN[:-1], as_file(folder / "words.txt", text)]


@case("a word file that is not there", "nowhere.txt")
def _no_words(folder, monkeypatch):
    return [*RUN[:-1], "nowhere.txt"]


@case("a label without a vector", "words.txt", "missing: ")
def _no_vector(folder, monkeypatch):
    return _words(folder, "disc 1 2\nplain 2 3\n")


@case("NaN in a word file", "words.txt line 2", "'nan'")
def _nan_words(folder, monkeypatch):
    return _words(folder, "plain 1 2\ndisc 1 nan\n")


@case("a word file that promises too much", "words.txt line 1", "from 1 to 100000")
def _promise(folder, monkeypatch):
    return _words(folder, "999999999999 999999999999\nplain 1 2\n")


@case("a word file that promises more than can be read", "words.txt line 1", "from 1 to 100000")
def _long_promise(folder, monkeypatch):
    return _words(folder, "1 " + "9" * 5000 + "\nplain 1 2\n")


@case("a pipe for a word file", "words.txt", "not a regular file")
def _pipe(folder, monkeypatch):
    os.mkfifo(folder / "words.txt")
    return [*RUN[:-1], "words.txt"]


@case("a device for weights", "/dev/zero", "not a regular file")
def _zeros(folder, monkeypatch):
    return [*RUN, "--weights", "/dev/zero"]


@case("a ragged word file", "words.txt line 2")
def _ragged(folder, monkeypatch):
    return _words(folder, "plain 1 2\ndisc 1\n")


@case("a binary word file", "words.txt", "a zip archive", "unpack it")
def _binary(folder, monkeypatch):
    (folder / "words.txt").write_bytes(b"PK\3\4\0\0\0\0\0\0\n")
    return [*RUN[:-1], "words.txt"]


@case("an empty word file", "words.txt")
def _empty(folder, monkeypatch):
    return _words(folder, "")


@case("a folder for a word file", "words")
def _folder(folder, monkeypatch):
    (folder / "words").mkdir()
    return [*RUN[:-1], "./words"]


@case("a full disk while a split is written", "new.json", "errno 27", "space",
      around=lambda: full_disk(500))  # fmt: skip
def _full_split(folder, monkeypatch):
    write_voc(folder)
    return ["splits", "build", "voc-8-6-6-v1", "--data-root", ".", "--out", "new.json"]


@case("a full disk while episodes are written", "new.json", "errno 27",
      around=lambda: full_disk(500))  # fmt: skip
def _full_episodes(folder, monkeypatch):
    return ["episodes", "sample", SCENES[1], "--count", "3", "--out", "new.json"]


@case("a full disk while features are written", "feature store", "errno 27",
      leaves=(*RUN_LEAVES, *STORE_LEAVES), around=lambda: full_disk(50_000))  # fmt: skip
def _full_store(folder, monkeypatch):
    return RUN


@case("a full disk at the start of a run", "record.json", "errno 27", leaves=("out", "out/.lock"),
      around=lambda: full_disk(500))  # fmt: skip
def _full_start(folder, monkeypatch):
    return ["run", "random", *SCENES, "--out", "out"]


@case("a full disk at the end of a run", "scores.npz", "errno 27",
      leaves=(*RUN_LEAVES, "out/parts/*"), around=lambda: full_disk(20_000))  # fmt: skip
def _full_run(folder, monkeypatch):
    return ["run", "random", *SCENES[:-1], "60", "--out", "out"]


@case("a full disk while a table is written", "table.csv", "errno 27",
      around=lambda: full_disk(50))  # fmt: skip
def _full_table(folder, monkeypatch):
    main_ok("run", "random", *SCENES, "--out", "out")
    return ["table", "out", "--format", "csv", "--out", "table.csv"]
