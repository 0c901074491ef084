"""Checkpoints: tensors, numbers and strings in one file, whole or not there at all."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import atomic_writer


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, lists and dicts of them) to `path` atomically."""
    import torch

    with atomic_writer(path) as stream:
        torch.save(content, stream)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU; a BenchError when the file can't be read.

    Only tensors and plain values are accepted, so a file from a stranger can't run code.
    """
    import torch

    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BenchError(
            f"there is no checkpoint at {path}",
            expected="an existing file",
            found="nothing at that path",
            remedy="check the path",
        ) from error
    except pickle.UnpicklingError as error:
        # torch's own text advises to read the file without `weights_only`, which would run it
        found = "pickled objects, or damage; nothing of it was loaded"
        raise _unreadable(path, found) from error
    except Exception as error:  # a damaged file can fail in any of torch's readers
        reason = str(error).split("\n")[0] or "the file ends too early"
        raise _unreadable(path, f"{type(error).__name__}: {reason}") from error
    if not isinstance(content, dict):
        raise _unreadable(path, f"a {type(content).__name__}")
    return content


def _unreadable(path: Path, found: str) -> BenchError:
    return BenchError(
        f"{path} is not a readable checkpoint",
        expected="tensors and plain values, as mlfsic-bench saves them",
        found=found,
        remedy="delete the file to train from the start, or restore it from a copy",
    )
