"""Where the figures of an entry are not those that its scores give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlfsic_bench.leaderboard.entry import Entry
from mlfsic_bench.leaderboard.entry_figures import Figure, LabelFigure
from mlfsic_bench.leaderboard.figures import Figures
from mlfsic_bench.leaderboard.kinds import IntervalKind
from mlfsic_bench.metrics.registry import METRICS

TOLERANCE = 2e-6  # points: entries are rounded to the sixth digit after the point


def all_differ(entry: Entry, computed: Figures, *, without_images: bool) -> Iterator[str]:
    """Where metrics, labels and chance differ; `without_images`: but for intervals over images."""
    skip = {IntervalKind.IMAGES} if without_images else set()
    # A metric that came after the entry was made may be absent, others may not.
    figures = {
        name: figure
        for name, figure in computed.figures.items()
        if name in entry.figures or METRICS[name].column == "always"
    }
    yield from figures_differ(entry.figures, figures, "figures", skip)
    yield from figures_differ(
        {one.label: one for one in entry.per_label},
        {one.label: one for one in computed.per_label},
        "per_label",
        skip,
    )
    claimed = {str(name): (level.low, level.high) for name, level in entry.chance.items()}
    found = {name: (level.low, level.high) for name, level in computed.chance.items()}
    for name in sorted({*claimed, *found}):
        yield from _far(f"chance.{name}", claimed.get(name), found.get(name))


def figures_differ(
    claimed: Mapping[str, Figure | LabelFigure],
    found: Mapping[str, Figure | LabelFigure],
    where: str,
    skip: set[IntervalKind] = frozenset(),  # type: ignore[assignment]
) -> Iterator[str]:
    """Where values or intervals differ, or one side lacks them; `skip`: kinds that are not held."""
    for name in dict.fromkeys([*claimed, *found]):
        a, b = claimed.get(name), found.get(name)
        yield from _far(f"{where}.{name}", (_value(a),) if a else None, (_value(b),) if b else None)
        for kind in [kind for kind in IntervalKind if a and b and kind not in skip]:
            yield from _far(
                f"{where}.{name}, interval over {kind.value}", _ends(a, kind), _ends(b, kind)
            )


def _far(
    where: str, claimed: tuple[float, ...] | None, found: tuple[float, ...] | None
) -> Iterator[str]:
    if claimed is None or found is None:
        if claimed != found:
            yield f"{where}: entry {_show(claimed)}, scores give {_show(found)}"
    elif any(abs(a - b) > TOLERANCE for a, b in zip(claimed, found, strict=True)):
        yield f"{where}: entry {_show(claimed)}, scores give {_show(found)}"


def _ends(figure: Figure | LabelFigure | None, kind: IntervalKind) -> tuple[float, float] | None:
    bounds = figure.intervals.get(kind) if figure else None
    return (bounds.low, bounds.high) if bounds else None


def _value(figure: Figure | LabelFigure) -> float:
    return figure.value if isinstance(figure, Figure) else figure.ap


def _show(values: tuple[float, ...] | None) -> str:
    return "nothing" if values is None else " to ".join(f"{value:g}" for value in values)
