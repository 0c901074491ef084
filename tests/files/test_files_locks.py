"""Locks: held, or not there at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mlfsic_bench import locks
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.store.manifest import Manifest
from mlfsic_bench.features.store.store import FeatureStore
from mlfsic_bench.features.store.writer import StoreWriter
from mlfsic_bench.locks import BusyError, only_writer

fcntl = pytest.importorskip("fcntl")
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
M = Manifest("fake", "small", "0" * 64, "squash16", channels=3, grid=(2, 2))
LIBRARY = """#include <errno.h>
#include <stdlib.h>
int flock(int fd, int op) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""
USER = """import sys, pathlib
from mlfsic_bench.locks import only_writer
with only_writer(pathlib.Path(sys.argv[1]), log=print):
    print("writing")
"""


def refusing(monkeypatch, number):
    """Let every flock fail with this errno, on folders nobody was told of yet."""

    def flock(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(locks, "_said", set())


@pytest.mark.parametrize("number", NO_LOCKS, ids=errno.errorcode.get)
def test_b3_a_file_system_without_locks(number, tmp_path, monkeypatch):
    refusing(monkeypatch, number)
    said = []
    for _ in range(2):
        with only_writer(tmp_path, log=said.append):
            pass
    assert len(said) == 1
    assert "has no locks" in said[0]
    with StoreWriter(tmp_path / "store", M, said.append) as writer:
        add(writer, "a")
    assert len(said) == 2
    assert len(FeatureStore(tmp_path / "store")) == 1


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES], ids=errno.errorcode.get)
def test_b3_a_lock_that_is_held(number, tmp_path, monkeypatch):
    refusing(monkeypatch, number)
    with pytest.raises(BenchError, match="another process is writing"), only_writer(tmp_path):
        pass
    with pytest.raises(BusyError, match="another process is writing"):
        StoreWriter(tmp_path / "store", M).__enter__()


def test_b3_two_writers_of_a_store_without_locks(tmp_path, monkeypatch):
    refusing(monkeypatch, errno.ENOSYS)
    with StoreWriter(tmp_path, M) as one, StoreWriter(tmp_path, M) as other:
        add(one, "a")
        with pytest.raises(BusyError, match="another process has written"):
            add(other, "b")
        add(one, "c")
    assert FeatureStore(tmp_path).ids == ("a", "c")


def test_b3_flock_of_the_system(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and LD_PRELOAD")
    source, library = tmp_path / "flock.c", tmp_path / "flock.so"
    source.write_text(LIBRARY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    for number, ends in ((errno.ENOSYS, "\nwriting\n"), (errno.EWOULDBLOCK, "")):
        environment = os.environ | {"LD_PRELOAD": str(library), "FLOCK_ERRNO": str(number)}
        done = subprocess.run(
            [sys.executable, "-c", USER, str(tmp_path / "run")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.endswith(ends)
        assert ("another process is writing" in done.stderr) == (not ends)


def add(writer, name):
    local = np.ones((1, 4, 3), np.float32)
    writer.add([name], ["d"], local, local.mean(axis=1))
