"""What a shell completes behind an option or argument; imports and runs nothing heavy for it.

A type here takes any text, as the command itself says what is wrong with it. Methods are looked up
among the entry points and presets are read from a method's source: no plug-in runs for a Tab.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

Names = Callable[[click.Context], Iterable[str]]


class Known(click.ParamType):  # type: ignore[type-arg]
    """Text that is completed from a list; and, with `or_file`, from files where nothing fits.

    Parameters
    ----------
    name: what it is, for `--help`.
    known: the names; gets the context, in which the options read so far stand.
    joined: a character that joins several of the names, such as `+`.
    """

    def __init__(self, name: str, known: Names, *, or_file: bool = False, joined: str = "") -> None:
        self.name = name
        self._known, self._or_file, self._joined = known, or_file, joined

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so."""
        before, start = "", incomplete
        if self._joined:
            first, joined, start = incomplete.rpartition(self._joined)
            before = first + joined
        try:
            fit = [before + name for name in self._known(ctx) if name.startswith(start)]
        except Exception:  # a broken file or package: a shell shows no error
            fit = []
        if self._or_file and not fit:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(name) for name in fit]


def _splits(ctx: click.Context) -> Iterable[str]:
    from mlfsic_bench.splits.names import shipped_ids

    return shipped_ids()


def _methods(ctx: click.Context) -> Iterable[str]:
    return sorted(_entry_points())


def _entry_points() -> dict[str, str]:
    """Registered name -> `module:Class` of each method."""
    from importlib.metadata import entry_points  # takes longer than all other imports here

    return {point.name: point.value for point in entry_points(group="mlfsic_bench.methods")}


def _backbones(ctx: click.Context) -> Iterable[str]:
    from mlfsic_bench.features.backbones.registry import backbone_names, provider_names

    return (*backbone_names(), *(f"{name}:" for name in provider_names()))


def _weights(ctx: click.Context) -> Iterable[str]:
    from mlfsic_bench.features.backbones.registry import KEYWORDS

    return KEYWORDS


def _registered_datasets(ctx: click.Context) -> Iterable[str]:
    from mlfsic_bench.data.registry import dataset_names

    return dataset_names()


def _datasets(ctx: click.Context) -> Iterable[str]:
    from mlfsic_bench.yaml_files import parse_yaml

    profiles = (files("mlfsic_experiments") / "profiles.yaml").read_bytes()
    return tuple(parse_yaml(profiles)["profiles"])


def _experiments(ctx: click.Context) -> Iterable[str]:
    names = (entry.name for entry in files("mlfsic_experiments").iterdir())
    return sorted(
        name.removesuffix(".yaml")
        for name in names
        if name.endswith(".yaml") and name != "profiles.yaml"
    )


def _metrics(ctx: click.Context) -> Iterable[str]:
    from mlfsic_bench.metrics.registry import METRICS

    return METRICS


def _presets(ctx: click.Context) -> Iterable[str]:
    """Those of the methods that the command line names, read from their sources."""
    # behind an option that still lacks its value, click leaves the arguments aside
    first = ctx.args[0] if ctx.args else ""
    for spec in ctx.params.get("methods") or (ctx.params.get("spec") or first,):
        place, _, name = _entry_points().get(spec, spec).rpartition(":")
        tree = _parsed(place)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                yield from _keys(_value_of("presets", node.body), tree)


def _parsed(place: str) -> ast.Module:
    """The source of a module, or of a file that ends in .py."""
    from mlfsic_bench.files import read_regular

    found = None if place.endswith(".py") else find_spec(place)  # imports only its packages
    path = place if found is None else str(found.origin)
    return ast.parse(read_regular(Path(path)))


def _keys(value: ast.expr | None, tree: ast.Module) -> Iterator[str]:
    """The keys of a dict that is written out there, or in the module it is imported from."""
    if isinstance(value, ast.Dict):
        yield from (str(key.value) for key in value.keys if isinstance(key, ast.Constant))
    elif isinstance(value, ast.Name):
        here = _value_of(value.id, tree.body)
        source = next(
            (
                node.module
                for node in tree.body
                if isinstance(node, ast.ImportFrom)
                and any(alias.name == value.id for alias in node.names)
            ),
            None,
        )
        if here is not None:
            yield from _keys(here, tree)
        elif source is not None:
            there = _parsed(source)
            yield from _keys(_value_of(value.id, there.body), there)


def _value_of(name: str, body: Iterable[ast.stmt]) -> ast.expr | None:
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value  # type: ignore[attr-defined, no-any-return]
    return None


SPLIT = Known("split", _splits, or_file=True)
METHOD = Known("method", _methods, or_file=True)
BACKBONE = Known("backbone", _backbones, or_file=True, joined="+")
WEIGHTS = Known("weights", _weights, or_file=True)
PRESET = Known("preset", _presets)
DATASET = Known("dataset", _registered_datasets, or_file=True)
PROFILE = Known("dataset", _datasets)
EXPERIMENT = Known("experiment", _experiments, or_file=True)
METRIC = Known("metric", _metrics)
DEVICE = Known("device", lambda ctx: ("auto", "cpu", "cuda"))
