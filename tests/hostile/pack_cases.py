"""Hostile feature packs and files of features to import."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.hashing import hash_bytes
from tests.hostile.cases import Command, Payload, hostile
from tests.hostile.npz import archive, header, members, npy, patched, raw_npy
from tests.hostile.sound import STORE_IDS

PACK = Path("x.mlfsic-features")
INFO = ["features", "info", str(PACK)]
RUN = ["run", "protonet", "--features-pack", str(PACK), "--out", "out"]
READ = "is not a readable feature pack"
Content = dict[str, bytes]


def _of(sound: Path) -> Content:
    return members(sound / "sound.mlfsic-features")


def _seal(content: Content, change: Callable[[dict[str, Any]], object] | None = None) -> Content:
    """The content with the hashes of its members in the manifest."""
    value = json.loads(content["manifest.json"])
    value["files"] = {n: hash_bytes(data) for n, data in content.items() if n != "manifest.json"}
    if change:
        change(value)
    return {**content, "manifest.json": json.dumps(value).encode()}


def _pack(
    name: str, *says: str, change: Callable[[Content], object], seal: bool = True,
    command: list[str] = INFO,
) -> None:  # fmt: skip
    @hostile(f"a pack with {name}", *says)
    def _case(sound: Path) -> Command:
        content = _of(sound)
        change(content)
        archive(PACK, _seal(content) if seal else content)
        return command


def _float(rows: int, value: float) -> bytes:
    return npy(np.full((rows, 4), value, "<f4"))


_pack("a member too many", READ, "evil", change=lambda c: c.update({"evil.npy": b"x"}))
_pack("a name that climbs", "manifest.json", change=lambda c: c.update({"../../evil.npy": b"x"}))
_pack("no index", READ, change=lambda c: c.pop("index.jsonl"))
_pack("no manifest", READ, change=lambda c: c.pop("manifest.json"), seal=False)
_pack(
    "a manifest that is not JSON", READ, seal=False,
    change=lambda c: c.update({"manifest.json": b"{"}),
)  # fmt: skip
_pack(
    "a manifest of brackets", READ, seal=False,
    change=lambda c: c.update({"manifest.json": b"[" * 100_000}),
)  # fmt: skip
_pack(
    "a pickle for an array", READ, "pooled-0.npy",
    change=lambda c: c.update({"pooled-0.npy": npy(np.array([Payload()], object))}),
)  # fmt: skip
_pack(
    "a shape that its data has not", READ, "size",
    change=lambda c: c.update({"pooled-0.npy": raw_npy(header("|u1", (3, 4)), b"123")}),
)  # fmt: skip
_pack(
    "an array of 10^18 rows", READ,
    change=lambda c: c.update({"pooled-0.npy": raw_npy(header("|u1", (10**18, 4)), b"1")}),
)  # fmt: skip
_pack(
    "floats for bytes", READ, "<f4",
    change=lambda c: c.update({"pooled-0.npy": _float(3, 1)}),
)  # fmt: skip
_pack(
    "an image twice", "twice",
    change=lambda c: c.update({"index.jsonl": b'{"id": "a", "sha256": "b"}\n' * 3}),
)  # fmt: skip
_pack(
    "too few images", READ, "has 1 images",
    change=lambda c: c.update({"index.jsonl": b'{"id": "a", "sha256": "b"}\n'}),
)  # fmt: skip
_pack(
    "an array of other bytes",
    "the feature pack is damaged",
    "pooled-0-scale.npy",
    change=lambda c: c.update({"pooled-0-scale.npy": _float(2, 7)}),
    seal=False,
    command=RUN,
)


@hostile("a pack with NaN for a scale", "NaN or infinity")
def _scale(sound: Path) -> Command:
    from mlfsic_bench.features.packs.pack import Pack

    archive(PACK, _seal({**_of(sound), "pooled-0-scale.npy": _float(2, np.nan)}))
    return lambda: Pack(PACK).networks[0].gather_pooled(STORE_IDS)


_pack(
    "a split that is none", READ, "split.json.xz",
    change=lambda c: c.update({"split.json.xz": b"no xz"}), command=RUN,
)  # fmt: skip


@hostile("a pack whose split is 1 GB of zeros", READ, "more than")
def _bomb(sound: Path) -> Command:
    import lzma

    packer = lzma.LZMACompressor(preset=0)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 10)) + packer.flush()
    archive(PACK, _seal({**_of(sound), "split.json.xz": data}))
    return RUN


@hostile("a pack that is compressed", READ, "is compressed")
def _compressed(sound: Path) -> Command:
    archive(PACK, _of(sound), zipfile.ZIP_DEFLATED)
    return INFO


@hostile("a pack whose members lie about their size", READ)
def _sizes(sound: Path) -> Command:
    # in the central directory: both sizes of every member
    patched(PACK, _of(sound), b"PK\x01\x02", 20, struct.pack("<LL", 1 << 31, 1 << 31))
    return INFO


@hostile("a pack that is cut off", READ)
def _cut(sound: Path) -> Command:
    PACK.write_bytes((sound / "sound.mlfsic-features").read_bytes()[:-100])
    return INFO


@hostile("a pack that is empty", READ)
def _empty(sound: Path) -> Command:
    PACK.write_bytes(b"")
    return INFO


@hostile("a pack that is a pipe", "not a readable feature pack")
def _pipe(sound: Path) -> Command:
    os.mkfifo(PACK)
    return RUN


@hostile("a pack of another data set", "another data set")
def _other(sound: Path) -> Command:
    def change(value: dict[str, Any]) -> None:
        value |= {"dataset": "voc", "networks": [_resealed(value, dataset="voc")]}

    archive(PACK, _seal(_of(sound), change))
    return RUN


@hostile("a pack whose backbone is code", "unknown backbone in a file")
def _code(sound: Path) -> Command:
    Path("evil.py").write_text("import os\nos.mkdir('executed')\n")

    def change(value: dict[str, Any]) -> None:
        value |= {"kept": "exact", "networks": [_resealed(value, backbone="evil.py:build")]}

    content = {n: data for n, data in _of(sound).items() if "local" not in n and "scale" not in n}
    content["pooled-0.npy"] = _float(3, 1)
    value = json.loads(content["manifest.json"]) | {"maps": False}
    content["manifest.json"] = json.dumps(value).encode()
    archive(PACK, _seal(content, change))
    return ["features", "verify", str(PACK), "--sample", "1"]


def _resealed(value: dict[str, Any], **changed: object) -> dict[str, Any]:
    from mlfsic_bench.hashing import hash_json

    network = {**value["networks"][0], **changed}
    own = {k: v for k, v in network.items() if k not in ("schema", "key", "layout")}
    return {**network, "key": hash_json({"schema": 1, **own})}


IMPORT = [
    "--name", "theirs", "--dataset", "scenes", "--made-by", "x", "--pretraining", "x",
    "--out", "store",
]  # fmt: skip
BAD = "can't be imported"


def _import(name: str, *says: str, content: Content, method: int = zipfile.ZIP_STORED) -> None:
    @hostile(f"an import of {name}", BAD, *says)
    def _case(sound: Path) -> Command:
        archive(Path("f.npz"), content, method)
        return ["features", "import", "f.npz", *IMPORT]


IDS = npy(np.array(["a", "b"]))
VECTORS = npy(np.ones((2, 3), "<f4"))
_import("no ids", "no ids", content={"vectors.npy": VECTORS})
_import("objects", "'|O'", content={"ids.npy": npy(np.array([Payload(), 1], object)),
                                    "vectors.npy": VECTORS})  # fmt: skip
_import("numbers for ids", "not text", content={"ids.npy": npy(np.arange(2)),
                                                "vectors.npy": VECTORS})  # fmt: skip
_import("whole numbers", "not float", content={
    "ids.npy": IDS, "vectors.npy": npy(np.ones((2, 3), int))})  # fmt: skip
_import("NaN", "NaN or infinity for a", content={
    "ids.npy": IDS, "vectors.npy": npy(np.full((2, 3), np.nan, "<f4"))})  # fmt: skip
_import("an id twice", "'a' twice", content={
    "ids.npy": npy(np.array(["a", "a"])), "vectors.npy": VECTORS})  # fmt: skip
_import("an id that climbs", "'../a'", content={
    "ids.npy": npy(np.array(["../a", "b"])), "vectors.npy": VECTORS})  # fmt: skip
_import("a row too few", "beside 2 ids", content={
    "ids.npy": IDS, "vectors.npy": npy(np.ones((1, 3), "<f4"))})  # fmt: skip
LARGE = npy(np.full((2, 1, 1, 1), 1e6))
_import("large maps", "float16", content={
    "ids.npy": IDS, "vectors.npy": VECTORS, "maps.npy": LARGE})  # fmt: skip
_import("a member too many", "the arrays ids, evil", content={"ids.npy": IDS, "evil.npy": VECTORS})
_import(
    "10^9 rows that are not there", "another size",
    content={"ids.npy": IDS, "vectors.npy": raw_npy(header("<f4", (10**9, 3)), bytes(24))},
    method=zipfile.ZIP_DEFLATED,
)  # fmt: skip


@hostile("an import of a bomb", BAD, "not text")
def _zeros(sound: Path) -> Command:
    size = 1 << 29
    with zipfile.ZipFile("f.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as stream:
        with stream.open("ids.npy", "w") as member:
            member.write(raw_npy(header("|u1", (size,))))
            for _ in range(size >> 20):
                member.write(bytes(1 << 20))
        stream.writestr("vectors.npy", VECTORS)
    return ["features", "import", "f.npz", *IMPORT]


@hostile("an import that is cut off", BAD)
def _cut_import(sound: Path) -> Command:
    archive(Path("g.npz"), {"ids.npy": IDS, "vectors.npy": VECTORS})
    Path("f.npz").write_bytes(Path("g.npz").read_bytes()[:-30])
    return ["features", "import", "f.npz", *IMPORT]


@hostile("an import of a parquet that is none", BAD if find_spec("pyarrow") else "[parquet]")
def _parquet(sound: Path) -> Command:
    Path("f.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    return ["features", "import", "f.parquet", *IMPORT]
