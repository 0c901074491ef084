"""The boards as one HTML page that asks nothing of any server.

Entries are strangers' data. Jinja escapes every text; the page's script sets texts through
`textContent`; control characters and changes of writing direction are shown as � before either sees
them; and a content security policy lets only our own style and script run, by their hashes.
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

from mlfsic_bench.leaderboard.board import (
    ABOVE,
    Board,
    BoardRow,
    columns,
    labels_text,
    standing,
)
from mlfsic_bench.leaderboard.board_text import INTRO, STORED_NOTE, audit_notes
from mlfsic_bench.leaderboard.card import STATES, all_visible, card_of, state_class
from mlfsic_bench.leaderboard.entry_figures import Chance
from mlfsic_bench.leaderboard.kinds import (
    Adaptation,
    ImageTrack,
    IntervalKind,
    Pretraining,
    WordTrack,
)
from mlfsic_bench.leaderboard.titles import badges
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.text import for_html

DRAWN = ("macro_ap", "micro_ap")
WIDTH = 160  # of a bar, in its own units
# Short words for a narrow column, with what they stand for; a dictionary for each track, because
# equal texts make members of different enums equal.
PRETRAINING_CHIPS = {
    Pretraining.EXTERNAL: (
        "external images",
        "pre-trained on images that are not of the base part",
    ),
    Pretraining.BASE: ("base images", "no images seen but the split's base images"),
    Pretraining.UNKNOWN: ("pre-training ?", "pre-training is not stated"),
}
WORD_CHIPS = {
    WordTrack.VECTORS: ("word vectors", "given label embeddings"),
    WordTrack.NONE: ("no words", "without label embeddings"),
    WordTrack.UNKNOWN: ("words ?", "label embeddings are not stated"),
}
ADAPTATION_CHIPS = {
    Adaptation.GRADIENT: ("gradient", "adapts to an episode by gradient steps"),
    Adaptation.NONE: ("no gradient", "adapts to an episode without gradient steps"),
    Adaptation.UNKNOWN: ("adaptation ?", "adaptation is not stated"),
}
TRACKS = (
    ("pre", "Pre-training", Pretraining),
    ("words", "Word vectors", WordTrack),
    ("adapt", "Adaptation", Adaptation),
    ("images", "Images", ImageTrack),
)


def board_html(boards: Sequence[Board]) -> str:
    """The page; the same boards give the same bytes."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_html
    )
    style, script = _asset("leaderboard.css"), _asset("leaderboard.js")
    rows = [row for board in boards for row in (*board.rows, *board.reported)]
    shown = columns(boards)
    data = {
        "kinds": [kind.value for kind in IntervalKind],
        "columns": ["", "name", "", *(metric.name for metric in shown), "made"],
        "entries": all_visible({row.key: card_of(row) for row in rows}),
    }
    page: str = environment.from_string(_asset("leaderboard.html.j2")).render(
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(script_json(data)),
        intro=INTRO,
        states=[(state.value, meaning) for state, meaning in STATES.items()],
        tracks=[(name, head, [one.value for one in values]) for name, head, values in TRACKS],
        columns=shown,
        drawn=DRAWN,
        groups=[
            (average.capitalize(), len(own), own[0].name in DRAWN)
            for average, own in ((a, list(m)) for a, m in groupby(shown, lambda m: m.average))
        ],
        boards=[_board(board, each) for board, each in zip(boards, badges(boards), strict=True)],
        total=len(rows),
    )
    return page


def _html(value: object) -> object:
    """What the template shows: every text that is not markup of ours through `for_html`."""
    ours = not isinstance(value, str) or hasattr(value, "__html__")
    return value if ours else for_html(str(value))


def policy(style: str, script: str) -> str:
    """The content security policy under which exactly this style and script work."""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def script_json(value: Any) -> str:
    """`value` as JSON that neither ends a script element nor opens a comment in it.

    >>> script_json({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _board(board: Board, tags: tuple[str, ...]) -> dict[str, Any]:
    top = _top(board)
    same_words = f"{board.dataset}. {standing(board)}."
    if board.split_hash and board.episodes_hash:
        same_words += (
            f" Split {board.split_hash[:12]}, {board.count} episodes {board.episodes_hash[:12]}."
        )
    if any(not row.entry.verified for row in board.rows):
        same_words += f" {STORED_NOTE}"
    same_words += "".join(f" {note}" for note in audit_notes(board))
    value: dict[str, Any] = {
        "anchor": board.anchor,
        "split_id": board.split_id,
        "images": board.images.value,
        "title": ", ".join((board.split_id, *tags)),
        "tags": tags,
        "facts": same_words + _level_text(board) + _subset_text(board),
        "interval": board.interval.value if board.interval else None,
        "top": top,
        "rows": [_row(row, board, top) for row in board.rows],
        "reported": [_row(row, board, top) for row in board.reported],
        "reported_chance": _reported_chance(board),
    }
    return value


def _row(row: BoardRow, board: Board, top: int) -> dict[str, Any]:
    entry = row.entry
    tracks = entry.tracks
    chips = [
        PRETRAINING_CHIPS[tracks.pretraining],
        WORD_CHIPS[tracks.words],
        ADAPTATION_CHIPS[tracks.adaptation],
    ]
    return {
        "key": row.key,
        "name": entry.name,
        "rank": row.rank,
        "state": entry.state.value,
        "state_class": state_class(entry),
        "audit": entry.audited.value if entry.audited else "",
        "backbone": entry.backbone or "no backbone",
        "pretraining": tracks.pretraining.value,
        "words": tracks.words.value,
        "adaptation": tracks.adaptation.value,
        "images": tracks.images.value,
        "chips": chips,
        "made": entry.dates.made,
        "cells": {name: _cell(row, name, board, top) for name in METRICS},
    }


def _cell(row: BoardRow, metric: str, board: Board, top: int) -> dict[str, Any] | None:
    figure = row.entry.figures.get(metric)
    if figure is None:
        return None
    bounds = figure.intervals.get(board.interval) if board.interval else None
    verdict = row.chance.get(metric, ABOVE)
    level = row.entry.chance.get(metric)  # type: ignore[call-overload]
    return {
        "value": figure.value,
        "text": f"{figure.value:.2f}",
        "interval": f"{bounds.low:.2f} – {bounds.high:.2f}" if bounds else None,
        "title": f"95 % over {board.interval.value}: {bounds.low:.2f} to {bounds.high:.2f}"
        if bounds and board.interval
        else None,
        "verdict": None if verdict == ABOVE else verdict,
        "bar": _bar(figure.value, bounds, level, top),
    }


def _bar(value: float, bounds: Any, level: Chance | None, top: int) -> dict[str, float | None]:
    def place(x: float) -> float:
        return round(min(max(x / top, 0.0), 1.0) * WIDTH, 1)

    low, high = (place(bounds.low), place(bounds.high)) if bounds else (None, None)
    return {
        "value": round(place(value) - 0.75, 2),
        "low": low,
        "high": high,
        "width": None if low is None or high is None else round(high - low, 1),
        "chance": place(level.low) if level else None,
    }


def _top(board: Board) -> int:
    """Where the board's bars end: the next ten above all that is drawn."""
    drawn = [0.0]
    for row in (*board.rows, *board.reported):
        for metric in DRAWN:
            if metric in row.entry.figures:
                figure = row.entry.figures[metric]
                drawn += [figure.value, *(bounds.high for bounds in figure.intervals.values())]
    return max(10, min(100, 10 * math.ceil(max(drawn) / 10)))


def _level_text(board: Board) -> str:
    exact = [
        f"{head} {level.low:.2f}"
        for name, head in (("macro_ap", "macro-AP"), ("micro_ap", "micro-AP"))
        if board.rows and (level := board.chance.get(name))
    ]
    return f" Chance: {', '.join(exact)}." if exact else ""


def _subset_text(board: Board) -> str:
    if board.images is ImageTrack.FULL:
        return ""
    labels = labels_text(board.rows[0].entry) if board.rows else ""
    over = f" Figures are over {labels}." if labels else ""
    return " Made on part of the images; does not compare with full runs." + over


def _reported_chance(board: Board) -> str:
    levels = board.reported[0].entry.chance if board.reported else {}
    texts = [
        f"{head} {level.low:.2f} or more ({level.high:.2f} at 1.25 labels an image)"
        for name, head in (("macro_ap", "macro-AP"), ("micro_ap", "micro-AP"))
        if (level := levels.get(name))  # type: ignore[call-overload]
    ]
    return f"Their chance level: {', '.join(texts)}." if texts else ""


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("mlfsic_bench.leaderboard.web").joinpath(name).read_text(encoding="utf-8")
