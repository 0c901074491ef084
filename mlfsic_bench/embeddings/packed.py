"""Opening a file that may be gzip'd, told by its first bytes; what fails is one BenchError."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular

GZIP = b"\x1f\x8b"


@contextmanager
def open_packed(path: Path, kind: str, remedy: str) -> Iterator[tuple[IO[bytes], bool]]:
    """The file's bytes, unpacked as they are read, and whether it is gzip'd.

    Parameters
    ----------
    path: the file.
    kind, remedy: for the error: what the file is called, and what to do when it can't be opened.

    Raises BenchError for a missing file, a folder, a pipe, and, while the block reads, for a
    packed file that is damaged or ends too early.
    """
    try:
        with open_regular(path) as raw:
            packed = raw.read(len(GZIP)) == GZIP
            raw.seek(0)
            if not packed:
                yield raw, False
                return
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast("IO[bytes]", unpacked), True
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BenchError(
            f"{path} is not a whole gzip file",
            expected="a gzip file that unpacks to its end",
            found=str(error) or type(error).__name__,
            remedy="fetch the file again",
        ) from error
    except OSError as error:
        raise BenchError(
            f"can't read the {kind} {path}",
            expected=f"a {kind}",
            found=error.strerror or str(error),
            remedy=remedy,
        ) from error
