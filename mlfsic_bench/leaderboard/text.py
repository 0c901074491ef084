"""The boards in Markdown, LaTeX, CSV and BibTeX; entries are untrusted, so all is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlfsic_bench.leaderboard import wording as say
from mlfsic_bench.leaderboard.board import (
    ABOVE,
    NO_RUNS,
    RANKED_BY,
    Board,
    BoardRow,
    columns,
    protocol_title,
)
from mlfsic_bench.leaderboard.entry import Entry, IntervalKind
from mlfsic_bench.metrics.metric import Metric
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.table import Column, Table, table, to_latex, to_markdown
from mlfsic_bench.splits.names import plain_id
from mlfsic_bench.text import csv_text, for_latex, for_markdown


def board_markdown(boards: Sequence[Board]) -> str:
    """All boards as Markdown: how to read them, an overview, a table each."""
    shown = columns(boards)
    terms = [(one.value, text) for one, text in say.STATES.items()]
    terms += [(one.value, text) for one, text in say.AUDITS.items()]
    lines = [f"# {say.TITLE}", "", f"{say.TASK} {say.RULE}", ""]
    lines += [f"- {term}: {text}." for term, text in terms]
    lines += [
        f"- {for_markdown(text)}" for text in (say.NAMES, say.TIE, say.NEAR_MEANS, say.CHANCE_MEANS)
    ]
    parts = ["\n".join(lines) + "\n", to_markdown([_overview(boards)])]
    for board in boards:
        facts = [f"- {for_markdown(fact)}" for fact in _facts(board)]
        parts.append("\n".join([f"## {for_markdown(board.title)}", "", *facts, ""]))
        parts.append(to_markdown([_whole_table(board, shown)]))
        if board.reported:
            sources = dict.fromkeys(say.source_of(row.entry, row=False) for row in board.reported)
            parts.append(f"{say.REPORTED_NOTE} Source: {for_markdown('; '.join(sources))}.\n")
    loads = [
        f"- {for_markdown(row.entry.name)}: {_code(say.load_line(row.entry))}\n"
        for board in boards
        for row in board.all_rows
    ]
    return "\n".join([*parts, "## Load or score an entry\n", "".join(loads)])


def _code(line: str) -> str:
    """A line as code; one with a sign that could end the code is escaped as text."""
    return f"`{line}`" if re.fullmatch(r'[\w ./;="()-]+', line, re.ASCII) else for_markdown(line)


def board_latex(boards: Sequence[Board]) -> str:
    """All boards as LaTeX tables (package booktabs): AP and F1, to fit the width of a page."""
    shown = [metric for metric in columns(boards) if metric.short not in ("P", "R")]
    return "\n".join(to_latex(_narrow_table(board, shown)) for board in boards)


def board_csv(boards: Sequence[Board]) -> str:
    """One line for every entry and metric: value and each interval, unrounded, in per cent."""
    bounds = [
        f"{kind.value.replace(' ', '_')}_{end}" for kind in IntervalKind for end in ("low", "high")
    ]
    lines: list[list[object]] = [
        [
            *("split", "split_hash", "protocol", "episodes_hash", "episodes", "metrics_version"),
            *("images", "rank", "entry", "name", "state", "audit", "pretraining", "embeddings"),
            *("adaptation", "query", "backbone", "training_seeds", "source", "metric", "value"),
            *bounds,
            "chance",
        ]
    ]
    for row in (row for board in boards for row in board.all_rows):
        entry, protocol = row.entry, row.entry.protocol
        head = [
            *(
                entry.split.id,
                entry.split.hash or "",
                protocol_title(protocol),
                protocol.episodes or "",
            ),
            *(protocol.count, entry.metrics_version or "", entry.tracks.images.value),
            *(row.rank or "", entry.id, entry.name, entry.state.value),
            entry.audited.value if entry.audited else "",
            *(entry.tracks.pretraining.value, entry.tracks.words.value),
            *(entry.tracks.adaptation.value, say.query_track(entry), entry.backbone),
            *(entry.training_seeds or "", say.source_of(entry)),
        ]
        for name in METRICS:
            if name in entry.figures:
                value = entry.figures[name]
                each = [value.intervals.get(kind) for kind in IntervalKind]
                ends = [end for one in each for end in ((one.low, one.high) if one else ("", ""))]
                lines.append([*head, name, value.value, *ends, row.chance.get(name)])
    return csv_text(lines)


def board_bibtex(boards: Sequence[Board]) -> str:
    """An item for every work that entries cite, under the name of the first of them."""
    cited: dict[str, list[Entry]] = {}
    for row in (row for board in boards for row in board.all_rows):
        cited.setdefault(row.entry.citation, []).append(row.entry)
    items = []
    for citation, entries in sorted(cited.items()):
        first = min(entries, key=lambda entry: (not entry.authors, entry.split.id, entry.id))
        year = re.search(r"\b(?:19|20)\d\d\b", citation)
        fields = [("author", " and ".join(first.authors)), ("year", year[0] if year else "")]
        fields.append(("note", citation))
        text = ",\n".join(f"  {name} = {{{_for_bibtex(value)}}}" for name, value in fields if value)
        items.append(f"@misc{{{plain_id(first.split.id)}-{first.id},\n{text}\n}}\n")
    return "\n".join(items)


def _overview(boards: Sequence[Board]) -> Table:
    rows = []
    for board in boards:
        best = board.best
        said = "nothing is ranked" if board.rows else NO_RUNS
        if best:
            said = f"{best.entry.name} {best.entry.figures[RANKED_BY].value:.2f}"
        ranked = sum(row.rank is not None for row in board.rows)
        chance = say.level_text(board.first.chance.get(RANKED_BY))
        rows.append((board.title, said, chance, str(ranked), str(len(board.reported))))
    heads = ("Table", "Best ranked method, macro-AP", "Chance", "Ranked", "Reported")
    return table(heads, rows, texts=(0, 1))


def _whole_table(board: Board, shown: Sequence[Metric]) -> Table:
    heads = ["#", "Method", "Backbone", "Seeds", *(m.head for m in shown), "Tracks", "State"]
    rows = [
        (
            row.rank_text,
            row.entry.name,
            row.entry.backbone or "-",
            str(row.entry.training_seeds or "-"),
            *(
                _cell(row, m.name, board.interval if m.name in say.WITH_INTERVAL else None)
                for m in shown
            ),
            _tracks(row.entry),
            say.state_text(row.entry),
        )
        for row in board.all_rows
    ]
    return table(heads, rows, texts=(1, 2, len(heads) - 2, len(heads) - 1))


def _narrow_table(board: Board, shown: Sequence[Metric]) -> Table:
    """Ranked, unranked and reported rows; a star where an AP is at chance or below."""
    groups: list[list[BoardRow]] = [
        [row for row in board.rows if row.rank],
        [row for row in board.rows if not row.rank],
        list(board.reported),
    ]
    backbones = {row.entry.backbone or "-" for row in board.all_rows}
    differ = len(backbones) > 1  # else it is said once, below the table
    rows: list[tuple[str, ...] | None] = []
    for group in filter(None, groups):
        rows += [None] if rows else []
        for row in group:
            cells = [
                _cell(row, m.name, board.interval if m.name == RANKED_BY else None) for m in shown
            ]
            rows.append(
                (
                    row.rank_text,
                    row.entry.name,
                    *([row.entry.backbone or "-"] if differ else []),
                    str(row.entry.training_seeds or "-"),
                    *(re.sub(r" \((at|below) chance\)", "*", cell) for cell in cells),
                )
            )
    names = ("Method", "Backbone") if differ else ("Method",)
    heads = [Column("#"), *(Column(name, is_text=True) for name in names)]
    heads += [Column("Seeds"), *(Column(m.short, m.average.capitalize()) for m in shown)]
    facts = [] if differ else [f"Backbone: {backbones.pop()}."]
    facts += [
        *_facts(board),
        "* at chance or below.",
        *([say.REPORTED_NOTE] if board.reported else []),
    ]
    return Table(tuple(heads), tuple(rows), f"{board.title}.", tuple(facts))


def _facts(board: Board) -> list[str]:
    facts = [
        say.conditions(board),
        say.chance_text(board.first),
        *say.remarks(board),
        *say.why_unranked(board),
    ]
    if board.interval:
        facts.append(f"In brackets: 95 % interval over {board.interval.value}.")
    return [fact for fact in facts if fact]


def _cell(row: BoardRow, metric: str, kind: IntervalKind | None) -> str:
    """A value, its interval of `kind`, and a mark where it is not above chance; `-` when absent."""
    value = row.entry.figures.get(metric)
    if value is None:
        return "-"
    bounds = value.intervals.get(kind) if kind else None
    text = f"{value.value:.2f}" + (f" [{bounds.low:.2f}, {bounds.high:.2f}]" if bounds else "")
    verdict = row.chance.get(metric, ABOVE)
    return text if verdict == ABOVE else f"{text} ({verdict})"


def _tracks(entry: Entry) -> str:
    """An entry's tracks in words, e.g. `pre-training: external images, ...`."""
    each = entry.tracks
    return (
        f"pre-training: {each.pretraining.value}, label embeddings: {each.words.value}, "
        f"adaptation: {each.adaptation.value}" + (", transductive" if each.transductive else "")
    )


def _for_bibtex(text: str) -> str:
    """LaTeX in which every brace has its partner: BibTeX counts escaped ones too."""
    return for_latex(text).replace(r"\{", r"\symbol{123}").replace(r"\}", r"\symbol{125}")
