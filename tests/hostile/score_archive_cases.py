"""Hostile scores files by their archive: bombs, odd members, bytes that are none."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.hostile.cases import Command, Payload, hostile
from tests.hostile.npz import (
    FILE,
    SCORE,
    archive,
    header,
    members,
    npy,
    patched,
    raw_npy,
    sparse_zeros,
)


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


@hostile("a compressed bomb of 400 MB", "is compressed")
def _ratio(sound: Path) -> Command:
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as stream:
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
