"""Hostile word vectors, and hostile files that torch reads."""

from __future__ import annotations

import gzip
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.hostile.cases import Command, Payload, hostile
from tests.hostile.sound import SPLIT, WORDS, binary_words

RUN = ["run", "protonet", "--split", SPLIT, "--backbone", "scenes-small", "--out", "out"]


def _words(name: str, *says: str, data: bytes | Callable[[], bytes]) -> None:
    @hostile(f"vectors with {name}", "words.txt", *says)
    def _case(sound: Path) -> Command:
        Path("words.txt").write_bytes(data() if callable(data) else data)
        return ["embeddings", "show", "words.txt", "--labels", "hen,jay"]


_words(
    "a header of 10^12 entries",
    "shorter than its header says",
    data=b"999999999999 300\nhen " + b"\xff" * 2000,
)
_words("a header of 10^30 entries", "number of entries", data=b"9" * 30 + b" 3\n" + bytes(64))
_words("a header of 10^9 numbers", "dimension", data=b"3 1000000000\n" + bytes(64))
_words("a header of nothing", "number of entries", data=b"0 3\n")
_words(
    "a packed header of 10^12 entries",
    "entry 1",
    data=gzip.compress(b"999999999999 300\nhen " + b"\xff" * 1000),
)
_words("a packed bomb: one line of 1 GB", "not a text file", data=lambda: _bomb(b"x"))
_words("a packed bomb: 1 GB of zeros", "binary content", data=lambda: _bomb(b"\0"))
_words("a packed bomb: 1 GB of empty lines", "empty lines", data=lambda: _bomb(b"\n"))
_words("gzip in gzip", "inside a gzip", data=gzip.compress(gzip.compress(WORDS)))
_words("gzip cut off", "not a whole gzip", data=gzip.compress(WORDS * 100)[:-20])
_words("gzip of a wrong check sum", "not a whole gzip", data=gzip.compress(WORDS)[:-8] + bytes(8))
_words("a pickle", "a pickle, which is never loaded", data=pickle.dumps(Payload()))
_words("an HDF5 file", "HDF5", data=b"\x89HDF\r\n\x1a\n" + bytes(100))
_words("infinity", "line 1", data=WORDS.replace(b"0.5", b"inf", 1))
_words("a number of 10^5 digits", "line 1", data=WORDS.replace(b"0.5", b"9" * 100_000, 1))
_words("a number too few", "line 2", data=WORDS.replace(b"-1.25 1", b"1", 1))
_words("binary vectors cut off", "entry", data=binary_words()[:-9])
_words("binary vectors that go on", "more bytes", data=binary_words() + b"x")
_words(
    "a binary entry without end",
    "no space within",
    data=b"2 2\nhen " + bytes(range(1, 9)) + b"\xff" * 9000,
)
_words("a signalling NaN in binary vectors", "NaN", data=b"1 3\nhen " + b"\0\0\xa0\x7f" * 3)
_words("NaN in binary vectors", "NaN", data=b"1 3\nhen " + b"\xff" * 12)


def _bomb(byte: bytes) -> bytes:
    """A gigabyte of one byte, as members of ten megabytes."""
    return gzip.compress(byte * 10_000_000, 9) * 100


@hostile("a run with a bomb for words", "words.txt")
def _run_words(sound: Path) -> Command:
    Path("words.txt").write_bytes(_bomb(b"x"))
    return [*RUN, "--embeddings", "words.txt"]


def _weights(name: str, *says: str, data: bytes | Callable[[Path], bytes]) -> None:
    @hostile(f"weights that are {name}", "w.pt", *says)
    def _case(sound: Path) -> Command:
        Path("w.pt").write_bytes(data(sound) if callable(data) else data)
        return [*RUN, "--weights", "./w.pt"]


def _archive(content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    path = Path("made.zip")
    with zipfile.ZipFile(path, "w", method) as stream:
        for name, data in content.items():
            stream.writestr(name, data)
    data = path.read_bytes()
    path.unlink()
    return data


_weights("a bare pickle", "nothing of it was loaded", data=pickle.dumps(Payload()))
_weights("an old pickle", "nothing of it was loaded", data=pickle.dumps(Payload(), 0))
_weights(
    "an archive of a pickle",
    "w.pt",
    data=lambda _: _archive(
        {"w/data.pkl": pickle.dumps(Payload(), 2), "w/version": b"3\n", "w/byteorder": b"little"}
    ),
)
_weights(
    "a global of another module", "nothing of it was loaded", data=b"cos\nmkdir\n(S'executed'\ntR."
)
_weights("numbers", "w.pt", data=pickle.dumps([1, 2, 3]))
_weights("nothing", "w.pt", data=b"")
_weights("cut off", "w.pt", data=lambda sound: (sound / "checkpoint.pt").read_bytes()[:700])
_weights("an empty archive", "w.pt", data=lambda _: _archive({}))
_weights(
    "TorchScript",
    "w.pt",
    data=lambda _: _archive(
        {"w/constants.pkl": b"", "w/data.pkl": pickle.dumps(Payload()), "w/code/x.py": b"import os"}
    ),
)


def _checkpoint(name: str, *says: str, change: Callable[[Path], bytes]) -> None:
    """A training that was interrupted finds this in place of its checkpoint."""

    @hostile(f"a checkpoint that is {name}", "checkpoint.pt", *says)
    def _case(sound: Path) -> Command:
        from mlfsic_bench.training.loop import load_checkpoint

        Path("checkpoint.pt").write_bytes(change(sound / "checkpoint.pt"))
        return lambda: load_checkpoint(Path("checkpoint.pt"))


_checkpoint("a bare pickle", "nothing of it was loaded", change=lambda _: pickle.dumps(Payload()))
_checkpoint(
    "sound but for a pickle",
    "nothing of it was loaded",
    change=lambda path: _replaced(path, pickle.dumps(Payload(), 2)),
)
_checkpoint("a pickle of a huge tensor", "checkpoint.pt", change=lambda path: _huge(path))
_checkpoint("a bomb", "checkpoint.pt", change=lambda path: _bombed(path))
_checkpoint("a list", "a list", change=lambda path: _saved([1, 2]))
_checkpoint("cut off", "checkpoint.pt", change=lambda path: path.read_bytes()[:-100])


def _saved(value: object) -> bytes:
    import io

    import torch

    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _replaced(path: Path, data: bytes) -> bytes:
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in content if name.endswith("data.pkl"))
    return _archive({**content, name: data})


def _huge(path: Path) -> bytes:
    """The tensor's size says 2^40 numbers; its storage has six."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
        data = archive.read(name)
    assert b"K\x06\x85" in data
    return _replaced(path, data.replace(b"K\x06\x85", b"\x8a\x06\0\0\0\0\0\1\x85", 1))


def _bombed(path: Path) -> bytes:
    """The storage is compressed: more zeros than a case may have memory."""
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    made = Path("made.zip")
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as stream:
        for name, data in content.items():
            if name.endswith("data/0"):
                with stream.open(name, "w", force_zip64=True) as member:
                    for _ in range(120):
                        member.write(bytes(10_000_000))
            else:
                stream.writestr(name, data)
    packed = made.read_bytes()
    made.unlink()
    return packed


@hostile("a run whose method is a pickle", "nothing of it was loaded")
def _method(sound: Path) -> Command:
    from mlfsic_bench.evaluation.fit import METHOD, fitted_method  # noqa: F401

    shutil.copytree(sound / "run", "run")
    Path("run", METHOD).write_bytes(pickle.dumps(Payload()))
    from mlfsic_bench.training.loop import load_checkpoint

    return lambda: load_checkpoint(Path("run", METHOD))
