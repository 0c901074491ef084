"""The boards in Markdown, LaTeX and CSV; entries are strangers' data, so all is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from mlfsic_bench.leaderboard.board import (
    ABOVE,
    Board,
    BoardRow,
    columns,
    labels_text,
    source_of,
    standing,
)
from mlfsic_bench.leaderboard.entry import Entry
from mlfsic_bench.leaderboard.kinds import Audited, IntervalKind
from mlfsic_bench.leaderboard.titles import titles
from mlfsic_bench.metrics.metric import Metric
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.text import csv_text, for_latex, for_markdown, latex_row

INTRO = (
    "Means over episodes in per cent. Entries of one table share split, protocol, episodes and "
    "metrics version and compare; entries of different tables do not."
)
REPORTED_NOTE = (
    "Reported rows are copied from print. Their episodes, and often their images, are not those of "
    "the other rows and nobody here has their scores: they are not ranked and do not compare."
)
STORED_NOTE = (
    "Rows whose scores are only stored are not ranked: the targets came with the scores and were "
    "not rebuilt from the split."
)
UNAUDITED_NOTE = (
    "Not ranked, because no audit has made some of their scores again in a fresh process: {}."
)
FOREIGN_NOTE = "Ranked on foreign scores, verified by computing every figure again: {}."


def board_markdown(boards: Sequence[Board]) -> str:
    """All boards as Markdown, a table each."""
    lines, shown = ["# Leaderboard", "", INTRO, ""], columns(boards)
    for board, title in zip(boards, titles(boards), strict=True):
        lines += [
            f"## {for_markdown(title)}",
            "",
            *(f"- {for_markdown(fact)}" for fact in facts(board)),
            "",
        ]
        heads = " | ".join(for_markdown(metric.head) for metric in shown)
        lines.append(f"| # | Method | Backbone | {heads} | Tracks | State |")
        lines.append("|--:|:--|:--|" + "--:|" * len(shown) + ":--|:--|")
        for row in (*board.rows, *board.reported):
            entry = row.entry
            mark = "" if entry.ranked else "*"
            cells = [
                "" if row.rank is None else str(row.rank),
                f"{mark}{for_markdown(entry.name)}{mark}",
                for_markdown(entry.backbone or "-"),
                *(for_markdown(cell(row, metric.name, board.interval)) for metric in shown),
                for_markdown(", ".join(tracks(entry))),
                state_of(entry),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
        if board.reported:
            sources = dict.fromkeys(
                source_of(row.entry).rpartition(", row")[0] for row in board.reported
            )
            lines += [f"{REPORTED_NOTE} Source: {for_markdown('; '.join(sources))}.", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def board_latex(boards: Sequence[Board]) -> str:
    """All boards as LaTeX tables (package booktabs)."""
    lines, shown = [], columns(boards)
    for board in boards:
        lines += [
            r"\begin{table}",
            r"\centering",
            r"\begin{tabular}{rll" + "r" * len(shown) + "}",
            r"\toprule",
            " & ".join([r"\# & Method & Backbone", *(for_latex(m.head) for m in shown)]) + r" \\",
            r"\midrule",
        ]
        lines += [_latex_row(row, board, shown) for row in board.rows]
        if board.reported:
            span = len(shown) + 3
            lines += [
                r"\midrule",
                rf"\multicolumn{{{span}}}{{l}}{{Reported, not ranked and not comparable:}} \\",
            ]
            lines += [_latex_row(row, board, shown) for row in board.reported]
        caption = " ".join(map(for_latex, (f"{board.split_id}.", *facts(board))))
        lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}", ""]
    return "\n".join(lines)


def board_csv(boards: Sequence[Board]) -> str:
    """One line for every entry and metric: value and each interval, unrounded, in per cent."""
    bounds = [f"{_word(kind)}_{end}" for kind in IntervalKind for end in ("low", "high")]
    lines: list[list[object]] = [
        [
            *("split", "split_hash", "protocol", "episodes_hash", "episodes", "metrics_version"),
            *(
                "images",
                "rank",
                "entry",
                "name",
                "state",
                "audit",
                "pretraining",
                "words",
                "adaptation",
            ),
            *("backbone", "training_seeds", "source", "metric", "value", *bounds, "chance"),
        ]
    ]
    for board in boards:
        for row in (*board.rows, *board.reported):
            entry, protocol = row.entry, row.entry.protocol
            head = [
                *(entry.split.id, entry.split.hash or "", protocol.id, protocol.episodes or ""),
                *(protocol.count, entry.metrics_version or "", entry.tracks.images.value),
                *(row.rank or "", entry.id, entry.name, entry.state.value),
                entry.audited.value if entry.audited else "",
                *(entry.tracks.pretraining.value, entry.tracks.words.value),
                *(entry.tracks.adaptation.value, entry.backbone),
                *(entry.training_seeds or "", source_of(entry)),
            ]
            for name in METRICS:
                if name in entry.figures:
                    figure = entry.figures[name]
                    each = [figure.intervals.get(kind) for kind in IntervalKind]
                    pairs = [(None, None) if i is None else (i.low, i.high) for i in each]
                    ends = [end for pair in pairs for end in pair]
                    lines.append([*head, name, figure.value, *ends, row.chance.get(name)])
    return csv_text(lines)


def facts(board: Board) -> list[str]:
    """What holds for all rows of a board, in sentences."""
    lines = [f"{board.dataset}; {standing(board)}."]
    if board.split_hash and board.episodes_hash:
        lines.append(
            f"Split {board.split_hash[:12]}; {board.count} episodes {board.episodes_hash[:12]}."
        )
    for name, head in (("micro_ap", "micro-AP"), ("macro_ap", "macro-AP")):
        level = board.chance.get(name)
        if level and level.low == level.high:
            lines.append(f"Chance {head}: {level.low:.2f}.")
        elif level:
            lines.append(
                f"Chance {head}: {level.low:.2f} or more, {level.high:.2f} at 1.25 labels an image."
            )
    if any(not row.entry.verified for row in board.rows):
        lines.append(STORED_NOTE)
    lines += audit_notes(board)
    if board.interval:
        lines.append(f"In brackets: 95 % interval over {board.interval.value}.")
    if board.images.value == "subset":
        lines.append("SUBSET: part of the images only; does not compare with full runs.")
        if board.rows and (labels := labels_text(board.rows[0].entry)):
            lines.append(f"Figures are over {labels}.")
    return lines


def audit_notes(board: Board) -> list[str]:
    """Which verified rows are not ranked for want of an audit, and which have foreign scores."""
    verified = [row.entry for row in board.rows if row.entry.verified]
    without = [
        entry.name + (" (audit failed)" if entry.audited is Audited.FAILED else "")
        for entry in verified
        if not entry.ranked
    ]
    foreign = [entry.name for entry in verified if entry.audited is Audited.FOREIGN]
    lines = [UNAUDITED_NOTE.format(", ".join(without))] if without else []
    return lines + ([FOREIGN_NOTE.format(", ".join(foreign))] if foreign else [])


def state_of(entry: Entry) -> str:
    """The state and, where there are scores, what is known of the audits of their runs."""
    known = entry.audited
    if known is None:
        return entry.state.value
    return known.value if known is Audited.FOREIGN else f"{entry.state.value}, {known.value}"


def cell(row: BoardRow, metric: str, kind: IntervalKind | None) -> str:
    """A figure with its interval, and a mark where it is not above chance; `-` when absent."""
    figure = row.entry.figures.get(metric)
    if figure is None:
        return "-"
    bounds = figure.intervals.get(kind) if kind else None
    text = f"{figure.value:.2f}"
    if bounds:
        text += f" [{bounds.low:.2f}, {bounds.high:.2f}]"
    verdict = row.chance.get(metric, ABOVE)
    return text if verdict == ABOVE else f"{text} ({verdict})"


def tracks(entry: Entry) -> list[str]:
    """An entry's tracks in words, e.g. `pre-training: external images`."""
    each = entry.tracks
    words = "words: not stated" if each.words.value == "not stated" else each.words.value
    return [
        f"pre-training: {each.pretraining.value}",
        words,
        f"adaptation: {each.adaptation.value}",
        f"images: {each.images.value}",
    ]


def _latex_row(row: BoardRow, board: Board, shown: Sequence[Metric]) -> str:
    entry = row.entry
    name = for_latex(entry.name)
    cells = [
        "" if row.rank is None else str(row.rank),
        name if entry.ranked else rf"\textit{{{name}}}",
        for_latex(entry.backbone or "-"),
        *(for_latex(cell(row, metric.name, board.interval)) for metric in shown),
    ]
    return latex_row(cells)


def _word(kind: IntervalKind) -> str:
    return kind.value.replace(" ", "_")
