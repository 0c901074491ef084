"""A ScoreReport for the terminal, in Markdown, JSON and CSV; names are data, so all is escaped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlfsic_bench.analysis.score_report import Breakdown, Figure, FileScore, ScoreReport, SeedsScore
from mlfsic_bench.metrics.conventions import CONVENTIONS
from mlfsic_bench.results.columns import aligned
from mlfsic_bench.results.marks import count_labels
from mlfsic_bench.text import LONGEST_NAME, csv_text, for_json, for_markdown, for_terminal


@dataclass(frozen=True)
class Sheet:
    """One table: a title, heads, rows, lines below; `words` counts columns of text at the end."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...] = ()
    words: int = 0

    @property
    def numbers(self) -> range:
        """The columns of numbers: all but the first and the last few."""
        return range(1, len(self.heads) - self.words)


def sheets(report: ScoreReport) -> list[Sheet]:
    """The tables of a report, in per cent: what files, seeds, breakdowns and conventions hold."""
    result = []
    for file in report.files:
        result.append(_metrics(file))
        if file.breakdown is not None:
            result.append(_breakdown(file, file.breakdown))
        if file.conventions is not None:
            result.append(_conventions(file, file.conventions))
    for group in report.seeds:
        rows = tuple(
            (name, _per_cent(figure.mean), _half(figure.seeds))
            for name, figure in group.metrics.items()
        )
        seeds = ", ".join(str(seed) for seed in group.seeds)
        title = f"{group.method}, training seeds {seeds}"
        result.append(Sheet(title, ("metric", "mean", "± seeds"), rows))
    return result


def caption(report: ScoreReport) -> list[str]:
    """Sentences that say what the figures are of."""
    split, episodes = report.split, report.episodes
    labels = count_labels(split.id, report.labels, subset=split.subset, noun="novel labels")
    lines = [
        f"Split {split.id} ({split.hash[:12]}), {labels}; protocol "
        f"{episodes.protocol}; {episodes.count} episodes ({episodes.hash[:12]}) of "
        f"{report.queries} queries; {report.metrics_version}.",
        "Answers made anew from split and episodes."
        if report.targets == "rebuilt"
        else "Answers as stored by the run.",
        "In per cent. ± is the half width of a 95 % interval: over episodes (Student t; these "
        f"images, other episodes), over images (other images; covers {report.image_intervals}), "
        "over training seeds (Student t; these episodes).",
    ]
    chance = {name: _per_cent(value) for name, value in report.chance.items()}
    lines.append(
        f"Chance (random ranking): micro-AP {chance['micro_ap']}, macro-AP {chance['macro_ap']}."
    )
    return [*lines, *report.notes]


def render_terminal(report: ScoreReport) -> str:
    """Plain text with aligned columns."""
    blocks = []
    for sheet in sheets(report):
        rows = [
            [for_terminal(text, LONGEST_NAME) for text in row] for row in (sheet.heads, *sheet.rows)
        ]
        words = set(range(len(sheet.heads))) - set(sheet.numbers)
        lines = [for_terminal(sheet.title), *(f"  {line}" for line in aligned(rows, words))]
        blocks.append("\n".join([*lines, *map(for_terminal, sheet.lines)]))
    blocks.append("\n".join(map(for_terminal, caption(report))))
    return "\n\n".join(blocks) + "\n"


def render_markdown(report: ScoreReport) -> str:
    """A GitHub-flavoured Markdown table for each sheet, the caption at the end."""
    parts = []
    for sheet in sheets(report):
        columns = range(len(sheet.heads))
        align = "|" + "".join("--:|" if i in sheet.numbers else ":--|" for i in columns)
        rows = ["| " + " | ".join(for_markdown(text) for text in row) + " |" for row in sheet.rows]
        heads = "| " + " | ".join(map(for_markdown, sheet.heads)) + " |"
        block = [f"**{for_markdown(sheet.title)}**", "", heads, align, *rows]
        parts.append("\n".join([*block, *("\n" + for_markdown(line) for line in sheet.lines)]))
    parts.append("\n".join(f"- {for_markdown(line)}" for line in caption(report)))
    return "\n\n".join(parts) + "\n"


def render_json(report: ScoreReport) -> str:
    """The report itself, as fractions; docs/metrics.md says what the keys are."""
    return for_json(report.model_dump(mode="json")) + "\n"


def render_csv(report: ScoreReport) -> str:
    """One figure a line, in per cent, unrounded; the first line has the caption, last column."""
    lines: list[list[object]] = [
        ["file", "method", "seed", "section", "group", "figure", "mean", "episodes", "images",
         "seeds", "caption"]
    ]  # fmt: skip
    about = [" ".join(caption(report))]

    def write(
        one: FileScore | SeedsScore, section: str, group: str, name: str,
        values: list[float | None],
    ) -> None:  # fmt: skip
        file, method, seed = "", one.method, "+".join(map(str, getattr(one, "seeds", ())))
        if isinstance(one, FileScore):
            file, method, seed = one.file, one.method.name, str(one.method.seed)
        cells = [None if value is None else 100.0 * value for value in values]
        cells += [None] * (4 - len(cells))
        said = about.pop() if about else ""
        lines.append([file, str(method), seed, section, group, name, *cells, said])

    for file in report.files:
        for name, figure in file.metrics.items():
            write(file, "metrics", "", name, [figure.mean, figure.episodes, figure.images])
        if file.breakdown is not None:
            for group in file.breakdown.groups:
                for name, figure in group.figures.items():
                    values = [figure.mean, figure.episodes, figure.images]
                    write(file, file.breakdown.by, group.name, name, values)
        for name, value in (file.conventions or {}).items():
            write(file, "conventions", "", name, [value])
    for seeds in report.seeds:
        for name, over in seeds.metrics.items():
            write(seeds, "seeds", "", name, [over.mean, None, None, over.seeds])
    return csv_text(lines)


RENDERERS: dict[str, Callable[[ScoreReport], str]] = {
    "terminal": render_terminal,
    "markdown": render_markdown,
    "json": render_json,
    "csv": render_csv,
}


def _metrics(file: FileScore) -> Sheet:
    rows = tuple(
        (name, _per_cent(figure.mean), _half(figure.episodes), _half(figure.images))
        for name, figure in file.metrics.items()
    )
    return Sheet(_title(file), ("metric", "mean", "± episodes", "± images"), rows)


def _breakdown(file: FileScore, part: Breakdown) -> Sheet:
    counts = list(dict.fromkeys(name for group in part.groups for name in group.counts))
    names = list(dict.fromkeys(name for group in part.groups for name in group.figures))
    rows = tuple(
        (
            group.name,
            *(str(group.counts.get(name, "")) for name in counts),
            *(_with_half(group.figures.get(name)) for name in names),
        )
        for group in part.groups
    )
    lines = (f"By {part.by}: {part.definition}. ± over episodes.",)
    heads = (part.by, *(name.replace("_", " ") for name in counts), *names)
    return Sheet(f"{_title(file)}, by {part.by}", heads, rows, lines)


def _conventions(file: FileScore, values: dict[str, float | None]) -> Sheet:
    rows = tuple(
        (name, _per_cent(value), CONVENTIONS[name].definition, CONVENTIONS[name].used_by)
        for name, value in values.items()
    )
    heads = ("convention", "value", "definition", "used by")
    return Sheet(f"{_title(file)}, the same scores under other conventions", heads, rows, words=2)


def _title(file: FileScore) -> str:
    origin = f"run {file.run[:12]}" if file.run else "foreign file"
    return f"{file.method.name}, seed {file.method.seed} ({file.file}, {origin})"


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _half(value: float | None) -> str:
    return "-" if value is None else f"±{100 * value:.2f}"


def _with_half(figure: Figure | None) -> str:
    if figure is None or figure.mean is None:
        return "-"
    return _per_cent(figure.mean) + (
        "" if figure.episodes is None else f" ±{100 * figure.episodes:.2f}"
    )
