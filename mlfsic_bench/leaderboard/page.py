"""The boards as one HTML page that makes no request to any server.

Entries are untrusted. The template writes every text, escaped, with control characters and changes
of writing direction shown as �; the script makes no text of its own; and a content security policy
lets only the style and the script of this package run, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from typing import Any

from mlfsic_bench.leaderboard import wording
from mlfsic_bench.leaderboard.board import (
    NO_RUNS,
    RANKED_BY,
    Board,
    columns,
    kinds_of,
    labels_text,
    ordered_metrics,
)
from mlfsic_bench.leaderboard.entry import Entry, Reported
from mlfsic_bench.repository import REPOSITORY, how_to_submit
from mlfsic_bench.text import for_html

PAPER = "https://doi.org/10.1609/aaai.v36i3.20205"
MOST_POINTS = 40  # rows of a board's figure; its table has all
LINE = 26  # height of a row of the figure


def board_html(boards: Sequence[Board], results: str = "..") -> str:
    """The page; the same boards give the same bytes.

    `results` leads from the page's folder to the results folder, for links to scores.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_html
    )
    style, script = _asset("leaderboard.css"), _asset("leaderboard.js")
    shown = columns(boards)
    averages = groupby(shown, lambda metric: metric.average)
    page: str = environment.from_string(_asset("leaderboard.html.j2")).render(
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        say=wording,
        paper=PAPER,
        repository=REPOSITORY,
        how_to_submit=how_to_submit(),
        columns=shown,
        metrics=ordered_metrics(),
        kinds_of=kinds_of,
        no_runs=NO_RUNS,
        labels_text=labels_text,
        groups=[(average.capitalize(), len(list(own))) for average, own in averages],
        boards=boards,
        most=MOST_POINTS,
        total=sum(len(board.all_rows) for board in boards),
        fixed="{:.2f}".format,
        figure_of=_figure,
        links_of=lambda entry: _links(entry, results)[:4],
        in_width=lambda value: max(0.0, min(100.0, value)),
        setting=lambda one: one if isinstance(one, str) else json.dumps(one, ensure_ascii=False),
    )
    return page


def policy(style: str, script: str) -> str:
    """The content security policy under which exactly this style and script work."""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _html(value: object) -> object:
    """What the template shows: every text that is not markup of this package, escaped."""
    safe = not isinstance(value, str) or hasattr(value, "__html__")
    return value if safe else for_html(str(value))


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("mlfsic_bench.leaderboard.web").joinpath(name).read_text(encoding="utf-8")


def _links(entry: Entry, results: str) -> list[tuple[str, str]]:
    """The entry's own links, and where its scores or its printed table lie."""
    links = [(link.title, link.url) for link in entry.links]
    proof = entry.proof
    if not isinstance(proof, Reported):
        for i, file in enumerate(proof.files, 1):
            name = "scores" if len(proof.files) == 1 else f"scores {i}"
            # The folder: a large file of scores may be kept compressed there.
            links.append((name, f"{results}/{file.scores.rpartition('/')[0]}"))
    elif proof.copy_in:
        links.append(("copied table", f"{results}/{proof.copy_in}"))
    return links


def _figure(board: Board) -> dict[str, Any] | None:
    """Points with intervals, one line for each row; places are in per cent of the width."""
    rows = [row for row in board.all_rows if RANKED_BY in row.entry.figures][:MOST_POINTS]
    if not rows:
        return None
    level = board.first.chance.get(RANKED_BY)
    several = len({row.entry.backbone for row in rows}) > 1
    points = []
    for row in rows:
        value = row.entry.figures[RANKED_BY]
        bounds = value.intervals.get(board.interval) if board.interval else None
        points.append((row, value.value, bounds))
    reached = [x for _, value, b in points for x in ((value, b.low, b.high) if b else (value,))]
    reached += [level.low] if level else []
    low = max(0, 10 * math.floor(min(reached) / 10))
    high = min(100, max(low + 10, 10 * math.ceil(max(reached) / 10)))

    def place(x: float) -> float:
        return round(2 + 96 * (min(max(x, low), high) - low) / (high - low), 2)

    step = 5 if high - low <= 40 else 10
    height = LINE * len(points)
    return {
        "height": height,
        "ticks": [(place(x), x) for x in range(low, high + 1, step)],
        "chance": None if level is None else place(level.low),
        "left_out": len(board.all_rows) - len(points),
        "points": [
            {
                "name": row.entry.name,
                "backbone": (row.entry.backbone or "")
                if several or not row.entry.has_scores
                else "",
                "text": f"{value:.2f}",
                "y": LINE * i + LINE / 2,
                "x": place(value),
                "low": place(bounds.low) if bounds else None,
                "high": place(bounds.high) if bounds else None,
                "kind": "ranked" if row.rank else "unranked" if row.entry.has_scores else "printed",
            }
            for i, (row, value, bounds) in enumerate(points)
        ],
    }
