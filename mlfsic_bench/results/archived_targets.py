"""Targets of archived runs: kept once for each set of episodes, not in the folder of every run.

They lie in a folder `targets` above the runs, under the first digits of the SHA-256 that each run's
record names for its file of targets, and are that file. Beside it, `.support.json` has the support
images of each episode, so that intervals over images need no data set either.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mlfsic_bench.files import is_stored, pack_file, parse_json, read_regular, write_packed
from mlfsic_bench.hashing import hash_file

FOLDER = "targets"
Support = tuple[tuple[str, ...], ...]


def shared_file(folder: Path, sha256: str, ending: str = ".npz") -> Path | None:
    """The file of these targets in a folder `targets` above `folder`, None where there is none."""
    places = (folder.absolute(), *folder.absolute().parents)
    found = (place / FOLDER / f"{sha256[:16]}{ending}" for place in places)
    return next((path for path in found if is_stored(path)), None)


def share_targets(targets: Path, to: Path, support: Sequence[Sequence[str]] | None) -> None:
    """Keep a run's targets and its episodes' support images below `to`, if not there yet."""
    sha256 = hash_file(targets)
    path = to / FOLDER / f"{sha256[:16]}.npz"
    if shared_file(to, sha256) is None:
        pack_file(targets, path)
    if support is not None and shared_file(to, sha256, ".support.json") is None:
        text = json.dumps([list(images) for images in support], separators=(",", ":"))
        write_packed(path.with_suffix(".support.json"), text.encode())


def shared_support(folder: Path, sha256: str) -> Support | None:
    """The support images of each episode of these targets; None where they are not kept."""
    path = shared_file(folder, sha256, ".support.json")
    if path is None:
        return None
    return tuple(tuple(map(str, images)) for images in parse_json(read_regular(path).decode()))
