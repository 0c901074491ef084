"""A door: how plug-ins of one kind are found, by entry point or as `path/to/file.py:Name`.

Methods, backbones and datasets, those of this project among them, come in by a door each, and by
nothing else. Importing this module imports nothing heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.plugins.files import EXAMPLE, names_a_file, object_in_file
from mlfsic_bench.plugins.source import OWN

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

T = TypeVar("T")


@dataclass(frozen=True)
class Listed(Generic[T]):
    """One registered plug-in as `... list` shows it.

    Attributes
    ----------
    name: the entry point's name.
    origin: `module:Name`, with the distribution it came with.
    loaded: the plug-in, or None when it can't be loaded.
    reason: why it can't be loaded; empty when it can.
    """

    name: str
    origin: str
    loaded: T | None
    reason: str


@dataclass(frozen=True)
class Door:
    """Where plug-ins of one kind come in.

    Attributes
    ----------
    group: the group of entry points.
    kind: what they are; `mlfsic-bench <kind>s list` lists them.
    fits: whether an object of a file is one; for what errors propose.
    example: what a spec of one in a file looks like.
    also: what else a spec may be, for the error that knows none of that name.
    """

    group: str
    kind: str
    fits: Callable[[object], bool] = callable
    example: str = EXAMPLE
    also: str = ""

    def names(self) -> tuple[str, ...]:
        """The registered names, sorted, whether they load or not."""
        return tuple(sorted(self.registered()))

    def registered(self) -> Mapping[str, list[str]]:
        """Registered name -> where it comes from, `module:Name of package`, once for each."""
        return {name: [origin for _, origin in found] for name, found in self._points().items()}

    def own_place(self, name: str) -> str:
        """`module:Name` of a registered name that is this project's and no other's; else empty."""
        return _own(self._points().get(name, []))

    def listed(
        self,
        accept: Callable[[object, str], T],
        read: Callable[[str], T | None] = lambda place: None,
    ) -> list[Listed[T]]:
        """Every registered plug-in; one that can't be loaded says why and harms no other.

        Parameters
        ----------
        accept: `accept(loaded, name)` gives what is shown, and raises BenchError for what is none.
        read: `read("module:Name")` gives it for one of this project without importing it; None
            where that can't be done.
        """
        rows: list[Listed[T]] = []
        for name, found in sorted(self._points().items()):
            origin = ", ".join(one for _, one in found)
            try:
                known = read(_own(found)) if _own(found) else None
                shown = accept(self.find(name), name) if known is None else known
                rows.append(Listed(name, origin, shown, ""))
            except BenchError as error:
                rows.append(Listed(name, origin, None, f"{error.what}: {error.found}"))
        return rows

    def find(self, spec: str) -> object:
        """What `spec` names: a registered name, or `path/to/file.py:Name`; not yet checked.

        Raises BenchError when there is no such name or file, and when it can't be imported.
        """
        if names_a_file(spec):
            return object_in_file(spec, self.kind, self.fits, self.example)
        points = self._points()
        if spec not in points:
            error = unknown_name(self.kind, spec, points)
            also = f"; {self.also}" if self.also else ""
            error.remedy += f" (a {self.kind} in a file of your own is named {self.example}{also})"
            raise error
        found = points[spec]
        if len(found) > 1:
            raise BenchError(
                f"two packages register a {self.kind} named {spec!r}",
                expected="each name registered once",
                found=", ".join(origin for _, origin in found),
                remedy=f"uninstall one of them, or name it as {self.example}",
            )
        value, origin = found[0]
        if _own(found):
            return _loaded(value)
        from mlfsic_bench.plugins.foreign import foreign_code  # imports torch

        with foreign_code(
            f"the registered {self.kind} {spec!r} can't be imported",
            expected=f"{origin} to import",
            remedy="repair or uninstall the package that registers it",
        ):
            return _loaded(value)

    def _points(self) -> dict[str, list[tuple[str, str]]]:
        """(`module:Name`, origin) by name. The same registration found twice counts once."""
        import importlib.metadata  # takes longer than all other imports here

        return _entry_points(self.group, importlib.metadata.entry_points, tuple(sys.path))


@cache
def _entry_points(
    group: str, found_by: Callable[..., EntryPoints], path: tuple[str, ...]
) -> dict[str, list[tuple[str, str]]]:
    """As `Door._points`; looked up once, since all packages of `path` are looked through."""
    found: dict[str, list[tuple[str, str]]] = {}
    for point in found_by(group=group):
        same = found.setdefault(point.name, [])
        if all(value != point.value for value, _ in same):
            package = f" of {point.dist.name}" if point.dist is not None else ""
            same.append((point.value, f"{point.value}{package}"))
    return found


def _own(found: Sequence[tuple[str, str]]) -> str:
    """`module:Name` of a name that is registered once, by this project; else empty."""
    places = [place for place, _ in found if place.partition(":")[0].partition(".")[0] in OWN]
    return places[0] if len(found) == len(places) == 1 else ""


def _loaded(value: str) -> object:
    module, _, attribute = value.partition(":")
    found: object = import_module(module)
    for name in attribute.split(".") if attribute else ():
        found = getattr(found, name)
    return found
