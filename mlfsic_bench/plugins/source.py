"""What classes and functions of this project say of themselves, read without importing them.

Lists and captions need a docstring and a few plain values of a method or backbone. Importing its
module for them would import torch, which takes ten times as long as all the rest of such a command.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec, resolve_name
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

OWN = ("mlfsic_bench", "mlfsic_baselines")  # packages whose code is not that of others


class _UnreadableError(Exception):
    """Something that only running the code could tell."""


class _Place(NamedTuple):
    """A name at the top of a module."""

    module: str
    name: str


# what a name at the top of a module is bound to: a value, a class, a function, or a name elsewhere
_Bound: TypeAlias = "ast.expr | ast.ClassDef | ast.FunctionDef | _Place"


def read_class(place: str, attributes: Sequence[str]) -> Any:
    """A class without code that has the docstring and these attributes of a class.

    Parameters
    ----------
    place: `module:Class`. Bases and constants that are imported there are followed inside of the
        packages of this project.
    attributes: class attributes, its own or inherited. Of a dict only the keys are read; its values
        are None.

    None where something can't be read, so that the class has to be imported.
    """
    module, _, name = place.partition(":")
    try:
        classes = list(_with_bases(_Place(module, name)))
        values = {key: _attribute(key, classes) for key in attributes}
    except _UnreadableError:
        return None
    return type(name, (), {"__doc__": ast.get_docstring(classes[0][1], clean=False), **values})


def read_function(place: str, constants: Mapping[str, object]) -> Any:
    """A namespace that has the docstring of a function and constants of its module.

    Parameters
    ----------
    place: `module:function`, as for `read_class`.
    constants: their names, and what each is where the module has none.

    None where something can't be read, so that the function has to be imported.
    """
    module, _, name = place.partition(":")
    try:
        home, node = _find(_Place(module, name))
        if not isinstance(node, ast.FunctionDef):
            return None
        has = constants.keys() & _bound_in(home).keys()
        values = {key: _value(ast.Name(key), home) for key in has}
    except _UnreadableError:
        return None
    return SimpleNamespace(__doc__=ast.get_docstring(node, clean=False), **{**constants, **values})


@cache
def _bound_in(module: str) -> dict[str, _Bound]:
    """What a module binds at its top, by name."""
    try:
        spec = find_spec(module)
        source = getattr(spec and spec.loader, "get_source", lambda _: None)(module)
    except (ImportError, ValueError) as error:
        raise _UnreadableError(module) from error
    if spec is None or source is None:
        raise _UnreadableError(module)
    found: dict[str, _Bound] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), spec.parent)
            found |= {one.asname or one.name: _Place(origin, one.name) for one in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        else:
            found |= _assigned(node)
    return found


def _assigned(node: ast.stmt) -> dict[str, ast.expr]:
    """The names that a statement gives a value."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        return {node.target.id: node.value}
    if isinstance(node, ast.Assign):
        return {name.id: node.value for name in node.targets if isinstance(name, ast.Name)}
    return {}


def _find(place: _Place) -> tuple[str, ast.AST | None]:
    """(module, node) of what a name stands for; None for what another package defines."""
    if place.module.partition(".")[0] not in OWN:
        return place.module, None
    found = _bound_in(place.module).get(place.name)
    if found is None:
        raise _UnreadableError(place.name)
    return _find(found) if isinstance(found, _Place) else (place.module, found)


def _with_bases(place: _Place) -> Iterator[tuple[str, ast.ClassDef]]:
    """(module, class) of a class, then of its bases; those of other packages, such as ABC, not."""
    module, node = _find(place)
    if node is None:
        return
    if not isinstance(node, ast.ClassDef):
        raise _UnreadableError(place.name)
    yield module, node
    for base in node.bases:
        if not isinstance(base, ast.Name):
            raise _UnreadableError(place.name)
        yield from _with_bases(_Place(module, base.id))


def _attribute(name: str, classes: Sequence[tuple[str, ast.ClassDef]]) -> object:
    """The value of a class attribute, from the first of these classes that has it."""
    for module, node in classes:
        for statement in node.body:
            if name in (assigned := _assigned(statement)):
                return _value(assigned[name], module)
    raise _UnreadableError(name)


def _value(node: ast.AST | None, module: str) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(_value(one, module) for one in node.elts)
    if isinstance(node, ast.Dict):
        return dict.fromkeys(_value(key, module) for key in node.keys)
    if isinstance(node, ast.Name):
        place, found = _find(_Place(module, node.id))
        return _value(found, place)
    raise _UnreadableError(module)
