"""Checkpoints: tensors, numbers and strings in one file, whole or not there at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlfsic_bench.files import atomic_writer
from mlfsic_bench.torch_files import read_torch_file, unreadable

KIND = "checkpoint"
CONTENT = "tensors and plain values, as mlfsic-bench saves them"
REMEDY = "delete the file to train from the start, or restore it from a copy"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, lists and dicts of them) to `path` atomically."""
    import torch

    with atomic_writer(path) as stream:
        torch.save(content, stream)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU; a BenchError when the file can't be read.

    Only tensors and plain values are accepted, so a file from a stranger can't run code.
    """
    path = Path(path)
    content = read_torch_file(path, KIND, CONTENT, REMEDY)
    if not isinstance(content, dict):
        raise unreadable(path, KIND, CONTENT, f"a {type(content).__name__}", REMEDY)
    return content
