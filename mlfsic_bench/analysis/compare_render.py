"""A CompareReport for the terminal, in Markdown, CSV and JSON; names are data: all is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlfsic_bench.analysis.compare_report import CompareReport, MetricComparison, Pair
from mlfsic_bench.results.columns import aligned
from mlfsic_bench.results.marks import count_labels
from mlfsic_bench.text import LONGEST_NAME, csv_text, for_json, for_markdown, for_terminal

SMALLEST = 0.0001
PAIR_HEADS = ("difference", "± episodes", "± images", "win/tie/loss", "t: p", "t: Holm",
              "Wilcoxon: p", "Wilcoxon: Holm")  # fmt: skip
ENTRY_HEADS = ("mean", "± episodes", "± images", "average rank")


def caption(report: CompareReport) -> list[str]:
    """Sentences that say what the figures are of."""
    split, episodes = report.split, report.episodes
    labels = count_labels(split.id, report.labels, subset=split.subset, noun="novel labels")
    pairs = len(report.metrics[0].pairs)
    family = "all against one" if report.against else "all pairs"
    over = "runs" if episodes.shots else "episodes"
    return [
        f"Split {split.id} ({split.hash[:12]}), {labels}; protocol "
        f"{episodes.protocol}; {episodes.count} {over} ({episodes.hash[:12]}); "
        f"{report.metrics_version}.",
        f"Differences are the first minus the second, paired over {over}, in points (per cent). ± "
        f"is the half width of a 95 % interval: over {over} (Student t; these images, other "
        f"{over}) and over images (other images; covers {report.image_intervals}).",
        f"win/tie/loss: {over} in which the first is above, equal, below. Average rank over "
        f"{over}, 1 is best, equal values share their ranks.",
        f"p: two-sided, of paired t and Wilcoxon (Pratt's zeros). Holm: over {family}, {pairs} "
        f"{'comparison' if pairs == 1 else 'comparisons'} a metric, each test by itself.",
        *report.notes,
    ]


def render_terminal(report: CompareReport) -> str:
    """Plain text: entries with their numbers, then pairs by those numbers, to fit 80 columns."""
    place = {entry.name: str(i + 1) for i, entry in enumerate(report.entries)}
    blocks = []
    for metric in report.metrics:
        rows = [
            (place[s.name], _value(s.mean), _half(s.episodes), _half(s.images), _rank(s.rank),
             for_terminal(s.name, LONGEST_NAME))
            for s in metric.entries
        ]  # fmt: skip
        heads = ("#", "mean", "± episodes", "± images", "rank", "method")
        blocks.append("\n".join([metric.metric, *aligned([heads, *rows], left=(5,))]))
        pairs = [
            (f"{place[pair.a]} - {place[pair.b]}", *_pair_cells(pair)) for pair in metric.pairs
        ]
        upper = ("", "", "±", "±", "win/tie/", "t test", "t test", "Wilcoxon", "Wilcoxon")
        lower = ("#", "diff", "episodes", "images", "loss", "p", "Holm", "p", "Holm")
        blocks.append("\n".join(aligned([upper, lower, *pairs])))
    blocks.append("\n".join(map(for_terminal, caption(report))))
    return "\n\n".join(blocks) + "\n"


def render_markdown(report: CompareReport) -> str:
    """Two GitHub-flavoured Markdown tables for each metric, the caption at the end."""
    parts = []
    for metric in report.metrics:
        parts.append(f"**{metric.metric}**")
        rows = [
            (s.name, _value(s.mean), _half(s.episodes), _half(s.images), _rank(s.rank))
            for s in metric.entries
        ]
        parts.append(_grid(("Method", *ENTRY_HEADS), rows))
        pairs = [(f"{pair.a} − {pair.b}", *_pair_cells(pair)) for pair in metric.pairs]
        parts.append(_grid(("Pair", *PAIR_HEADS), pairs))
    parts.append("\n".join(f"- {for_markdown(line)}" for line in caption(report)))
    return "\n\n".join(parts) + "\n"


def render_json(report: CompareReport) -> str:
    """The report itself, as fractions; docs/compare.md says what the keys are."""
    return for_json(report.model_dump(mode="json")) + "\n"


def render_csv(report: CompareReport) -> str:
    """A line for each entry and each pair, in per cent, unrounded; the caption in the last column.

    Lines of entries have an empty `b` and their average rank; lines of pairs have the rest.
    """
    lines: list[list[object]] = [
        ["metric", "a", "b", "mean", "episodes", "images", "rank", "n", "wins", "ties", "losses",
         "t_p", "t_holm", "wilcoxon_p", "wilcoxon_holm", "caption"]
    ]  # fmt: skip
    about = " ".join(caption(report))
    for metric in report.metrics:
        for s in metric.entries:
            figures = map(_points, (s.mean, s.episodes, s.images))
            lines.append([metric.metric, s.name, None, *figures, s.rank, *[None] * 8, about])
        for p in metric.pairs:
            figures = map(_points, (p.mean, p.episodes, p.images))
            counts = (p.n, p.wins, p.ties, p.losses)
            tests = (p.t_p, p.t_holm, p.wilcoxon_p, p.wilcoxon_holm)
            lines.append([metric.metric, p.a, p.b, *figures, None, *counts, *tests, about])
    return csv_text(lines)


RENDERERS: dict[str, Callable[[CompareReport], str]] = {
    "terminal": render_terminal,
    "markdown": render_markdown,
    "csv": render_csv,
    "json": render_json,
}


def sentence(metric: MetricComparison) -> str:
    """In words what a difference plot of this metric shows, for those who don't see it."""
    ordered = sorted(metric.pairs, key=lambda pair: -(pair.mean or 0.0))
    told = "; ".join(
        f"{pair.a} minus {pair.b} {_signed(pair.mean)} {_half(pair.images)} over images"
        for pair in ordered[:6]
    )
    rest = f"; and {len(ordered) - 6} more" if len(ordered) > 6 else ""
    return f"Paired differences in {metric.metric}, in points: {told}{rest}."


def _pair_cells(pair: Pair) -> tuple[str, ...]:
    return (
        _signed(pair.mean),
        _half(pair.episodes),
        _half(pair.images),
        f"{pair.wins}/{pair.ties}/{pair.losses}",
        *(_p(x) for x in (pair.t_p, pair.t_holm, pair.wilcoxon_p, pair.wilcoxon_holm)),
    )


def _grid(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|:--|" + "--:|" * (len(heads) - 1)]
    lines += ["| " + " | ".join(for_markdown(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _value(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _signed(value: float | None) -> str:
    if value is None:
        return "-"
    text = f"{100 * value:+.2f}"
    return "0.00" if float(text) == 0 else text


def _half(value: float | None) -> str:
    return "-" if value is None else f"±{100 * value:.2f}"


def _rank(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return f"<{SMALLEST}" if value < SMALLEST else f"{value:.4f}"


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value
