"""Sound files of every kind: what the hostile ones are made of, and what must still be read."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

SPLIT = "scenes-12-6-6-v1"
STORE_IDS = ("scenes/000000", "scenes/000001", "scenes/000002")
CARD = "name: Theirs\nbackbone: their-network\nmade: 2026-10-01\nauthors: [A. Person]\n"
EXPERIMENT = """schema_version: 1
kind: table
title: Mine
columns: [macro_ap, micro_f1]
reference: Prototypes
rows:
- name: Prototypes
  method: protonet
- name: Chance
  method: random
  episodes: 2
"""
WORDS = b"".join(b"%s 0.5 -1.25 %d\n" % (word, i) for i, word in enumerate([b"hen", b"jay", b"ox"]))


def write_sound(folder: Path) -> None:
    """One sound file of each kind, in `folder`."""
    shipped = Path(str(files("mlfsic_splits")))
    shutil.copyfile(shipped / f"{SPLIT}.json", folder / "split.json")
    shutil.copyfile(shipped / f"{SPLIT}.novel-episodes.json", folder / "episodes.json")
    shutil.copyfile(shipped / "coco-64-16-laso-v1.1-shot-runs.json", folder / "runs.json")
    _scores(folder / "scores.npz", folder / "targets.npz")
    (folder / "card.yaml").write_text(CARD)
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    (folder / "words.txt").write_bytes(WORDS)
    (folder / "words.bin").write_bytes(binary_words())
    _store(folder / "store")
    _pack(folder / "store", folder / "sound.mlfsic-features")
    _checkpoint(folder / "checkpoint.pt")
    _run(folder / "run")
    _entry(folder)


def binary_words() -> bytes:
    """The same vectors in word2vec's binary format."""
    rows = [word.split(b" ") for word in WORDS.splitlines()]
    data = [row[0] + b" " + np.array(row[1:], "<f4").tobytes() for row in rows]
    return b"3 3\n" + b"\n".join(data) + b"\n"


def _scores(path: Path, targets_path: Path) -> None:
    from mlfsic_bench.episodes.files import find_episodes
    from mlfsic_bench.evaluation.meta import ScoresMeta, TargetsMeta
    from mlfsic_bench.evaluation.scores import (
        Scores,
        StoredTargets,
        order_of,
        write_scores,
        write_targets,
    )
    from mlfsic_bench.splits.resolve import resolve_split

    split = resolve_split(SPLIT, data_root=None)
    episodes = find_episodes(None, split)
    used = episodes.episodes[:3]
    targets = np.stack([split.novel.targets_of(episode.query) for episode in used])
    scores = np.random.default_rng(0).normal(size=targets.shape).astype(np.float32)
    common: dict[str, Any] = {
        "split": {
            "id": SPLIT, "hash": split.hash, "dataset": "scenes", "rule": split.rule,
            "subset": False,
        },
        "episodes": {
            "protocol": episodes.protocol.id, "part": "novel", "hash": episodes.hash,
            "total": len(episodes.episodes), "count": len(used),
        },
        "labels": list(split.novel.labels),
    }  # fmt: skip
    method = {
        "name": "theirs", "seed": 0, "trains": True, "uses_words": False,
        "adapts_by_gradient": False, "parameters": {"depth": 3}, "printed": "Theirs",
    }  # fmt: skip
    meta = ScoresMeta.model_validate({**common, "method": method})
    own = Scores(scores, scores > 0.5, meta)
    write_scores(path, own)
    write_scores(path.with_name("order.npz"), order_of(own, "0" * 64))
    query = np.array([episode.query for episode in used])
    card = TargetsMeta.model_validate(common)
    write_targets(targets_path, StoredTargets(targets.astype(np.uint8), query, card))


def _store(folder: Path) -> None:
    from mlfsic_bench.features.store.manifest import Manifest
    from mlfsic_bench.features.store.store import INDEX, LOCAL, POOLED, index_lines

    folder.mkdir()
    Manifest("scenes", "scenes-small", "0" * 64, "none", 4, (2, 2)).write(folder)
    (folder / INDEX).write_bytes(index_lines(STORE_IDS, ["0" * 64] * len(STORE_IDS)))
    rows = np.arange(len(STORE_IDS) * 16, dtype="<f2")
    (folder / LOCAL).write_bytes(rows.tobytes())
    (folder / POOLED).write_bytes(rows[: len(STORE_IDS) * 4].astype("<f4").tobytes())


def _pack(store: Path, path: Path) -> None:
    from mlfsic_bench.features.packs.manifest import Change, Measured, PackedSplit
    from mlfsic_bench.features.packs.writer import write_pack
    from mlfsic_bench.features.store.store import FeatureStore
    from mlfsic_bench.splits.resolve import shipped_file

    content = shipped_file(SPLIT)
    write_pack(
        path,
        [FeatureStore(store)],
        STORE_IDS,
        split=PackedSplit(
            id=SPLIT, hash=content.hash or "", part="novel", protocol="one_per_label-v1", episodes=1
        ),
        split_file=content,
        weights="default",
        kept="int8",
        measured=Measured(
            method="protonet", episodes=1, metrics={"macro_ap": Change(exact=0.5, packed=0.5)}
        ),
        made_by="x",
    )


def _checkpoint(path: Path) -> None:
    import torch

    from mlfsic_bench.training.loop import save_checkpoint

    save_checkpoint(path, {"weight": torch.arange(6.0), "step": 3, "name": "sound"})


def _run(folder: Path) -> None:
    from mlfsic_bench.training.history import write_history
    from tests.fakes.world import fake_run

    fake_run(folder, episodes=3)
    rows = [{"step": i, "loss": 1 / (i + 1), "lr": 0.1, "value": None} for i in range(4)]
    write_history(folder, rows)  # type: ignore[arg-type]


def _entry(folder: Path) -> None:
    from tests.fakes.entries import reported_value

    value = reported_value()
    place = folder / "results" / "leaderboard" / value["split"]["id"]
    place.mkdir(parents=True)
    (place / f"{value['id']}.json").write_text(json.dumps(value))
