"""Kinds of files: a sound value of each with every field, how it is written, who reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.evaluation.meta import ScoresMeta, TargetsMeta
from mlfsic_bench.evaluation.record import Record, read_record
from mlfsic_bench.evaluation.scores import read_scores, read_targets
from mlfsic_bench.experiments.plan import Options, plan_rows
from mlfsic_bench.experiments.schema import Experiment, find_profile, read_experiment
from mlfsic_bench.experiments.sweep import Sweep, SweepOptions, plan_sweep
from mlfsic_bench.features.packs.manifest import PackManifest
from mlfsic_bench.features.packs.pack import Pack
from mlfsic_bench.launchers.slurm import Slurm, SlurmJobs, Submitted
from mlfsic_bench.leaderboard.card import Card, read_card
from mlfsic_bench.leaderboard.entry import Entry, read_placed
from mlfsic_bench.schema import FileSchema
from mlfsic_bench.splits.files import SplitFile, read_split_file
from tests.fakes.entries import fake_file, fake_value, reported_value
from tests.hostile.npz import archive, members, npy
from tests.hostile.sound import SPLIT


@dataclass(frozen=True)
class Kind:
    """One kind; the files lie in the current folder, sound ones in `sound`."""

    model: type[FileSchema]
    value: Callable[[], dict[str, Any]]
    write: Callable[[dict[str, Any]], object]
    read: Callable[[], object]


def _written(name: str) -> Callable[[dict[str, Any]], object]:
    def write(value: dict[str, Any]) -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(json.dumps(value))  # what is JSON is YAML too

    return write


def _read_json(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Path("sound", name).read_text())
    return value


def _meta(name: str) -> dict[str, Any]:
    with np.load(Path("sound", name)) as file:
        value: dict[str, Any] = json.loads(str(file["meta"]))
    return value


def _write_meta(name: str) -> Callable[[dict[str, Any]], object]:
    def write(value: dict[str, Any]) -> None:
        meta = npy(np.array(json.dumps(value)))
        archive(Path(name), {**members(Path("sound", name)), "meta.npy": meta})

    return write


def _record() -> dict[str, Any]:
    value = _read_json("run/record.json")
    left: dict[str, dict[str, int]] = {"base": {"ant": 1}, "val": {}, "novel": {}}
    missing = {"base": 0, "val": 0, "novel": 0}
    subset = {"available_only": True, "min_pool": None, "images_missing": missing}
    value |= {"subset": {**subset, "labels_left": left}, "excluded_labels": {"base": ["ant"]}}
    made = {"templates": ["a {}"], "space": "clip"}
    words = {"name": "glove.txt", "hash": "0" * 64, "dimensions": 3, **made}
    value |= {"words": words, "notes": ["x"]}
    value["features"] |= {"vector": "projection", "dim": 5}
    value |= {"failure": {"stage": "fit", "message": "x"}}
    value["features"] |= {"rounded": "fp16", "vector": "x", "made_by": "x", "pretraining": "x"}
    value["audit"] = {"status": "not made", "reason": "x"}
    value["method"] |= {"preset": "x", "printed": "x", "changed": ["x"], "parameters": {"x": "y"}}
    value["provenance"]["commit"] = "0" * 40
    return value


def _experiment() -> dict[str, Any]:
    row = {
        "name": "a", "published": "8", "method": "word-guided-attention", "preset": "paper",
        "settings": {"prototype": "attention"}, "backbone": "resnet50", "embeddings": "glove-300",
        "protocol": "one_per_label",
    }  # fmt: skip
    return {
        "schema_version": 1, "kind": "curve", "title": "x", "published": "yan-2022-table5",
        "reference": "a", "splits": {"scenes": SPLIT},
        "backbones": {"scenes": {"resnet50": "scenes-deep"}}, "not_on": {"voc": "too small"},
        "base_images": {"scenes": [10]}, "columns": ["macro_ap"], "rows": [row],
    }  # fmt: skip


def _entry() -> dict[str, Any]:
    file = {**fake_file("x"), "record": "scores/x/record.json", "record_sha256": "e" * 64}
    proof = {"kind": "scores verified", "files": [{**file, "run": "f" * 64}]}
    value = fake_value("printed", proof=proof, authors=["x"], contact="x", notes=["x"])
    value["links"] = [{"title": "x", "url": "https://example.org"}]
    value["card"]["preset"] = "x"
    value["dates"]["submitted"] = "2026-11-24"
    return value


def _reported() -> dict[str, Any]:
    value = reported_value()
    value["proof"]["copy_in"] = "published/x.json"
    return value


def _card() -> dict[str, Any]:
    return {
        "id": "x", "name": "x", "authors": ["x"], "contact": "x", "citation": "x", "backbone": "x",
        "made": "2026-11-23", "submitted": "2026-11-24", "notes": ["x"],
        "links": [{"title": "x", "url": "https://example.org"}],
    }  # fmt: skip


def _plan() -> object:
    _, experiment = read_experiment("own.yaml")
    return plan_rows(experiment, find_profile("scenes"), Options("scenes"))


def _sweep() -> dict[str, Any]:
    method = {
        "method": "word-guided-attention", "preset": "paper",
        "settings": {"prototype": "attention"}, "grid": {"select": ["best"]},
    }  # fmt: skip
    asks = {
        "partition": "x", "account": "x", "qos": "x", "constraint": "x", "memory": "1GB",
    }  # fmt: skip
    return {
        "schema_version": 1, "title": "x", "methods": [method], "splits": [SPLIT],
        "backbones": ["scenes-small"], "embeddings": ["random"], "weights": "default",
        "protocol": "one_per_label", "slurm": asks,
    }  # fmt: skip


def _split() -> dict[str, Any]:
    value = _read_json("split.json")
    value["images"] = {part: rows[:2] for part, rows in value["images"].items()}
    value["hash"] = "0" * 64
    none: dict[str, Any] = dict.fromkeys(value["images"], 0)
    value["subset"] = {
        "available_only": False, "min_pool": None, "images_missing": none,
        "labels_left": {part: {} for part in none},
        "excluded": {"hash": "0" * 64, "images": none},
    }  # fmt: skip
    return value


PACK = "sound.mlfsic-features"


def _pack() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(members(Path("sound", PACK))["manifest.json"])
    network = value["networks"][0]
    value["networks"] = [{"dataset": network.pop("dataset"), **network}]  # first, a text
    return value


def _write_pack(value: dict[str, Any]) -> None:
    content = members(Path("sound", PACK))
    archive(Path(PACK), {**content, "manifest.json": json.dumps(value).encode()})


ENTRY = f"leaderboard/{fake_value()['split']['id']}/printed.json"
KINDS = {
    "record": Kind(
        Record, _record, _written("run/record.json"), lambda: read_record(Path("run"))
    ),
    "scores": Kind(
        ScoresMeta, lambda: {**_meta("scores.npz"), "run": "0" * 64}, _write_meta("scores.npz"),
        lambda: read_scores(Path("scores.npz")),
    ),
    "order": Kind(
        ScoresMeta, lambda: _meta("order.npz"), _write_meta("order.npz"),
        lambda: read_scores(Path("order.npz")),
    ),
    "targets": Kind(
        TargetsMeta, lambda: _meta("targets.npz"), _write_meta("targets.npz"),
        lambda: read_targets(Path("targets.npz")),
    ),
    "entry": Kind(Entry, _entry, _written(ENTRY), lambda: read_placed(Path(ENTRY))),
    "reported entry": Kind(Entry, _reported, _written(ENTRY), lambda: read_placed(Path(ENTRY))),
    "experiment": Kind(Experiment, _experiment, _written("own.yaml"), _plan),
    "sweep": Kind(
        Sweep, _sweep, _written("sweep.yaml"),
        lambda: plan_sweep(Path("sweep.yaml"), SweepOptions()),
    ),
    "slurm jobs": Kind(
        Submitted, lambda: Submitted(jobs={"7_0": ["x"]}).model_dump(mode="json"),
        _written("slurm/7.json"), lambda: Slurm(Path("slurm"), SlurmJobs()).submitted(),
    ),
    "card": Kind(
        Card, _card, _written("card.yaml"), lambda: read_card(Path("card.yaml"))
    ),
    "pack": Kind(PackManifest, _pack, _write_pack, lambda: Pack(Path(PACK)).check()),
    "split": Kind(
        SplitFile, _split, _written("split.json"),
        lambda: read_split_file(Path("split.json"), check=False),
    ),
}  # fmt: skip
