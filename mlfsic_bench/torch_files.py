"""Reading files that torch saved, untrusted ones too: tensors and plain values, never objects."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import no_file, open_regular


def read_torch_file(
    path: Path, kind: str, content: str, remedy: str, *, where: str = "check the path"
) -> Any:
    """What `torch.save` wrote to `path`, on the CPU; nothing in it is executed.

    Parameters
    ----------
    path: the file.
    kind, content, remedy: for the error: what the file is called, what should be in it, and what
        to do when it is not.
    where: what to do when there is no such file.

    Raises BenchError for a file that is missing, damaged, or holds pickled objects.
    """
    import torch

    try:
        with open_regular(path) as stream:
            _refuse_compressed(stream)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's advice on files of others is no use here
                return torch.load(stream, map_location="cpu", weights_only=True)
    except BenchError:  # a Git LFS pointer
        raise
    except FileNotFoundError as error:
        raise no_file(kind, path, where) from error
    except pickle.UnpicklingError as error:
        # torch's own text advises to read the file without `weights_only`, which would run it
        found = "pickled objects, or damage; nothing of it was loaded"
        raise unreadable(path, kind, content, found, remedy) from error
    except Exception as error:  # a damaged file can fail in any of torch's readers
        reason = str(error).split("\n")[0] or "the file ends too early"
        found = f"{type(error).__name__}: {reason}"
        raise unreadable(path, kind, content, found, remedy) from error


def _refuse_compressed(stream: IO[bytes]) -> None:
    """ValueError for members larger than their file; torch itself never compresses."""
    if zipfile.is_zipfile(stream):
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError("an archive with compressed members")
    stream.seek(0)


def unreadable(path: Path, kind: str, content: str, found: str, remedy: str) -> BenchError:
    """The error for a file that is not what it should be."""
    return BenchError(
        f"{path} is not a readable {kind}", expected=content, found=found, remedy=remedy
    )
