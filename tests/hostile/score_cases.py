"""Hostile scores files: bombs, pickles, odd headers, odd members, odd descriptions."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.cases import Command, Payload, hostile
from tests.hostile.npz import archive, header, members, npy, patched, raw_npy, sparse_zeros

FILE = Path("scores.npz")
SCORE = ["score", str(FILE)]
COUNT, HASH = 3, "0" * 64


def _member(name: str, *says: str, scores: bytes | Callable[[], bytes]) -> None:
    """A case whose member `scores` has these bytes."""

    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        data = scores() if callable(scores) else scores
        archive(FILE, {**members(sound / "scores.npz"), "scores.npy": data})
        return SCORE


def _array(name: str, *says: str, change: Callable[[np.ndarray[Any, Any]], Any]) -> None:
    """A case whose scores are changed."""

    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        with np.load(sound / "scores.npz") as file:
            array = file["scores"]
        archive(FILE, {**members(sound / "scores.npz"), "scores.npy": npy(change(array))})
        return SCORE


def _meta(name: str, *says: str, change: Callable[[str], str]) -> None:
    """A case whose description, JSON text, is changed."""

    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        with np.load(sound / "scores.npz") as file:
            text = str(file["meta"])
        changed = np.frombuffer(change(text).encode("utf-32-le", "surrogatepass"), "<u4")
        head = header(f"<U{len(changed)}", ())
        meta = raw_npy(head, changed.tobytes())
        archive(FILE, {**members(sound / "scores.npz"), "meta.npy": meta})
        return SCORE


def _value(name: str, *says: str, change: Callable[[dict[str, Any]], object]) -> None:
    """A case whose description is changed as a JSON value."""

    def changed(text: str) -> str:
        value = json.loads(text)
        change(value)
        return json.dumps(value)

    _meta(name, *says, change=changed)


def _with(name: str, *says: str, add: dict[str, bytes]) -> None:
    """A case with more members."""

    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        archive(FILE, {**members(sound / "scores.npz"), **add})
        return SCORE


def _bytes(name: str, *says: str, change: Callable[[bytes], bytes]) -> None:
    """A case whose file is changed byte by byte."""

    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        FILE.write_bytes(change((sound / "scores.npz").read_bytes()))
        return SCORE


# the archive


@hostile("a compressed bomb: 400 MB in 400 kB", "is compressed")
def _ratio(sound: Path) -> Command:
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_DEFLATED) as stream:
        with stream.open("scores.npy", "w") as member:
            member.write(raw_npy(header("<f4", (100, 1000, 1000))))
            for _ in range(400):
                member.write(bytes(10**6))
        for name, data in members(sound / "scores.npz").items():
            if name != "scores.npy":
                stream.writestr(name, data)
    return SCORE


@hostile("an archive that claims 4 GB", "above 268435456")
def _claims(sound: Path) -> Command:
    content = members(sound / "scores.npz")
    patched(FILE, content, b"PK\x01\x02", 20, b"\xf0\xff\xff\xff\xf0\xff\xff\xff")
    return SCORE


@hostile("a member larger than its file", "scores.npz")
def _beyond(sound: Path) -> Command:
    content = {**members(sound / "scores.npz"), "scores.npy": raw_npy(header(shape=(3, 1000, 6)))}
    size = (len(content["scores.npy"]) + 72000).to_bytes(4, "little")
    patched(FILE, content, b"PK\x01\x02", 20, size + size)
    return SCORE


@hostile("a million members", "list of members longer than")
def _million(sound: Path) -> Command:
    entry = b"PK\x01\x02" + bytes(42)
    directory = entry * 200_000
    count = (0xFFFF).to_bytes(2, "little") * 2
    end = b"PK\x05\x06" + bytes(4) + count + len(directory).to_bytes(4, "little") + bytes(6)
    FILE.write_bytes(directory + end)
    return SCORE


@hostile("as many zeros as may stand in a file", "float32 scores [E, Q, L]", "float64")
def _full(sound: Path) -> Command:
    head = raw_npy(header("<f8", (3, 24, 440_000)))
    rest = {k: v for k, v in members(sound / "scores.npz").items() if k == "meta.npy"}
    sparse_zeros(FILE, "scores.npy", head, 3 * 24 * 440_000 * 8, rest)
    return SCORE


@hostile("as many scores as may stand in a file", "3 episodes and 6 labels")
def _full_scores(sound: Path) -> Command:
    head = raw_npy(header("<f4", (3, 24, 900_000)))
    rest = {k: v for k, v in members(sound / "scores.npz").items() if k == "meta.npy"}
    sparse_zeros(FILE, "scores.npy", head, 3 * 24 * 900_000 * 4, rest)
    return SCORE


@hostile("a description of 200 MB", "more than 1048576")
def _full_meta(sound: Path) -> Command:
    head = raw_npy(header("<U50000000", ()))
    rest = {k: v for k, v in members(sound / "scores.npz").items() if k == "scores.npy"}
    sparse_zeros(FILE, "meta.npy", head, 200_000_000, rest)
    return SCORE


@hostile("an archive in an archive", "'scores.zip' is doubled or not an .npy file")
def _nested(sound: Path) -> Command:
    archive(FILE, {"scores.zip": (sound / "scores.npz").read_bytes()})
    return SCORE


@hostile("a doubled member", "'scores.npy' is doubled")
def _doubled(sound: Path) -> Command:
    content = members(sound / "scores.npz")
    patched(FILE, {**content, "scored.npy": content["scores.npy"]}, b"scored.npy", 0, b"scores.npy")
    return SCORE


@hostile("encrypted members", "encrypted")
def _encrypted(sound: Path) -> Command:
    content = members(sound / "scores.npz")
    patched(FILE, content, b"PK\x01\x02", 8, b"\x01\x00")
    return SCORE


@hostile("an unknown compression", "is compressed")
def _method(sound: Path) -> Command:
    patched(FILE, members(sound / "scores.npz"), b"PK\x01\x02", 10, b"\x63\x00")
    return SCORE


@hostile("a changed byte", "Bad CRC-32")
def _crc(sound: Path) -> Command:
    data = bytearray((sound / "scores.npz").read_bytes())
    data[data.find(b"scores.npy") + 300] ^= 1
    FILE.write_bytes(data)
    return SCORE


_with(
    "a member that climbs", "members are not the ones", "'../../evil'", add={"../../evil.npy": b""}
)
_with("an absolute member", "members are not the ones", "'/tmp/evil'", add={"/tmp/evil.npy": b""})
_with("an extra member", "members are not the ones", "extra", add={"extra.npy": npy(np.zeros(2))})
_with("a member without ending", "not an .npy file", add={"meta": b"{}"})
_with("a member with a long name", "(4996 characters)", add={"n" * 4996 + ".npy": b""})


@hostile("no description", "expected: meta, scores")
def _no_meta(sound: Path) -> Command:
    archive(FILE, {"scores.npy": members(sound / "scores.npz")["scores.npy"]})
    return SCORE


@hostile("an empty archive", "(no member)")
def _no_member(sound: Path) -> Command:
    archive(FILE, {})
    return SCORE


_bytes("a file cut off", "not a zip file", change=lambda data: data[: len(data) // 2])
_bytes("an empty file", "not a zip file", change=lambda data: b"")
_bytes("a bare .npy", "not a zip file", change=lambda data: npy(np.zeros(3)))
_bytes("a bare pickle", "not a zip file", change=lambda data: pickle.dumps(Payload()))


# members

_member(
    "a pickle for scores",
    "objects are never read",
    scores=lambda: npy(np.array([Payload()], dtype=object)),
)
_member(
    "a pickle without a header",
    "not a version 1.0 .npy file",
    scores=lambda: pickle.dumps(Payload()),
)
_member("records with an object", "not a plain array", scores=raw_npy(header([("a", "|O")])))
_member(
    "a version 3 member",
    "not a version 1.0",
    scores=b"\x93NUMPY\x03\x00\x10\x00\x00\x00" + bytes(16),
)
_member(
    "a header that computes",
    "unreadable header",
    scores=raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2**60,)}"),
)
_member(
    "a header that calls",
    "unreadable header",
    scores=raw_npy(
        "{'descr': __import__('os').mkdir('executed') or '<f4',"
        " 'fortran_order': False, 'shape': (1,)}"
    ),
)
_member("a header of brackets", "unreadable header", scores=raw_npy("(" * 1000))
_member("a long header", "a header of 60000 bytes", scores=raw_npy(" " * 60000))
_member(
    "a shape of 2^60",
    "has the shape (1152921504606846976,)",
    scores=raw_npy(header(shape=(1 << 60,))),
)
_member(
    "a shape whose product is 2^60",
    "another size than its header says",
    scores=raw_npy(header(shape=(1 << 30, 1 << 30))),
)
_member("a negative shape", "has the shape (-1, 24, 6)", scores=raw_npy(header(shape=(-1, 24, 6))))
_member("a shape of many dimensions", "dim", scores=raw_npy(header(shape=(1,) * 200), bytes(4)))
_member(
    "an empty shape with a huge side",
    "scores.npz",
    scores=raw_npy(header(shape=(0, 1 << 30, 1 << 30, 1 << 30))),
)
_member(
    "a truth value for a side",
    "has the shape (True, 24, 6)",
    scores=raw_npy(header(shape=(True, 24, 6))),
)
_member("a list for a shape", "has the shape [3]", scores=raw_npy(header(shape=[3])))
_member("an unknown type", "unknown type '<f3'", scores=raw_npy(header("<f3")))
_member("text without characters", "items have no bytes", scores=raw_npy(header("<U0")))
_member("text of 4 GB a piece", "scores.npz", scores=raw_npy(header("<U999999999", (1,))))
_member(
    "a header key too many",
    "other keys than .npy files",
    scores=raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}"),
)
_member("an empty member", "not a version 1.0", scores=b"")

_array("big-endian scores", "'>f4'", "little-endian", change=lambda a: a.astype(">f4"))
_array("scores in Fortran order", "not a plain array in C order", change=np.asfortranarray)
_array("half-precision scores", "float16", change=lambda a: a.astype(np.float16))
_array("double-precision scores", "float64", change=lambda a: a.astype(np.float64))
_array("whole numbers for scores", "int64", change=lambda a: a.astype(np.int64))
_array("text for scores", "<U32", change=lambda a: a.astype(str))
_array("complex scores", "'<c8'", change=lambda a: a.astype(np.complex64))
_array(
    "NaN among the scores", "1 scores that are NaN or infinite", change=lambda a: _put(a, np.nan)
)
_array(
    "infinity among the scores",
    "1 scores that are NaN or infinite",
    change=lambda a: _put(a, np.inf),
)
_array("minus infinity among the scores", "NaN or infinite", change=lambda a: _put(a, -np.inf))
_array("no episode", "array of shape (0, 24, 6)", change=lambda a: a[:0])
_array("no query", "array of shape (3, 0, 6)", change=lambda a: a[:, :0])
_array("an episode too few", "array of shape (2, 24, 6)", change=lambda a: a[:2])


@hostile("a query too few", "a score for every query image")
def _query(sound: Path) -> Command:
    content = members(sound / "scores.npz")
    with np.load(sound / "scores.npz") as file:
        content["scores.npy"] = npy(np.ascontiguousarray(file["scores"][:, :23]))
    del content["decisions.npy"]
    archive(FILE, content)
    return SCORE


_array("a label too few", "array of shape (3, 24, 5)", change=lambda a: a[:, :, :5])
_array("scores without episodes", "of shape (24, 6)", change=lambda a: a[0])


def _put(array: np.ndarray[Any, Any], value: float) -> np.ndarray[Any, Any]:
    array = array.copy()
    array[1, 2, 3] = value
    return array


@hostile("decisions that are neither true nor false", "decisions")
def _decisions(sound: Path) -> Command:
    data = raw_npy(header("|b1"), bytes([7]) * (3 * 24 * 6))
    archive(FILE, {**members(sound / "scores.npz"), "decisions.npy": data})
    return SCORE


@hostile("decisions of another shape", "bool decisions of shape (3, 24, 6)")
def _decisions_shape(sound: Path) -> Command:
    data = npy(np.zeros((3, 24, 5), bool))
    archive(FILE, {**members(sound / "scores.npz"), "decisions.npy": data})
    return SCORE


# the description

_meta("a description with a byte order mark", "BOM", change=lambda text: "\ufeff" + text)
_meta("text after the description", "Extra data", change=lambda text: text + "\U0010ffff")
_meta(
    "a description with a lone surrogate",
    "surrogate",
    change=lambda text: text.replace("theirs", "the\ud800irs"),
)
_meta(
    "an escaped lone surrogate",
    "surrogates not allowed",
    change=lambda text: text.replace("theirs", "\\ud800"),
)
_meta(
    "NaN in the description",
    "NaN is not a JSON number",
    change=lambda text: text.replace('"depth":3', '"depth":NaN'),
)
_meta(
    "a number beyond float64",
    "Out of range",
    change=lambda text: text.replace('"depth":3', '"depth":1e999'),
)
_meta(
    "a number of 100,000 digits",
    "digits",
    change=lambda text: text.replace('"depth":3', '"depth":' + "9" * 100_000),
)
_meta("a doubled key", "'split' stands twice", change=lambda text: text[:-1] + ',"split":{}}')
_meta("100,000 brackets", "RecursionError", change=lambda text: "[" * 100_000 + "]" * 100_000)
_meta(
    "100,000 objects in a parameter",
    "RecursionError",
    change=lambda text: text.replace('"depth":3', '"d":' + '{"a":' * 99_999 + "1" + "}" * 99_999),
)
_meta("an empty description", "JSONDecodeError", change=lambda text: " ")
_meta("a list for a description", "an object", change=lambda text: "[]")
_value(
    "an unknown key",
    "unknown key 'lables'",
    "'labels'",
    change=lambda v: v.update(lables=v.pop("labels")),
)
_value("a foreign kind", "kind", change=lambda v: v.update(kind="mlfsic-bench answers"))
_value("a later version", "schema_version", change=lambda v: v.update(schema_version=2))
_value(
    "no version", "'schema_version' in the description", change=lambda v: v.pop("schema_version")
)
_value(
    "another hash of the split",
    "not the one the scores were made on",
    change=lambda v: v["split"].update(hash=HASH),
)
_value("a hash that is none", "split.hash", change=lambda v: v["split"].update(hash="../../etc"))
_value(
    "another hash of the episodes",
    "the episodes found are not",
    change=lambda v: v["episodes"].update(hash=HASH),
)
_value(
    "a split id that is a path",
    "no split called",
    "/etc/passwd",
    change=lambda v: v["split"].update(id="/etc/passwd"),
)
_value(
    "a split id with a line end", "split.id", change=lambda v: v["split"].update(id="a\nerror: b")
)
_value(
    "more episodes than the set has",
    "at most as many",
    change=lambda v: v["episodes"].update(total=2),
)
_value(
    "a hundred million episodes",
    "episodes.total",
    change=lambda v: v["episodes"].update(total=10**8),
)
_value(
    "a hundred thousand episodes that are not there",
    "at most 10000 episodes",
    change=lambda v: v["episodes"].update(total=10**5, hash=HASH),
)
_value(
    "a label twice", "distinct labels", change=lambda v: v["labels"].__setitem__(0, v["labels"][1])
)
_value("labels in another order", "other columns", change=lambda v: v["labels"].reverse())
_value("text for a seed", "method.seed", change=lambda v: v["method"].update(seed="0"))
_value(
    "a huge K",
    "K = 100000",
    change=lambda v: v["episodes"].update(shots=10**5, protocol="laso_k_shot-v1"),
)


@hostile("a description that is bytes", "one text called `meta`")
def _bytes_meta(sound: Path) -> Command:
    content = members(sound / "scores.npz")
    archive(FILE, {**content, "meta.npy": npy(np.array(b"\xff\xfe{}"))})
    return SCORE


@hostile("a description with code points beyond Unicode", "not Unicode")
def _code_points(sound: Path) -> Command:
    content = members(sound / "scores.npz")
    data = raw_npy(header("<U2", ()), b"\xff\xff\xff\xff{\0\0\0")
    archive(FILE, {**content, "meta.npy": data})
    return SCORE


# what stands at the path


@hostile("a pipe", "not a regular file")
def _pipe(sound: Path) -> Command:
    os.mkfifo(FILE)
    return SCORE


@hostile("a folder", "record.json")
def _folder(sound: Path) -> Command:
    FILE.mkdir()
    return SCORE


@hostile("a link to an endless device", "not a regular file")
def _device(sound: Path) -> Command:
    FILE.symlink_to("/dev/zero")
    return SCORE


@hostile("a link to itself", "Too many levels of symbolic links")
def _loop(sound: Path) -> Command:
    FILE.symlink_to(FILE)
    return SCORE


@hostile("a link to nothing", "there is no scores file")
def _dangling(sound: Path) -> Command:
    FILE.symlink_to("nowhere")
    return SCORE


@hostile("a run whose scores are a pickle", "SHA-256")
def _run(sound: Path) -> Command:
    shutil.copytree(sound / "run", "run")
    (Path("run") / "scores.npz").write_bytes(pickle.dumps(Payload()))
    return ["table", "run"]


@hostile("hostile scores for an entry", "objects are never read")
def _pack(sound: Path) -> Command:
    data = npy(np.array([Payload()], dtype=object))
    archive(FILE, {**members(sound / "scores.npz"), "scores.npy": data})
    return ["submit", "pack", str(FILE), "--card", str(sound / "card.yaml"), "--out", "out"]


@hostile("answers of a hundred million ids", "query ids")
def _answers(sound: Path) -> Command:
    from mlfsic_bench.harness.scores import read_answers

    rest = {k: v for k, v in members(sound / "answers.npz").items() if k != "query.npy"}
    size = 100_000_000
    sparse_zeros(FILE, "query.npy", raw_npy(header("|S1", (1, size))), size, rest)
    return lambda: read_answers(FILE)


@hostile("as many ids as answers may have", "query ids of shape")
def _short_ids(sound: Path) -> Command:
    from mlfsic_bench.harness.scores import QUERY_LIMIT, read_answers

    rest = {k: v for k, v in members(sound / "answers.npz").items() if k != "query.npy"}
    data = raw_npy(header("|S2", (1, QUERY_LIMIT // 2)), b"\xc3\xa4" * (QUERY_LIMIT // 2))
    archive(FILE, {**rest, "query.npy": data})
    return lambda: read_answers(FILE)
