"""Hostile split files, episodes and runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hostile.cases import Command, hostile
from tests.hostile.json_files import DEEP, Change, Text, write
from tests.hostile.sound import SPLIT


def _split(name: str, *says: str, change: Change | None = None, text: Text = "") -> None:
    @hostile(f"a split file with {name}", *says)
    def _case(sound: Path) -> Command:
        value = json.loads((sound / "split.json").read_text())
        if change:
            change(value)
        write(Path("split.json"), (text() if callable(text) else text) or value)
        return [
            "run",
            "random",
            "--split",
            "split.json",
            "--backbone",
            "scenes-small",
            "--out",
            "out",
        ]


_split(
    "an image id that climbs",
    "images",
    change=lambda v: v["images"]["novel"][0].__setitem__(0, "../../etc/passwd"),
)
_split(
    "an absolute image id",
    "images.novel.0",
    change=lambda v: v["images"]["novel"][0].__setitem__(0, "/etc/passwd"),
)
_split("a dataset that is a path", "dataset", change=lambda v: v.update(dataset="../x"))
_split("an id that is a path", "id is not valid", change=lambda v: v.update(id="../x-v1"))
_split(
    "a target of 10^30",
    "not sorted distinct",
    change=lambda v: v["images"]["novel"][0].__setitem__(1, [10**30]),
)
_split(
    "a negative target",
    "images.novel.0",
    change=lambda v: v["images"]["novel"][0].__setitem__(1, [-1]),
)
_split(
    "truth values for targets",
    "images.novel.0",
    change=lambda v: v["images"]["novel"][0].__setitem__(1, [True]),
)
_split(
    "a label with a line end",
    "labels",
    change=lambda v: v["labels"]["novel"].__setitem__(0, "a\nerror: b"),
)
_split("no label", "labels.novel", change=lambda v: v["labels"].update(novel=[]))
_split("null for everything", "not valid", change=lambda v: v.update(dict.fromkeys(v)))
_split("a version of 10^400", "its version", change=lambda v: v.update(version=10**400))
_split("a lone surrogate", "split.json", change=lambda v: v["provenance"].update(labels="\ud800"))
_split("brackets for images", "RecursionError", text='{"images":' + "[" * DEEP + "]" * DEEP + "}")
_split("a number beyond float64", "version", change=lambda v: v.update(version=1e300))
_split(
    "20 million empty lists",
    "more than 3000000 values",
    text=lambda: "[" + "[]," * 20_000_000 + "[]]",
)
_split(
    "one long text with a wide letter",
    "split.json",
    text=lambda: '{"id": "' + "x" * 66_000_000 + '\U0001f600"}',
)


def _episodes(name: str, *says: str, change: Change | None = None, text: Text = "") -> None:
    @hostile(f"episodes with {name}", *says)
    def _case(sound: Path) -> Command:
        value = json.loads((sound / "episodes.json").read_text())
        if change:
            change(value)
        write(Path("episodes.json"), (text() if callable(text) else text) or value)
        return ["episodes", "show", "episodes.json", "0"]


_episodes(
    "a number for an image",
    "episodes.json",
    change=lambda v: v["episodes"][0]["support"].__setitem__(0, 7),
)
_episodes("none of them", "at least one episode", change=lambda v: v.update(episodes=[], count=0))
_episodes("a count of 10^400", "count 200", change=lambda v: v.update(count=10**400))
_episodes("another part", "part 'val' or 'novel'", change=lambda v: v.update(part=["novel"]))
_episodes(
    "a split id that is a path", "episodes.json", change=lambda v: v.update(split_id="/etc/passwd")
)
_episodes("a lone surrogate", "split_id", change=lambda v: v.update(split_id="\ud800"))
_episodes("brackets", "RecursionError", text="[" * DEEP)
_episodes(
    "20 million empty lists",
    "more than 3000000 values",
    text=lambda: "[" + "[]," * 20_000_000 + "[]]",
)
_episodes("another hash", "that of the content", change=lambda v: v.update(hash="0" * 64))


def _runs(name: str, *says: str, change: Change) -> None:
    @hostile(f"runs with {name}", *says)
    def _case(sound: Path) -> Command:
        value = json.loads((sound / "runs.json").read_text())
        change(value)
        write(Path("runs.json"), value)
        return [
            "run",
            "random",
            "--split",
            SPLIT,
            "--backbone",
            "scenes-small",
            "--episodes-file",
            "runs.json",
            "--out",
            "out",
        ]


_runs("a K of 10^400", "hash", change=lambda v: v.update(shots=10**400))
_runs("a truth value for K", "'shots'", change=lambda v: v.update(shots=True))
_runs(
    "a number beyond float64 for K",
    "'shots'",
    change=lambda v: v.update(shots=float("9e999")) or _finite(v),
)
_runs(
    "a run of nothing",
    "support images in each episode",
    change=lambda v: v["runs"].__setitem__(0, []),
)
_runs("a text for a run", "a list of image ids", change=lambda v: v["runs"].__setitem__(0, "x"))
_runs("an image twice", "twice in episode 0", change=lambda v: v["runs"][0].append(v["runs"][0][0]))
_runs(
    "a run of 100,000 images",
    "hash",
    change=lambda v: v["runs"].__setitem__(0, [str(i) for i in range(100_000)]),
)


def _finite(value: dict[str, Any]) -> None:
    value["shots"] = 1e300  # JSON has no infinity to write


@hostile("indices of a run that are none", "did you mean 'runs'?")
def _indices(sound: Path) -> Command:
    from mlfsic_bench.episodes.k_shot import read_indices

    content = {"format": "mlfsic-bench/coco-indices-v1", "shots": 1, "rns": [[10**30]]}
    write(Path("indices.json"), content)
    return lambda: read_indices(Path("indices.json"))
