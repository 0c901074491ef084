"""Scores files of shipped scenes that plain NumPy wrote, and what `score` says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.episodes.protocol import EpisodeSet
from mlfsic_bench.errors import BenchError
from mlfsic_bench.splits.split import Split

ROOT = Path(__file__).resolve().parents[2]
SPLIT = json.loads((ROOT / "splits/scenes-12-6-6-v1.json").read_text("utf-8"))
DRAWN = json.loads((ROOT / "splits/scenes-12-6-6-v1.novel-episodes.json").read_text("utf-8"))
LABELS = SPLIT["labels"]["novel"]
HAS = dict(SPLIT["images"]["novel"])
E, Q, L = 12, 24, 6


def truth() -> np.ndarray:
    """bool [E, Q, L], from the files alone."""
    return np.array(
        [
            [[k in HAS[image] for k in range(L)] for image in episode["query"]]
            for episode in DRAWN["episodes"][:E]
        ]
    )


def foreign(path: Path, scores: np.ndarray | None = None, **changes: Any) -> Path:
    """A file that plain NumPy wrote; `changes` are to its meta, `decisions` to its members."""
    if scores is None:
        scores = np.random.default_rng(0).normal(size=(E, Q, L)) + truth()
    decisions = changes.pop("decisions", None)
    method = {"name": "mine", "seed": 0, "trains": True, "uses_words": False}
    meta = {
        "schema_version": 1,
        "kind": "mlfsic-bench scores",
        "labels": LABELS,
        "split": {"id": SPLIT["id"], "hash": SPLIT["hash"], "dataset": "scenes", "rule": "open",
                  "subset": False},
        "episodes": {"protocol": DRAWN["protocol"], "part": "novel", "hash": DRAWN["hash"],
                     "total": 200, "count": len(scores)},
        "method": {**method, "adapts_by_gradient": False},
    }  # fmt: skip
    for key, value in changes.items():
        meta[key] = {**meta.get(key, {}), **value} if isinstance(value, dict) else value
    members = {"scores": scores.astype(np.float32), "meta": np.array(json.dumps(meta))}
    np.savez(path, **members, **({} if decisions is None else {"decisions": decisions}))
    return path


def given(kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    s = np.random.default_rng(1).normal(size=(E, Q, L)).astype(np.float32)
    return {
        "random": (s, None),
        "tied": (np.round(s), None),
        "constant": (np.full_like(s, 0.5), None),
        "all negative": (-1 - np.abs(np.round(s)), None),
        "the targets": (truth().astype(np.float32), None),
        "own decisions": (s, np.random.default_rng(2).random(s.shape) < 0.2),
        "nothing decided": (s, np.zeros(s.shape, bool)),
    }[kind]


def run(*args: str | Path) -> str:
    return str(CliRunner().invoke(cli, ["score", *map(str, args)], catch_exceptions=False).output)


def drawn_from(split: Split, episodes: EpisodeSet, path: Path) -> Path:
    """Scores for all these episodes of any split, alike in all episodes."""
    first = episodes.episodes[0]
    shape = (len(episodes.episodes), len(first.query), len(split.novel.labels))
    protocol = {"protocol": episodes.protocol.id, **episodes.protocol.choices}
    rng = np.random.default_rng(0)
    return foreign(
        path,
        rng.normal(size=shape[1:]) + 0.3 * rng.normal(size=shape),
        labels=list(split.novel.labels),
        split={"id": split.id, "hash": split.hash, "dataset": split.dataset, "rule": split.rule,
               "subset": split.subset is not None},
        episodes={"hash": episodes.hash, "total": shape[0], **protocol},
    )  # fmt: skip


def refused(*args: str | Path) -> str:
    with pytest.raises(BenchError) as caught:
        CliRunner().invoke(cli, ["score", *map(str, args)], catch_exceptions=False)
    return str(caught.value)
