"""The boards as one HTML page that makes no request to any server.

Entries are untrusted. Jinja escapes every text; the page's script sets texts through `textContent`;
control characters and changes of writing direction are shown as � before either sees them; and a
content security policy lets only the style and the script of this package run, by their hashes.
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
    AUDITS,
    CHANCE_MEANS,
    NAMES,
    NEAR_MEANS,
    NO_RUNS,
    RANKED_BY,
    REPORTED_NOTE,
    RULE,
    STATES,
    TASK,
    TIE,
    TITLE,
    WITH_INTERVAL,
    Board,
    BoardRow,
    chance_text,
    columns,
    conditions,
    labels_text,
    load_line,
    ordered_metrics,
    remarks,
    source_of,
    why_unranked,
)
from mlfsic_bench.leaderboard.entry import (
    Adaptation,
    Embeddings,
    Entry,
    ImageTrack,
    IntervalKind,
    Pretraining,
    Reported,
    State,
)
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.repository import REPOSITORY, how_to_submit
from mlfsic_bench.text import for_html, for_terminal

PAPER = "https://doi.org/10.1609/aaai.v36i3.20205"
MOST_POINTS = 40  # rows of a board's figure; its table has all
LINE = 26  # height of a row of the figure
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
EMBEDDINGS_CHIPS = {
    Embeddings.GIVEN: ("label embeddings", "given an embedding of each label's name"),
    Embeddings.NONE: ("no embeddings", "not given embeddings of the labels' names"),
    Embeddings.UNKNOWN: ("embeddings ?", "whether it has label embeddings is not stated"),
}
ADAPTATION_CHIPS = {
    Adaptation.GRADIENT: ("gradient", "adapts to an episode by gradient steps"),
    Adaptation.NONE: ("no gradient", "adapts to an episode without gradient steps"),
    Adaptation.UNKNOWN: ("adaptation ?", "adaptation is not stated"),
}
EMBEDDINGS_TEXT = {
    Embeddings.GIVEN: "label embeddings",
    Embeddings.NONE: "no label embeddings",
    Embeddings.UNKNOWN: "not stated",
}
TRACKS: tuple[tuple[str, str, list[tuple[str, str]]], ...] = (
    ("pre", "Pre-training", [(one.value, one.value) for one in Pretraining]),
    ("words", "Label embeddings", [(one.value, EMBEDDINGS_TEXT[one]) for one in Embeddings]),
    ("adapt", "Adaptation", [(one.value, one.value) for one in Adaptation]),
    ("images", "Images", [(one.value, one.value) for one in ImageTrack]),
)


def board_html(boards: Sequence[Board], results: str = "..") -> str:
    """The page; the same boards give the same bytes.

    `results` leads from the page's folder to the results folder, for links to scores.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_html
    )
    environment.globals |= {
        "chance_text": chance_text,
        "chips": _chips,
        "conditions": conditions,
        "figure_of": _figure,
        "fixed": "{:.2f}".format,
        "links_of": lambda entry: _links(entry, results)[:4],
        "load_line": load_line,
        "remarks": remarks,
        "state_class": _state_class,
        "why_unranked": why_unranked,
    }
    style, script = _asset("leaderboard.css"), _asset("leaderboard.js")
    rows = [row for board in boards for row in board.all_rows]
    shown = columns(boards)
    data = {
        "kinds": [kind.value for kind in IntervalKind],
        "columns": ["", "name", "", "seeds", *(metric.name for metric in shown), "made"],
        "entries": _all_visible({row.key: card_of(row) for row in rows}),
    }
    page: str = environment.from_string(_asset("leaderboard.html.j2")).render(
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(script_json(data)),
        title=TITLE,
        lead=(TASK, RULE),
        paper=PAPER,
        repository=REPOSITORY,
        how_to_submit=how_to_submit(),
        states=STATES,
        audits=AUDITS,
        marks=(NAMES, TIE, NEAR_MEANS, CHANCE_MEANS),
        reported_note=REPORTED_NOTE,
        tracks=TRACKS,
        columns=shown,
        with_interval=WITH_INTERVAL,
        groups=[(name.capitalize(), len(list(m))) for name, m in groupby(shown, _average)],
        boards=boards,
        most=MOST_POINTS,
        above=ABOVE,
        total=len(rows),
        no_runs=NO_RUNS,
    )
    return page


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


def _html(value: object) -> object:
    """What the template shows: every text that is not markup of this package, escaped."""
    safe = not isinstance(value, str) or hasattr(value, "__html__")
    return value if safe else for_html(str(value))


def _average(metric: Any) -> str:
    return str(metric.average)


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("mlfsic_bench.leaderboard.web").joinpath(name).read_text(encoding="utf-8")


# Tables


def _chips(entry: Entry) -> list[tuple[str, str]]:
    """An entry's tracks in short words, and what they stand for."""
    tracks = entry.tracks
    return [
        PRETRAINING_CHIPS[tracks.pretraining],
        EMBEDDINGS_CHIPS[tracks.words],
        ADAPTATION_CHIPS[tracks.adaptation],
    ]


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
                "backbone": row.entry.backbone or "",
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


# Cards


def card_of(row: BoardRow) -> dict[str, Any]:
    """What the card of an entry shows: all that its file says."""
    entry = row.entry
    label_kind = next(
        (k for k in IntervalKind if all(k in one.intervals for one in entry.per_label)), None
    )
    level = entry.chance.get(RANKED_BY)
    bounds = [one.intervals.get(label_kind) if label_kind else None for one in entry.per_label]
    return {
        "name": entry.name,
        "state": entry.state.value,
        "state_class": _state_class(entry.state),
        "meaning": STATES[entry.state] + (f"; {AUDITS[entry.audited]}" if entry.audited else ""),
        "load": load_line(entry),
        "values": [
            {
                "name": metric.head,
                "value": entry.figures[metric.name].value,
                "intervals": {
                    kind.value: [one.low, one.high]
                    for kind, one in entry.figures[metric.name].intervals.items()
                },
            }
            for metric in ordered_metrics()
            if metric.name in entry.figures
        ],
        "verdict": _verdict(row),
        "labels": [
            [one.label, one.ap, *((b.low, b.high) if b else (None, None))]
            for one, b in zip(entry.per_label, bounds, strict=True)
        ],
        "label_note": "Mean over the episodes in which the label has a positive, highest first"
        + (f"; the line is the 95 % interval over {label_kind.value}" if label_kind else "")
        + ("; dotted: chance, mean over labels." if level else "."),
        "chance": level.low if level and level.low == level.high else None,
        "method": _method(entry),
        "parameters": [
            [name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
            for name, value in sorted(entry.card.parameters.items())
        ],
        "citation": entry.citation,
        "proof": _proof(entry),
        "links": [[link.title, link.url] for link in entry.links],
        "notes": list(entry.notes),
    }


def _verdict(row: BoardRow) -> str:
    texts = [
        f"{METRICS[name].text} is {verdict}"
        for name, verdict in sorted(row.chance.items())
        if verdict != ABOVE
    ]
    by = f" by its interval over {row.judged_by.value}" if row.judged_by else ""
    return f"{' and '.join(texts)}{by} (docs/claims.md)." if texts else ""


def _method(entry: Entry) -> list[list[str]]:
    tracks, card = entry.tracks, entry.card
    pairs = [
        ["Method", card.method + (f", preset {card.preset}" if card.preset else "")],
        ["Authors", ", ".join(entry.authors)],
        ["Contact", entry.contact or ""],
        ["Backbone", entry.backbone or "none"],
        ["Learns from the base part", {True: "yes", False: "no", None: "not stated"}[card.trains]],
        ["Training seeds", str(entry.training_seeds or "not stated")],
        ["Pre-training", tracks.pretraining.value],
        ["Label embeddings", EMBEDDINGS_TEXT[tracks.words]],
        ["Adaptation", tracks.adaptation.value],
        ["Images", tracks.images.value],
        ["Labels", labels_text(entry)],
        ["Values made", entry.dates.made],
        ["Submitted", entry.dates.submitted or ""],
    ]
    return [pair for pair in pairs if pair[1]]


def _proof(entry: Entry) -> list[list[Any]]:
    """[what, text, whether it is a hash to copy] for everything an entry rests on."""
    protocol = entry.protocol
    lines: list[list[Any]] = [
        ["Split", entry.split.id, False],
        ["Split hash", entry.split.hash, True],
        ["Protocol", f"{protocol.id}, {protocol.count} episodes", False],
        ["Episodes hash", protocol.episodes, True],
        ["Metrics", entry.metrics_version, False],
    ]
    proof = entry.proof
    if isinstance(proof, Reported):
        lines.append(["Source", source_of(entry), False])
        lines.append(["Copied in", proof.copy_in and f"results/{proof.copy_in}", False])
    else:
        lines.append(["Audit", entry.audited and entry.audited.value, False])
        for title, group in (("Scores", proof.files), ("Second run", proof.reruns or [])):
            for file in group:
                seed = "" if file.seed is None else f", seed {file.seed}"
                lines += [
                    [f"{title}{seed}", f"results/{file.scores}", False],
                    ["SHA-256", file.scores_sha256, True],
                    ["Run key", file.run, True],
                    ["Record SHA-256", file.record_sha256, True],
                ]
    return [line for line in lines if line[1]]


def _state_class(state: State) -> str:
    """The state in one word: `reported`, `stored`, `scores` or `rerun`."""
    return "stored" if state is State.STORED else state.value.partition(" ")[0]


def _all_visible(value: Any) -> Any:
    """A JSON value with no text in it that can't be seen; the page's script escapes it."""
    if isinstance(value, str):
        return for_terminal(value)
    if isinstance(value, dict):
        return {for_terminal(name): _all_visible(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_all_visible(one) for one in value]
    return value
