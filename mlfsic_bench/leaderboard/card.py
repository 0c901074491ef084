"""The card of an entry: everything the page shows of it when it is opened."""

from __future__ import annotations

import json
from typing import Any

from mlfsic_bench.leaderboard.board import (
    ABOVE,
    BoardRow,
    labels_text,
    ordered_metrics,
    source_of,
)
from mlfsic_bench.leaderboard.entry import Entry
from mlfsic_bench.leaderboard.entry_figures import Figure, Interval, LabelFigure
from mlfsic_bench.leaderboard.kinds import Audited, IntervalKind, State
from mlfsic_bench.leaderboard.proof import Reported, RerunVerified
from mlfsic_bench.text import for_terminal

STATES = {
    State.REPORTED: "copied from print, nobody here has the scores",
    State.STORED: "scores and targets are those a run stored; the targets are not rebuilt from the "
    "split, so it is not ranked",
    State.SCORES: "the scores are in the repository and every figure is recomputed from them, with "
    "targets rebuilt from the split",
    State.RERUN: "scores verified, and a second run gave the same figures",
}
AUDITS = {
    Audited.YES: "in an audit, a fresh process gave the scores of some episodes again",
    Audited.FOREIGN: "the scores were made by another program, so no audit can make them again",
    Audited.FAILED: "in an audit, a fresh process did not give the scores again: not ranked",
    Audited.NO: "no audit has made some of the scores again in a fresh process: not ranked",
}


def card_of(row: BoardRow) -> dict[str, Any]:
    """What the card of an entry shows."""
    entry = row.entry
    label_kind = next(
        (k for k in IntervalKind if all(k in f.intervals for f in entry.per_label)), None
    )
    level = entry.chance.get("macro_ap")
    return {
        "name": entry.name,
        "state": entry.state.value,
        "state_class": state_class(entry),
        "meaning": STATES[entry.state] + (f"; {AUDITS[entry.audited]}" if entry.audited else ""),
        "figures": [
            {
                "name": metric.head,
                "value": entry.figures[metric.name].value,
                "intervals": {
                    kind.value: [bounds.low, bounds.high]
                    for kind, bounds in entry.figures[metric.name].intervals.items()
                },
            }
            for metric in ordered_metrics()
            if metric.name in entry.figures
        ],
        "verdict": _verdict(row),
        "labels": [
            [
                one.label,
                one.ap,
                *((b.low, b.high) if (b := _bounds(one, label_kind)) else (None, None)),
            ]
            for one in entry.per_label
        ],
        "label_note": "Mean over the episodes in which the label has a positive, highest first"
        + (f"; the line is the 95 % interval over {label_kind.value}" if label_kind else "")
        + ("; dotted: chance, mean over labels." if level else "."),
        "chance": level.low if level and level.low == level.high else None,
        "method": _method(entry),
        "parameters": [
            [name, _text(value)] for name, value in sorted(entry.card.parameters.items())
        ],
        "citation": entry.citation,
        "proof": _proof(entry),
        "links": [[link.title, link.url] for link in entry.links],
        "notes": list(entry.notes),
    }


def _verdict(row: BoardRow) -> str:
    texts = [
        f"{name.replace('_ap', '-AP')} is {verdict}"
        for name, verdict in sorted(row.chance.items())
        if verdict != ABOVE
    ]
    by = f" by its interval over {row.judged_by.value}" if row.judged_by else ""
    return f"{' and '.join(texts)}{by} (docs/claims.md)." if texts else ""


def _method(entry: Entry) -> list[list[str]]:
    tracks, card = entry.tracks, entry.card
    seeds = "not stated" if entry.training_seeds is None else str(entry.training_seeds)
    learns = {True: "yes", False: "no", None: "not stated"}[card.trains]
    pairs = [
        ["Method", card.method + (f", preset {card.preset}" if card.preset else "")],
        ["Authors", ", ".join(entry.authors)],
        ["Contact", entry.contact or ""],
        ["Backbone", entry.backbone or "none"],
        ["Learns from the base part", learns],
        ["Training seeds", seeds],
        ["Pre-training", tracks.pretraining.value],
        ["Label embeddings", tracks.words.value],
        ["Adaptation", tracks.adaptation.value],
        ["Images", tracks.images.value],
        ["Labels", labels_text(entry)],
        ["Figures made", entry.dates.made],
        ["Handed in", entry.dates.submitted or ""],
    ]
    return [pair for pair in pairs if pair[1]]


def _proof(entry: Entry) -> list[list[Any]]:
    """[what, text, whether it is a hash to copy] for everything an entry rests on."""
    lines: list[list[Any]] = [["Split", entry.split.id, False]]
    if entry.split.hash:
        lines.append(["Split hash", entry.split.hash, True])
    protocol = entry.protocol
    lines.append(["Protocol", f"{protocol.id}, {protocol.count} episodes", False])
    if protocol.episodes:
        lines.append(["Episodes hash", protocol.episodes, True])
    if entry.metrics_version:
        lines.append(["Metrics", entry.metrics_version, False])
    proof = entry.proof
    if isinstance(proof, Reported):
        lines.append(["Source", source_of(entry), False])
        if proof.copy_in:
            lines.append(["Copied in", f"results/{proof.copy_in}", False])
        return lines
    if entry.audited:
        lines.append(["Audit", entry.audited.value, False])
    again = proof.reruns if isinstance(proof, RerunVerified) else []
    for title, group in (("Scores", proof.files), ("Second run", again)):
        for file in group:
            seed = "" if file.seed is None else f", seed {file.seed}"
            lines.append([f"{title}{seed}", f"results/{file.scores}", False])
            lines.append(["SHA-256", file.scores_sha256, True])
            if file.run:
                lines.append(["Run key", file.run, True])
            if file.record_sha256:
                lines.append(["Record SHA-256", file.record_sha256, True])
    return lines


def _bounds(figure: Figure | LabelFigure, kind: IntervalKind | None) -> Interval | None:
    return figure.intervals.get(kind) if kind else None


def state_class(entry: Entry) -> str:
    """The state in one word: `reported`, `stored`, `scores` or `rerun`."""
    return "stored" if entry.state is State.STORED else entry.state.value.partition(" ")[0]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def all_visible(value: Any) -> Any:
    """A JSON value with no text in it that can't be seen; the page's script escapes it."""
    if isinstance(value, str):
        return for_terminal(value)
    if isinstance(value, dict):
        return {for_terminal(name): all_visible(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [all_visible(one) for one in value]
    return value
