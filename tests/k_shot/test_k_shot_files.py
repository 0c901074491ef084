"""Files of runs: round trip, every unsound file refused, the shipped ones, published indices."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlfsic_bench.data.coco import Coco
from mlfsic_bench.episodes.any_file import read_any
from mlfsic_bench.episodes.files import sample_episode_set, write_episode_set
from mlfsic_bench.episodes.laso import sample_runs
from mlfsic_bench.episodes.published_runs import FORMAT, import_runs
from mlfsic_bench.episodes.run_files import (
    KEYS,
    RunFile,
    format_runs,
    own_runs,
    parse_runs,
    read_runs,
    runs_for,
    sampled_file,
    shipped_run_files,
    shipped_runs_name,
    write_runs,
)
from mlfsic_bench.episodes.verify_runs import verify_runs
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.splits.build import build_split
from mlfsic_bench.splits.resolve import resolve_split
from mlfsic_bench.splits.split import Split
from tests.fakes.coco import write_coco
from tests.fakes.laso_world import DEFINITION, SPLIT, contents, without

pytestmark = pytest.mark.slow

needs_data = pytest.mark.skipif(
    "MLFSIC_DATA" not in os.environ, reason="MLFSIC_DATA names no data root"
)
# 1-shot run 1 of LaSO's released lists; sizes of the ten 1-shot runs: 12 to 16 images
LASO_1_SHOT_RUN_1 = [
    38619, 46125, 16448, 13287, 3169, 80915, 54875, 16716, 32229, 75312, 50134, 16212,
]  # fmt: skip


def test_round_trip(split: Split, tmp_path: Path) -> None:
    content = sampled_file(split, 2)
    path = tmp_path / "runs.json"
    write_runs(content, path)
    assert read_runs(path) == content
    assert path.read_bytes() == format_runs(content)
    drawn = sample_runs(split, 2)
    assert read_any(path, split).hash == drawn.hash
    assert read_any(path, split).episodes == drawn.episodes
    assert list(json.loads(path.read_text())) == list(KEYS)
    assert verify_runs(path, split).said == "regenerates byte for byte"


def rehashed(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"hash": hash_json({k: v for k, v in body.items() if k != "hash"})}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shot": 1}, "did you mean 'shots'"),
        ({"shots": 0}, "at least 1 for 'shots'"),
        ({"shots": True}, "at least 1 for 'shots'"),
        ({"protocol": "one_per_label-v1"}, "laso_k_shot-v1"),
        ({"query_from": "train2014"}, "query_from 'val2014'"),
        ({"part": "val"}, "part 'novel'"),
        ({"drawn": 1}, "true or false"),
        ({"count": 3}, "as many as listed"),
        ({"runs": []}, "at least one run"),
        ({"runs": [["a", 1]]}, "a list of image ids"),
        ({"runs": [[]]}, "a list of image ids"),
        ({"runs": [["a", "b", "a"]]}, "'a' twice in 1"),
        ({"split_id": 3}, "text for 'split_id'"),
    ],
)
def test_unsound_files(split: Split, change: dict[str, Any], reason: str) -> None:
    body = json.loads(format_runs(sampled_file(split, 1, 2)))
    with pytest.raises(BenchError) as error:
        parse_runs(rehashed(body | change), "runs.json")
    assert reason in str(error.value)


def test_missing_key_wrong_hash_and_no_object(split: Split) -> None:
    body = json.loads(format_runs(sampled_file(split, 1, 2)))
    with pytest.raises(BenchError, match="not a valid file of runs") as error:
        parse_runs({k: v for k, v in body.items() if k != "drawn"}, "runs.json")
    assert "'drawn'" in error.value.expected
    with pytest.raises(BenchError) as error:
        parse_runs(body | {"split_hash": "0" * 64}, "runs.json")
    assert "that of the content" in error.value.expected
    with pytest.raises(BenchError):
        parse_runs([body], "runs.json")


def test_runs_of_another_split(split: Split) -> None:
    content = replace(sampled_file(split, 1), split_id="coco-52-12-16-v1")
    with pytest.raises(BenchError, match="runs of another split"):
        runs_for(content, split, "runs.json")


def test_other_annotations_of_the_same_split(split: Split, tmp_path: Path) -> None:
    """More annotations: the runs still serve, but are not the law's there; fewer: named."""
    content = sampled_file(split, 3)
    path = tmp_path / "runs.json"
    write_runs(content, path)
    train, val = contents()
    more = train | {7: [("vase", "box")]}
    there = build_split(DEFINITION, Coco(write_coco(tmp_path / "more", more, val)))
    assert there.hash != split.hash
    assert runs_for(content, there, "runs").hash != runs_for(content, split, "runs").hash
    assert "other annotations" in verify_runs(path, there).said
    first = content.runs[0][0]
    number = int(first[-12:])
    less = train | {number: without(train, "bicycle")[number] or [("person", "box")]}
    less = {n: shown if n != number else [("person", "box")] for n, shown in less.items()}
    here = build_split(DEFINITION, Coco(write_coco(tmp_path / "less", less, val)))
    with pytest.raises(BenchError) as error:
        verify_runs(path, here)
    assert first in error.value.found


def test_tampered_runs_are_told(split: Split, tmp_path: Path) -> None:
    content = sampled_file(split, 1, 3)
    swapped = replace(content, runs=(content.runs[1], content.runs[0], content.runs[2]))
    path = tmp_path / "runs.json"
    write_runs(swapped, path)
    assert verify_runs(path, split).differences == ["runs that differ: 1, 2"]
    write_runs(replace(swapped, drawn=False), path)
    assert "given" in verify_runs(path, split).said
    path.write_bytes(format_runs(content).replace(b'"count":3', b'"count": 3'))
    assert verify_runs(path, split).differences == ["same runs, other bytes"]


def test_read_any_tells_the_kinds_apart(split: Split, tmp_path: Path) -> None:
    scenes = resolve_split("scenes-12-6-6-v1", data_root=None)
    path = tmp_path / "episodes.json"
    write_episode_set(sample_episode_set(scenes, "novel", 2), path)
    assert read_any(path, scenes).shots is None
    with pytest.raises(BenchError, match="another split"):
        read_any(path, split)
    path.write_text(json.dumps({"format": FORMAT, "shots": 1, "runs": [[1]]}))
    with pytest.raises(BenchError) as error:
        read_any(path, split)
    assert "episodes import" in error.value.remedy


def test_own_runs_of_a_subset_are_drawn(root: Path, split: Split) -> None:
    subset = resolve_split(SPLIT, data_root=root, available_only=True)
    assert own_runs(subset, 1).hash == sample_runs(subset, 1).hash
    with pytest.raises(BenchError, match=shipped_runs_name(SPLIT, 1)):  # a whole split gets ours
        own_runs(split, 1)


def test_shipped_files_are_sound() -> None:
    files = {path.name: read_runs(path) for path in shipped_run_files()}
    assert set(files) == {shipped_runs_name(SPLIT, k) for k in (1, 5)}
    for name, content in files.items():
        assert (content.split_id, content.drawn, len(content.runs)) == (SPLIT, True, 10)
        assert name == shipped_runs_name(SPLIT, content.shots)
        sizes = [len(run) for run in content.runs]
        assert (min(sizes), max(sizes)) == (11, 14) or (min(sizes), max(sizes)) == (58, 65)
    assert all(verify_runs(path, None).differences == [] for path in shipped_run_files())


@needs_data
def test_shipped_runs_serve_on_the_real_annotations() -> None:
    split = resolve_split(SPLIT, data_root=None)
    for shots in (1, 5):
        drawn = own_runs(split, shots)
        assert {len(e.query) for e in drawn.episodes} == {15_927}
        counts = [split.novel.targets_of(e.support).sum(axis=0).min() for e in drawn.episodes]
        assert min(counts) >= shots


# -- indices of published runs --------------------------------------------------------------------


def indices(path: Path, **content: object) -> Path:
    path.write_text(json.dumps({"format": FORMAT, "shots": 1} | content))
    return path


def test_indices_count_the_images_as_the_file_lists_them(
    root: Path, split: Split, tmp_path: Path
) -> None:
    dataset = Coco(root)
    order = dataset.file_order("train2014")
    assert order != tuple(sorted(order))
    support = sample_runs(split, 1, 2).episodes[1].support
    given = indices(tmp_path / "i.json", runs=[[order.index(image) for image in support]])
    content = import_runs(given, split, dataset)
    assert content == RunFile(SPLIT, split.hash, 1, False, (support,))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"runs": [[0, 99999]]}, "99999 in run 1"),
        ({"runs": [[-1]]}, "-1 in run 1"),
        ({"runs": [[0], [4, 5, 4]]}, "4 twice in run 2"),
        ({"runs": [[True]]}, "whole numbers"),
        ({"runs": [0]}, "whole numbers"),
        ({"runs": {}}, "at least one run"),
        ({"runs": [[0, 3]]}, "in run 1: stop sign (0), bird (0)"),
        ({"runs": [[100]]}, "not support images"),
        ({"runs": [[0]], "shots": "1"}, "at least 1 for 'shots'"),
        ({"runs": [[0]], "shot": 1}, "did you mean 'shots'"),
        ({"runs": [[0]], "format": "pickle"}, FORMAT),
        ({}, "the key 'runs'"),
    ],
)
def test_bad_indices(
    root: Path, split: Split, tmp_path: Path, content: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BenchError) as error:
        import_runs(indices(tmp_path / "i.json", **content), split, Coco(root))
    assert reason in str(error.value)


def test_a_sorted_copy_of_the_annotations_is_suspected(tmp_path: Path) -> None:
    train, val = contents()
    root = write_coco(tmp_path, dict(sorted(train.items())), val)
    split = build_split(DEFINITION, Coco(root))
    with pytest.raises(BenchError) as error:
        import_runs(indices(tmp_path / "i.json", runs=[[0]]), split, Coco(root))
    assert "sorted by id" in error.value.remedy


@needs_data
def test_lasos_first_run_on_the_real_annotations(tmp_path: Path) -> None:
    """In the official order it has each label; a copy sorted by id is told to be one."""
    from mlfsic_bench.data.registry import open_dataset

    dataset = open_dataset("coco", None)
    assert isinstance(dataset, Coco)
    split = resolve_split(SPLIT, data_root=None)
    given = indices(tmp_path / "i.json", runs=[LASO_1_SHOT_RUN_1])
    order = dataset.file_order("train2014")
    if order == tuple(sorted(order)):
        with pytest.raises(BenchError) as error:
            import_runs(given, split, dataset)
        assert "sorted by id" in error.value.remedy
    else:
        content = import_runs(given, split, dataset)
        assert split.novel.targets_of(content.runs[0]).any(axis=0).all()
