"""Measure the structure of the package: rooms, lines, import arrows, cycles, upward arrows.

    python -m tools.architecture           # print the table
    python -m tools.architecture --write   # and put it into docs/architecture.md

A room is a folder of modules. Arrows are imports between modules, those for types included; an
import inside a function counts too. `LAYERS` is the order of the rooms, from the bottom to the
top: a module may import from its own layer and from those below. An arrow to a layer above is
upward; there must be none, and no cycle of modules (`tests/packaging` holds both).
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- structure: python -m tools.architecture --write -->"
END = "<!-- end -->"

# From the bottom to the top. A name stands for the folder and all folders in it; the longest
# name that fits a module decides. "mlfsic_bench" stands for the shared vocabulary; its own
# `__init__` belongs to the Python front, whose names it offers.
LAYERS = (
    ("mlfsic_bench", "errors, files, text, schemas, randomness: the shared vocabulary"),
    ("mlfsic_bench.plugins", "finding plug-ins by name or file, and calling their code"),
    ("mlfsic_bench.metrics", "one object for each metric; intervals and tests"),
    ("mlfsic_bench.data", "finding and reading data sets: registered, tables, COCO format"),
    ("mlfsic_bench.downloads", "fetching data sets, label embeddings and weights, checked"),
    ("mlfsic_bench.splits", "rules, building, checking, the shipped splits"),
    ("mlfsic_bench.episodes", "protocols, sampling, episode files"),
    ("mlfsic_bench.embeddings", "label embeddings from files and text encoders"),
    ("mlfsic_bench.features", "backbones, extraction, the feature store"),
    ("mlfsic_bench.methods", "the contract of a method, finding and calling one"),
    ("mlfsic_bench.training", "the episodic loop, schedule, checkpoints, selection"),
    ("mlfsic_bench.methods.word_guided", "the model of Yan et al. (2022)"),
    ("baselines", "the other methods, each a plug-in"),
    ("mlfsic_bench.testing", "the contract tests of methods, backbones and data sets"),
    ("mlfsic_bench.evaluation", "plan, run, resume, record, audit"),
    ("mlfsic_bench.launchers", "planned runs done by one process, by several, or on a cluster"),
    ("mlfsic_bench.results", "results opened, targets rebuilt, tables made"),
    ("mlfsic_bench.analysis", "scores, comparisons, curves, plots, attention, claims"),
    ("mlfsic_bench.leaderboard", "entries, their checks, the board"),
    ("mlfsic_bench.experiments", "tables and figures of the paper, reproduced"),
    ("mlfsic_bench.cli", "one file for each command"),
    ("mlfsic_bench.api", "the Python front: `import mlfsic_bench as mb`"),
)
_TOP = {"mlfsic_bench": "mlfsic_bench.api", "mlfsic_bench.__main__": "mlfsic_bench.cli"}
_INSTALLED_AS = {"mlfsic_baselines": "baselines"}
_LEVEL = {name: level for level, (name, _) in enumerate(LAYERS)}


@dataclass(frozen=True)
class Module:
    """A module: its dotted name, its number of lines, and the modules it imports."""

    name: str
    lines: int
    imports: frozenset[str]

    @property
    def layer(self) -> str:
        """The name of its layer."""
        return layer_of(self.name)


@dataclass
class Structure:
    """What is measured, over all modules."""

    modules: dict[str, Module]
    upward: list[tuple[str, str]] = field(default_factory=list)
    cycles: list[list[str]] = field(default_factory=list)

    @property
    def arrows(self) -> int:
        """Imports of a module by another."""
        return sum(len(module.imports) for module in self.modules.values())


def layer_of(name: str) -> str:
    """The layer of a module: the longest name in `LAYERS` that its own begins with."""
    if name in _TOP:
        return _TOP[name]
    fitting = [layer for layer in _LEVEL if name == layer or name.startswith(layer + ".")]
    return max(fitting, key=len)


def measure(root: Path = ROOT) -> Structure:
    """The structure of the checkout at `root`."""
    files = {}
    for top in ("mlfsic_bench", "baselines"):
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    modules = {}
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        found = frozenset(_imports(ast.parse(text), files)) - {name}
        modules[name] = Module(name, text.count("\n"), found)
    structure = Structure(modules)
    for module in modules.values():
        for other in sorted(module.imports):
            if _LEVEL[layer_of(other)] > _LEVEL[module.layer]:
                structure.upward.append((module.name, other))
    structure.cycles = _cycles({name: module.imports for name, module in modules.items()})
    return structure


def _imports(tree: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            candidates = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for candidate in candidates:
            top, _, rest = candidate.partition(".")
            name = f"{_INSTALLED_AS.get(top, top)}.{rest}" if rest else candidate
            found = name if name in known else name.rpartition(".")[0]
            if found in known:
                yield found


def _cycles(imports: dict[str, frozenset[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in imports[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in imports:
        if name not in order:
            visit(name)
    return found


def table(structure: Structure) -> str:
    """The table of rooms in Markdown, and the sums below it."""
    lines = ["| room | what is in it | modules | lines | imports rooms |", "|---|---|--:|--:|--:|"]
    for layer, what in reversed(LAYERS):
        own = [m for m in structure.modules.values() if m.layer == layer]
        below = {layer_of(other) for m in own for other in m.imports} - {layer, "mlfsic_bench"}
        short = layer.removeprefix("mlfsic_bench.").replace(".", "/") + "/"
        size = sum(m.lines for m in own)
        lines.append(f"| `{short}` | {what} | {len(own)} | {size:,} | {len(below)} |")
    lines += [
        "",
        f"{len(structure.modules)} modules, {sum(m.lines for m in structure.modules.values()):,}"
        f" lines, {structure.arrows} imports of a module by another, {len(structure.cycles)}"
        f" cycles, {len(structure.upward)} upward arrows.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table and what breaks the rules; exit code 1 when something does."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    arguments = parser.parse_args()
    structure = measure()
    print(table(structure))
    for source, target in structure.upward:
        print(f"upward: {source} imports {target}")
    for cycle in structure.cycles:
        print(f"cycle: {', '.join(cycle)}")
    if arguments.write:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN + "\n")
        tail = rest.partition(END)[2]
        PAGE.write_text(f"{head}{BEGIN}\n{table(structure)}\n{END}{tail}", encoding="utf-8")
    sys.exit(bool(structure.upward or structure.cycles))


if __name__ == "__main__":
    main()
