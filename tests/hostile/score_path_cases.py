"""Hostile scores files by what stands at their path, in runs and beside them."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np

from tests.hostile.cases import Command, Payload, hostile
from tests.hostile.npz import FILE, SCORE, archive, header, members, npy, raw_npy, sparse_zeros


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


@hostile("a link to nothing", "there is nothing at")
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
def _targets(sound: Path) -> Command:
    from mlfsic_bench.evaluation.scores import read_targets

    rest = {k: v for k, v in members(sound / "targets.npz").items() if k != "query.npy"}
    size = 100_000_000
    sparse_zeros(FILE, "query.npy", raw_npy(header("|S1", (1, size))), size, rest)
    return lambda: read_targets(FILE)


@hostile("as many ids as answers may have", "query ids of shape")
def _short_ids(sound: Path) -> Command:
    from mlfsic_bench.evaluation.scores import QUERY_LIMIT, read_targets

    rest = {k: v for k, v in members(sound / "targets.npz").items() if k != "query.npy"}
    data = raw_npy(header("|S2", (1, QUERY_LIMIT // 2)), b"\xc3\xa4" * (QUERY_LIMIT // 2))
    archive(FILE, {**rest, "query.npy": data})
    return lambda: read_targets(FILE)
