"""Which code a run's scores depend on, as hashes of source files.

A version number stands for one state of the code only once it is released; in a checkout, and for
a method in a file of its own, the code changes under the same number.
"""

from __future__ import annotations

import ast
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import mlfsic_bench
from mlfsic_bench.files import read_regular
from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.paths import cannot_use, is_file

if TYPE_CHECKING:
    from mlfsic_bench.methods.contract import Method

# What lies between a data root and raw scores; the command line, metrics and reports do not.
ROOMS = ("data", "episodes", "features", "harness", "methods", "splits", "training", "words")
LOOSE = ("randomness.py", "hashing.py")


@lru_cache(maxsize=1)
def package_code() -> str:
    """SHA-256 over the sources of mlfsic_bench that scores can depend on."""
    root = Path(mlfsic_bench.__file__).parent
    paths = [root / name for name in LOOSE]
    for room in ROOMS:
        paths += (root / room).rglob("*.py")
    return _hash_files(root, paths)


def method_source(spec: str, method: type[Method]) -> str:
    """What holds a method's code: `sha256:...`, after `<package> <version>` for an installed one.

    For `path/to/file.py:Class` the hash is over the file and every file of its folder that it
    imports, directly or not. For an installed method it is over all sources of its package; a
    method of mlfsic_bench itself is covered by `package_code`.
    """
    if ":" in spec:
        file = Path(spec.rpartition(":")[0])
        return f"sha256:{_hash_files(file.parent, _local_imports(file))}"
    top = method.__module__.partition(".")[0]
    named = next(
        (
            f"{point.dist.name} {point.dist.version}"
            for point in metadata.entry_points(group="mlfsic_bench.methods", name=spec)
            if point.dist is not None
        ),
        top,
    )
    package = sys.modules.get(top)
    place = getattr(package, "__file__", None)
    if top == mlfsic_bench.__name__ or place is None:
        return named
    folder = Path(place).parent
    files = folder.rglob("*.py") if hasattr(package, "__path__") else [Path(place)]
    return f"{named} sha256:{_hash_files(folder, list(files))}"


def _hash_files(root: Path, paths: list[Path]) -> str:
    entries = {path.relative_to(root).as_posix(): hash_bytes(_source(path)) for path in paths}
    return hash_json(entries)


def _source(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise cannot_use(path, error) from error


def _local_imports(file: Path) -> list[Path]:
    """The file, and the files beside it that it imports, directly or not."""
    found: list[Path] = []
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.append(path)
        for node in ast.walk(ast.parse(_source(path))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for name in names:
                parts = file.parent.joinpath(*name.split("."))
                options = (parts.with_suffix(".py"), parts / "__init__.py")
                waiting += [option for option in options if is_file(option)]
    return found
