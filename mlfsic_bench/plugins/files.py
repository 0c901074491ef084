"""Plug-ins in files of their own: what `path/to/file.py:Name` names, and the hash of that file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.files import open_regular, read_regular
from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.paths import cannot_use, is_file, resolved

EXAMPLE = "path/to/file.py:Class"


def names_a_file(spec: str) -> bool:
    """Whether `spec` is taken as `path/to/file.py:Name`, not as a registered name.

    >>> names_a_file("a/b.py:C"), names_a_file("b.py"), names_a_file("timm:resnet18")
    (True, True, False)
    """
    file, colon, _ = spec.rpartition(":")
    return (file if colon else spec).endswith(".py") or spec.endswith(".py")


def object_in_file(
    spec: str, kind: str, fits: Callable[[object], bool], example: str = EXAMPLE
) -> object:
    """What `spec` names in the file, not yet checked; the file is run once for equal bytes.

    Parameters
    ----------
    kind: what it is to be, such as `method`; for errors, and the command that lists the others.
    fits: whether an object of the file is one of these; for what an error proposes.
    example: what a spec looks like.

    Raises BenchError when there is no such file or name, and when the file can't be imported (the
    line is shown).
    """
    file, colon, name = spec.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise BenchError(
            f"{spec!r} does not name a {kind}",
            expected=f"a registered name (see `mlfsic-bench {kind}s list`) or {example}",
            found=repr(spec),
            remedy=f"write the file's path, a colon and the name of the {kind} in it"
            + (f", such as {spec}:{example.rpartition(':')[2]}" if spec.endswith(".py") else ""),
        )
    path = Path(file)
    try:
        with open_regular(path) as stream:
            source = stream.read()
    except OSError as error:
        raise BenchError(
            f"there is no readable file {path}",
            expected=f"a Python file with a {kind} in it",
            found=f"{error.strerror or error}",
            remedy=f"check the path (looked at {resolved(path.parent) / path.name})",
        ) from error
    module = _import_file(path, source, kind)
    if name not in vars(module):
        others = [key for key, value in vars(module).items() if key[:1] != "_" and fits(value)]
        own = [
            key for key in others if getattr(vars(module)[key], "__module__", "") == module.__name__
        ]
        others = own or others  # what is imported there is hardly meant
        close = nearest(name, others)
        raise BenchError(
            f"{path} defines no {name!r}",
            expected=f"one of its {kind}s: {', '.join(others) or '(none)'}",
            found=repr(name),
            remedy=f"did you mean {path}:{close}?" if close else "check the name",
        )
    found: object = vars(module)[name]
    return found


def _import_file(path: Path, source: bytes, kind: str) -> ModuleType:
    """The module that `source` makes; the same bytes at the same path give the same module.

    It is compiled here rather than by an import hook so that nothing is written beside a user's
    file; it stands in `sys.modules` because pydantic resolves annotations there.
    """
    from mlfsic_bench.plugins.foreign import foreign_code  # imports torch

    name = "mlfsic_plugin_" + hash_bytes(bytes(resolved(path)) + b"\0" + source)[:16]
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        with foreign_code(
            f"{path} can't be imported",
            expected="a Python file that imports without an error",
            remedy="repair that line, or install what it imports",
            path=path,
        ):
            exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def source_hash(spec: str) -> str:
    """`sha256:...` of a plug-in in a file of its own, empty for a registered one.

    The hash is over the file and every file of its folder that it imports, directly or not.
    BenchError where one of those was imported by this process and has changed since: Python would
    go on with the old one.
    """
    if not names_a_file(spec):
        return ""
    file = Path(spec.rpartition(":")[0])
    entries = {}
    for path in _local_imports(file):
        digest = entries[path.relative_to(file.parent).as_posix()] = hash_bytes(_source(path))
        if path != file:
            _refuse_changed(path, digest)
    return f"sha256:{hash_json(entries)}"


_IMPORTED: dict[str, str] = {}  # a file that this process imported -> its hash when first asked


def _refuse_changed(path: Path, digest: str) -> None:
    name = str(resolved(path))
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    alike = [Path(one) for one in files if isinstance(one, str) and one.endswith(path.name)]
    if all(str(resolved(one)) != name for one in alike):
        _IMPORTED.pop(name, None)
    elif _IMPORTED.setdefault(name, digest) != digest:
        raise BenchError(
            f"{path} has changed since it was imported",
            expected="the file as this process runs it",
            found="another content",
            remedy="restart Python; in a notebook, the kernel",
        )


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
