"""Leaderboard entries without runs: plain ones, hostile ones, and as many as wanted."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from mlfsic_bench.leaderboard.board import ordered_metrics
from mlfsic_bench.leaderboard.entry import Entry, parse_entry
from mlfsic_bench.randomness import splitmix64, stream_seed
from mlfsic_bench.schema import REFUSED

ALWAYS = [metric.name for metric in ordered_metrics() if metric.column == "always"]
LABELS = ("hen", "ibis", "jay", "kite", "lark", "merle")


def fake_value(entry_id: str = "mine", /, **changes: Any) -> dict[str, Any]:
    """The JSON value of a verified entry; `changes` replace or add keys, `figures` are plain."""
    macro_ap = changes.pop("macro_ap", 40.0)
    value: dict[str, Any] = {
        "schema_version": 1,
        "kind": "mlfsic-bench leaderboard entry",
        "id": entry_id,
        "name": entry_id,
        "citation": f"a work on {entry_id}",
        "state": "scores verified",
        "proof": {"kind": "scores verified", "files": [fake_file(entry_id)]},
        "tracks": fake_tracks(),
        "split": {"id": "fake-4-3-3-v1", "hash": "a" * 64, "dataset": "fake"},
        "protocol": {
            "id": "one_per_label-v1",
            "episodes": "b" * 64,
            "count": 200,
            "total": 200,
        },
        "metrics_version": "metrics-v1",
        "figures": {
            metric: fake_figure(macro_ap + 3 * i if metric != "macro_ap" else macro_ap)
            for i, metric in enumerate(ALWAYS)
        },
        "per_label": [
            {
                "label": label,
                "ap": 30.0 + 5 * i,
                "intervals": {"episodes": {"low": 25.0 + 5 * i, "high": 35.0 + 5 * i}},
            }
            for i, label in enumerate(LABELS)
        ],
        "chance": {
            "macro_ap": {"low": 26.7, "high": 26.7},
            "micro_ap": {"low": 19.3, "high": 19.3},
        },
        "training_seeds": 1,
        "backbone": "resnet50",
        "card": {
            "method": entry_id,
            "preset": None,
            "parameters": {"lr": 0.001, "steps": [1, 2]},
            "trains": True,
        },
        "dates": {"made": "2026-11-23"},
    }
    return {**value, **changes}


def fake_figure(value: float, half: float = 1.0) -> dict[str, Any]:
    """A figure with intervals over episodes and, twice as wide, over images."""
    value = min(max(value, 0.0), 100.0)
    return {
        "value": value,
        "intervals": {
            "episodes": {"low": value - half, "high": value + half},
            "images": {"low": value - 2 * half, "high": value + 2 * half},
        },
    }


def fake_file(name: str, seed: int = 0) -> dict[str, Any]:
    """Evidence that names files nobody has."""
    return {
        "seed": seed,
        "scores": f"scores/{name}/scores.npz",
        "scores_sha256": "c" * 64,
        "answers": f"scores/{name}/answers.npz",
        "answers_sha256": "d" * 64,
    }


def fake_tracks(**changes: str) -> dict[str, str]:
    """External images, no words, no gradient, full."""
    tracks = {
        "pretraining": "external images",
        "words": "no word vectors",
        "adaptation": "without gradient",
        "images": "full",
    }
    return {**tracks, **changes}


def reported_value(entry_id: str = "printed", /, **changes: Any) -> dict[str, Any]:
    """The JSON value of a reported entry of the same split."""
    proof = {
        "kind": "reported", "work": "A Work. Venue 2020", "year": 2020, "table": 3, "page": 7,
        "section": "Results", "row": entry_id,
    }  # fmt: skip
    plain = {metric: {"value": 33.0} for metric in ALWAYS}
    value = fake_value(entry_id, state="reported", proof=proof, figures=plain, per_label=[])
    value["split"] = {"id": "fake-4-3-3-v1", "hash": None, "dataset": "fake"}
    value["protocol"] = {**value["protocol"], "episodes": None}
    value |= {"metrics_version": None, "training_seeds": None, "chance": {}}
    return {**value, **changes}


def entry(value: dict[str, Any]) -> Entry:
    """The entry of a JSON value, checked."""
    return parse_entry(value, "fake")


def cards(page: str) -> dict[str, str]:
    """The text of each entry's card on a page, by the entry's id."""
    found = re.findall(r'<template data-key="[^"]*/(.*?)">(.*?)</template>', page, re.S)
    plain = {one: html.unescape(re.sub(r"<[^>]+>", " ", text)) for one, text in found}
    return {one: " ".join(text.split()) for one, text in plain.items()}


HOSTILE = (
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=\"document.title='owned'\">",
    "'; document.title='owned'; '",
    "</script><script>document.title='owned'</script>",
    "{{ 7 * 7 }} {% for x in y %} <!-- --> ]]>",
    "\u202egpj.exe\u2066 \x1b[31m \u2028 \x00",
    "=HYPERLINK(\"https://example.org\")",
    "\\input{/etc/passwd} $x$ | `code` [link](javascript:alert(1))",
)  # fmt: skip


def hostile_values() -> list[dict[str, Any]]:
    """Entries whose every text is an attack, and one whose texts are as long as they may be.

    Names are without the characters that no name may have.
    """
    values = []
    for i, text in enumerate(HOSTILE):
        name = "".join(char for char in text if unicodedata.category(char) not in REFUSED).strip()
        value = fake_value(f"hostile-{i}", name=name[:120], backbone=name, citation=text)
        value |= {"authors": [name], "contact": name, "notes": [text]}
        value["links"] = [{"title": name, "url": "https://example.org/?q=%22%3E"}]
        value["card"] = {"method": name, "preset": name, "parameters": {name: text}, "trains": None}
        value["per_label"] = [{"label": name, "ap": 50.0}]
        value["split"] = {**value["split"], "dataset": name}
        values.append(value)
    long = fake_value("long", name="W" * 120, backbone="m" * 300, citation="n" * 4000)
    return [*values, long]


def many_values(count: int) -> list[dict[str, Any]]:
    """`count` entries that differ in figures, tracks and backbones; every tenth is reported."""
    seed = stream_seed("fake entries")
    values = []
    for i in range(count):
        draw = [splitmix64(seed, 10 * i + j) for j in range(4)]
        if i % 10 == 9:
            values.append(reported_value(f"entry-{i:04d}"))
            continue
        tracks = fake_tracks(
            pretraining=("external images", "base images only")[draw[0] % 2],
            words=("word vectors", "no word vectors")[draw[1] % 2],
            adaptation=("by gradient", "without gradient")[draw[2] % 2],
        )
        macro_ap = 20 + (draw[3] % 50_000) / 1000
        backbone = ("resnet50", "resnet101", "vit_b_16")[draw[0] % 3]
        values.append(
            fake_value(f"entry-{i:04d}", macro_ap=macro_ap, tracks=tracks, backbone=backbone)
        )
    return values


def write_values(values: list[dict[str, Any]], results: Path) -> Path:
    """Write entries below a results folder; the folder."""
    for value in values:
        path = results / "leaderboard" / value["split"]["id"] / f"{value['id']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    return results
