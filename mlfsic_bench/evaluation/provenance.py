"""What surrounds a run and does not belong to its key: versions, commit, hardware, command."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mlfsic_bench import distributed, version
from mlfsic_bench.schema import FileSchema, Name, Text

_ABSOLUTE = re.compile(r"(^|=)/(?:[^/]+/)*([^/]+)")
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow")


class Provenance(FileSchema):
    """Where and with what a run was made.

    Attributes
    ----------
    version: of mlfsic-bench.
    commit, dirty: of the checkout it ran from, None when it ran from an installed package.
    python, packages: versions.
    platform, processor, cores, device: hardware.
    threads, processes: that torch computes with, and that torchrun started; None in records of
        earlier versions.
    command: the command line, absolute paths cut to their last name, since a record may be
        published.
    """

    version: Name
    commit: Name | None
    dirty: bool | None
    python: Name
    packages: dict[Name, Name]
    platform: Text
    processor: Text
    cores: Annotated[int, Field(ge=1)]
    device: Text
    threads: Annotated[int, Field(ge=1)] | None = None
    processes: Annotated[int, Field(ge=1)] | None = None
    command: Annotated[list[Text], Field(max_length=10_000)]


def provenance(device: str) -> Provenance:
    """The provenance of the present process, which computes on `device` (`cpu`, `cuda`, ...)."""
    import torch

    commit, dirty = checkout_state(Path(version.__file__).resolve().parent.parent)
    return Provenance(
        version=version.__version__,
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        platform=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        device=_device_name(device),
        threads=torch.get_num_threads(),
        processes=distributed.count(),
        command=public_command(sys.argv),
    )


def public_command(argv: list[str]) -> list[str]:
    """A command line fit to be published; bytes that are not UTF-8 are written as `\\udc..`.

    >>> public_command(["/data/venv/bin/mlfsic-bench", "run", "/data/m.py:M", "--out=/x/y"])
    ['mlfsic-bench', 'run', '.../m.py:M', '--out=.../y']
    >>> public_command(["p", "caf" + chr(0xDCE9)])
    ['p', 'caf\\\\udce9']
    """
    program = Path(argv[0]).name
    rest = [_ABSOLUTE.sub(r"\1.../\2", argument) for argument in argv[1:]]
    words = ["mlfsic-bench" if program == "__main__.py" else program, *rest]
    return [word.encode("utf-8", "backslashreplace").decode()[:4000] for word in words]


def checkout_state(root: Path) -> tuple[str | None, bool | None]:
    """(commit, whether tracked or new files differ from it); (None, None) outside a checkout."""
    # Without its own .git the folder may lie inside somebody else's repository.
    if not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain")
    if commit is None or status is None:
        return None, None
    return commit, status != ""


def _git(root: Path, *arguments: str) -> str | None:
    # --no-optional-locks: looking must not disturb a git command that runs at the same time.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return device
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"
