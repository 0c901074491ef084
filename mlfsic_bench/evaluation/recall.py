"""What this machine remembers of the runs made on it: splits, episode files, where inputs lie.

A record names its inputs by hashes and never by paths. Whoever made a run here need not say again
where its data lie: splits built from data are kept by their hash, and the paths of a run's inputs
by its key, in the user's cache folder. What is recalled is checked against its hash as anything
else. A cache that can't be written or read only means that the paths are asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.store.manifest import default_cache
from mlfsic_bench.files import make_folder, read_json, write_json
from mlfsic_bench.paths import exists, is_file, resolved
from mlfsic_bench.plugins.files import names_a_file

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.splits.files import SplitFile
    from mlfsic_bench.splits.split import Split

# of a RunPlan; as they are
PATHS = ("data_root", "embeddings", "episodes_file", "cache", "features_pack")
NAMES_OR_PATHS = ("method", "split", "weights", "dataset")  # of a RunPlan; a name or a path
_HASH = re.compile(r"[0-9a-f]{64}")


def remember_split(content: SplitFile) -> None:
    """Keep a complete split by its hash, unless it is kept already or needs no data at all.

    One that agrees with the official counts takes the place of an equal one that did not say so.
    """
    from mlfsic_bench.data.registry import needs_root
    from mlfsic_bench.splits.files import write_split
    from mlfsic_bench.splits.names import plain_id, shipped_ids
    from mlfsic_bench.splits.resolve import shipped_file

    with _tried():
        if plain_id(content.id) in shipped_ids() and content.subset is None:
            shipped = shipped_file(plain_id(content.id))
            if shipped.images is not None or not needs_root(shipped.dataset):
                return
        path = _place("splits", content.hash)
        if path is None or content.images is None:
            return
        if content.differs_from_official == [] or not exists(path):
            make_folder(path.parent)
            write_split(content, path)


def recall_split(split_hash: str) -> Split | None:
    """The split of this hash, if it was used on this machine; it is read and checked anew."""
    from mlfsic_bench.splits.files import read_split

    with _tried():
        path = _place("splits", split_hash)
        if path is not None and is_file(path):
            split = read_split(path)
            return split if split.hash == split_hash else None
    return None


def remember_run(key: str, plan: RunPlan) -> None:
    """Keep where the inputs of the run with this key lie."""
    from mlfsic_bench.data.registry import from_root
    from mlfsic_bench.embeddings.joined import JOIN, sources
    from mlfsic_bench.evaluation.embeddings import NO_FILES

    said: dict[str, str] = {}
    for name in PATHS:
        value = getattr(plan, name)
        if name == "data_root" and value is None:
            value = os.environ.get("MLFSIC_DATA") or None
        if isinstance(value, (str, Path)):
            several = sources(Path(value)) if name == "embeddings" else [Path(value)]
            said[name] = JOIN.join(
                str(one) if name == "embeddings" and str(one) in NO_FILES else str(resolved(one))
                for one in several
            )
    for name in NAMES_OR_PATHS:
        value = getattr(plan, name)
        if not isinstance(value, str):  # an object, or not said
            continue
        if name == "dataset":
            said[name] = from_root(value)
            continue
        file, colon, rest = value.rpartition(":") if names_a_file(value) else (value, "", "")
        # A path is kept from the root, so that it means the same in another working folder.
        is_path = bool(colon) or (name != "method" and is_file(Path(file)))
        said[name] = f"{resolved(Path(file))}{colon}{rest}" if is_path else value
    with _tried():
        path = _place("runs", key)
        if path is not None:
            make_folder(path.parent)
            write_json(path, said)


def recall_run(key: str) -> dict[str, str]:
    """Where the inputs of the run with this key lay, by the names of RunPlan; {} if not known."""
    with _tried():
        path = _place("runs", key)
        if path is not None and is_file(path):
            said: Any = read_json(path, kind="note on a run's inputs")
            names = (*PATHS, *NAMES_OR_PATHS)
            if isinstance(said, dict):
                return {n: v for n, v in said.items() if n in names and isinstance(v, str)}
    return {}


def _place(kind: str, name: str | None) -> Path | None:
    return default_cache() / kind / f"{name}.json" if name and _HASH.fullmatch(name) else None


@contextlib.contextmanager
def _tried() -> Iterator[None]:
    """What fails in here is as if it had not been remembered."""
    with contextlib.suppress(BenchError, OSError):
        yield
