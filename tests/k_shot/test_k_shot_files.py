"""Files of runs: round trip, every unsound file refused, the shipped ones, published indices."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlfsic_bench.data.coco import Coco
from mlfsic_bench.episodes.files import (
    INDICES,
    draw_episodes,
    find_episodes,
    parse_file,
    read_episodes,
    read_file,
    shipped_files,
    verify_file,
)
from mlfsic_bench.episodes.k_shot import LasoBalanced, LasoKShot, import_indices
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.episodes.protocol import Episode, EpisodeSet
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.files import to_split
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


def sampled(split: Split, shots: int, count: int | None = None) -> EpisodeSet:
    return draw_episodes(LasoKShot(shots), split, "novel", count)


def written(content: EpisodeSet, path: Path) -> Path:
    path.write_bytes(content.format())
    return path


def test_round_trip(split: Split, tmp_path: Path) -> None:
    content = sampled(split, 2)
    path = written(content, tmp_path / "runs.json")
    assert read_episodes(path, split) == content
    assert read_file(path).format() == content.format() == path.read_bytes()
    assert list(json.loads(path.read_text())) == [
        "schema", "split_id", "split_hash", "protocol", "part", "shots", "support_from",
        "query_from", "drawn", "count", "runs", "hash",
    ]  # fmt: skip
    assert verify_file(path, split).said == "regenerates byte for byte"


def rehashed(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"hash": hash_json({k: v for k, v in body.items() if k != "hash"})}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shot": 1}, "did you mean 'shots'"),
        ({"shots": 0}, "at least 1 for 'shots'"),
        ({"shots": True}, "at least 1 for 'shots'"),
        ({"protocol": "one_per_label-v1"}, "unknown key 'shots'"),
        ({"protocol": "laso_k_shot-v0"}, "laso_k_shot-v1"),
        ({"query_from": "train2014"}, "query_from 'val2014'"),
        ({"part": "val"}, "part 'novel'"),
        ({"drawn": 1}, "true or false"),
        ({"count": 3}, "as many as listed"),
        ({"runs": []}, "at least one episode"),
        ({"runs": [["a", 1]]}, "a list of image ids"),
        ({"runs": [[]]}, "none in episode 0"),
        ({"runs": [["a", "b", "a"]]}, "'a' twice in episode 0"),
        ({"split_id": 3}, "text for 'split_id'"),
    ],
)
def test_unsound_files(split: Split, change: dict[str, Any], reason: str) -> None:
    body = json.loads(sampled(split, 1, 2).format())
    with pytest.raises(BenchError) as error:
        parse_file(rehashed(body | change), "runs.json")
    assert reason in str(error.value)


def test_missing_key_wrong_hash_and_no_object(split: Split) -> None:
    body = json.loads(sampled(split, 1, 2).format())
    with pytest.raises(BenchError, match="not a valid episode file") as error:
        parse_file({k: v for k, v in body.items() if k != "drawn"}, "runs.json")
    assert "'drawn'" in error.value.expected
    with pytest.raises(BenchError) as error:
        parse_file(body | {"split_hash": "0" * 64}, "runs.json")
    assert "that of the content" in error.value.expected
    with pytest.raises(BenchError):
        parse_file([body], "runs.json")


def test_runs_of_another_split(split: Split) -> None:
    content = replace(sampled(split, 1), split_id="coco-52-12-16-v1")
    with pytest.raises(BenchError, match="episodes of another split"):
        content.on(split, "runs.json")


def test_other_annotations_of_the_same_split(split: Split, tmp_path: Path) -> None:
    """More annotations: the file still fits, but is not the law's there; fewer: named."""
    content = sampled(split, 3)
    path = written(content, tmp_path / "runs.json")
    train, val = contents()
    more = train | {7: [("vase", "box")]}
    there = to_split(build_file(DEFINITION, Coco(write_coco(tmp_path / "more", more, val))))
    assert there.hash != split.hash
    assert content.on(there, "runs").hash != content.on(split, "runs").hash
    assert "other annotations" in verify_file(path, there).said
    first = content.episodes[0].support[0]
    number = int(first[-12:])
    less = train | {number: without(train, "bicycle")[number] or [("person", "box")]}
    less = {n: shown if n != number else [("person", "box")] for n, shown in less.items()}
    here = to_split(build_file(DEFINITION, Coco(write_coco(tmp_path / "less", less, val))))
    with pytest.raises(BenchError) as error:
        verify_file(path, here)
    assert first in error.value.found


def test_tampered_runs_are_told(split: Split, tmp_path: Path) -> None:
    content = sampled(split, 1, 3)
    one, two, three = content.episodes
    swapped = replace(content, episodes=(two, one, three))
    path = written(swapped, tmp_path / "runs.json")
    assert "2 episode(s) differ, the first is 0" in verify_file(path, split).differences
    written(replace(swapped, drawn=False), path)
    assert "given" in verify_file(path, split).said
    path.write_bytes(content.format().replace(b'"count":3', b'"count": 3'))
    assert "same content, other bytes" in verify_file(path, split).differences[0]


def test_one_reader_for_every_protocol(split: Split, tmp_path: Path) -> None:
    scenes = resolve_split("scenes-12-6-6-v1", data_root=None)
    path = tmp_path / "episodes.json"
    path.write_bytes(draw_episodes(ONE_PER_LABEL, scenes, "novel", 2).format())
    assert read_episodes(path, scenes).protocol == ONE_PER_LABEL
    with pytest.raises(BenchError, match="another split"):
        read_episodes(path, split)
    with pytest.raises(BenchError, match="episodes of another protocol"):
        find_episodes(LasoKShot(1), scenes, file=path)
    path.write_text(json.dumps({"format": INDICES, "shots": 1, "runs": [[1]]}))
    with pytest.raises(BenchError) as error:
        read_episodes(path, split)
    assert "episodes import" in error.value.remedy


def test_own_runs_of_a_subset_are_drawn(root: Path, split: Split) -> None:
    subset = resolve_split(SPLIT, data_root=root, available_only=True)
    found = find_episodes(LasoKShot(1), subset)
    assert found == draw_episodes(LasoKShot(1), subset, "novel")
    with pytest.raises(BenchError, match=f"{SPLIT}.1-shot-runs.json"):  # a whole split gets those
        find_episodes(LasoKShot(1), split)


def test_shipped_files_are_sound() -> None:
    paths = [path for path in shipped_files() if path.name.startswith(SPLIT)]
    files = {path.name: read_file(path) for path in paths}
    kinds = [kind(k) for kind in (LasoKShot, LasoBalanced) for k in (1, 5)]
    assert set(files) == {kind.file_name(SPLIT, "novel") for kind in kinds}
    for k in (1, 5):  # the same supports
        plain, balanced = (
            files[kind(k).file_name(SPLIT, "novel")] for kind in (LasoKShot, LasoBalanced)
        )
        assert plain.episodes == balanced.episodes
    for name, content in files.items():
        assert (content.split_id, content.drawn, len(content.episodes)) == (SPLIT, True, 10)
        assert name == content.protocol.file_name(SPLIT, "novel")
        sizes = [len(episode.support) for episode in content.episodes]
        assert (min(sizes), max(sizes)) == (11, 14) or (min(sizes), max(sizes)) == (58, 65)
    assert all(verify_file(path, None).differences == () for path in paths)


@needs_data
def test_shipped_runs_serve_on_the_real_annotations() -> None:
    split = resolve_split(SPLIT, data_root=None)
    for shots in (1, 5):
        drawn = find_episodes(LasoKShot(shots), split)
        assert {len(e.query) for e in drawn.episodes} == {15_927}
        counts = [split.novel.targets_of(e.support).sum(axis=0).min() for e in drawn.episodes]
        assert min(counts) >= shots


# -- indices of published runs --------------------------------------------------------------------


def indices(path: Path, **content: object) -> Path:
    path.write_text(json.dumps({"format": INDICES, "shots": 1} | content))
    return path


def test_indices_count_the_images_as_the_file_lists_them(
    root: Path, split: Split, tmp_path: Path
) -> None:
    dataset = Coco(root)
    order = dataset.file_order("train2014")
    assert order != tuple(sorted(order))
    support = sampled(split, 1, 2).episodes[1].support
    given = indices(tmp_path / "i.json", runs=[[order.index(image) for image in support]])
    content = import_indices(given, split, dataset)
    assert content == EpisodeSet(
        SPLIT, split.hash, LasoKShot(1), "novel", (Episode(support, ()),), drawn=False
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"runs": [[0, 99999]]}, "99999"),
        ({"runs": [[-1]]}, "runs.0.0 is not valid"),
        ({"runs": [[0], [4, 5, 4]]}, "4 twice"),
        ({"runs": [[True]]}, "valid integer"),
        ({"runs": [0]}, "valid array"),
        ({"runs": []}, "at least 1 item"),
        ({"runs": [[0, 3]]}, "in episode 0: stop sign (0), bird (0)"),
        ({"runs": [[100]]}, "not support images"),
        ({"runs": [[0]], "shots": "1"}, "shots is not valid"),
        ({"runs": [[0]], "shot": 1}, "did you mean 'shots'"),
        ({"runs": [[0]], "format": "pickle"}, INDICES),
        ({}, "the key 'runs'"),
    ],
)
def test_bad_indices(
    root: Path, split: Split, tmp_path: Path, content: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BenchError) as error:
        import_indices(indices(tmp_path / "i.json", **content), split, Coco(root))
    assert reason in str(error.value)


def test_a_sorted_copy_of_the_annotations_is_suspected(tmp_path: Path) -> None:
    train, val = contents()
    root = write_coco(tmp_path, dict(sorted(train.items())), val)
    split = to_split(build_file(DEFINITION, Coco(root)))
    with pytest.raises(BenchError) as error:
        import_indices(indices(tmp_path / "i.json", runs=[[0]]), split, Coco(root))
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
            import_indices(given, split, dataset)
        assert "sorted by id" in error.value.remedy
    else:
        content = import_indices(given, split, dataset)
        assert split.novel.targets_of(content.episodes[0].support).any(axis=0).all()
