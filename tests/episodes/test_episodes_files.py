"""Episode files: canonical bytes, and a refusal for everything that is not one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlfsic_bench.episodes import files
from mlfsic_bench.episodes.files import (
    draw_episodes,
    find_episodes,
    read_episodes,
    read_file,
    verify_file,
)
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.episodes.protocol import Episode, EpisodeSet, episode_set
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import splitmix64
from mlfsic_bench.splits.split import Part, Split


def make_part(name: str, labels: tuple[str, ...], n: int) -> Part:
    words = [splitmix64(n, i) / 2**64 for i in range(n * len(labels))]
    targets = np.array(words).reshape(n, len(labels)) < 0.3
    targets[:, 0] |= ~targets.any(axis=1)
    return Part(labels, tuple(f"{name}/{i:04d}" for i in range(n)), targets)


def make_split(hash_: str = "f" * 64) -> Split:
    parts = {
        "base": make_part("b", ("one", "two"), 60),
        "val": make_part("v", ("three", "four"), 60),
        "novel": make_part("n", ("fünf", "six", "seven"), 80),
    }
    return Split("toy-v1", hash_, "toy", "open", parts)  # type: ignore[arg-type]


def draw(split: Split, count: int, part: str = "novel") -> EpisodeSet:
    return draw_episodes(ONE_PER_LABEL, split, part, count)


@pytest.fixture
def split() -> Split:
    return make_split()


@pytest.fixture
def path(tmp_path: Path, split: Split) -> Path:
    target = tmp_path / "episodes.json"
    target.write_bytes(draw(split, 6).format())
    return target


def test_write_and_read_give_the_same_set(split: Split, path: Path) -> None:
    drawn = draw(split, 6)
    assert read_episodes(path, split) == drawn
    assert read_file(path) == draw_episodes(ONE_PER_LABEL, split, "novel", 6)
    assert list(drawn.episodes) == ONE_PER_LABEL.draw(split, "novel", range(6))


def test_the_bytes_are_canonical(split: Split, path: Path) -> None:
    data = path.read_bytes()
    assert data == draw_episodes(ONE_PER_LABEL, split, "novel", 6).format()
    lines = data.decode().split("\n")
    assert len([line for line in lines if '"support":[' in line]) == 6
    assert list(json.loads(data)) == [
        "schema", "split_id", "split_hash", "protocol", "part", "support_per_label",
        "query_per_label", "count", "episodes", "hash",
    ]  # fmt: skip
    assert data.endswith(b"}\n")


def test_the_hash_names_every_part_of_the_content(split: Split) -> None:
    drawn = draw(split, 3)

    def hash_of(split: Split, part: str, episodes: Sequence[Episode]) -> str:
        return episode_set(ONE_PER_LABEL, split, part, episodes).hash

    hashes = {
        drawn.hash,
        hash_of(replace(split, id="other"), "novel", drawn.episodes),
        hash_of(replace(split, hash="0" * 64), "novel", drawn.episodes),
        hash_of(split, "val", drawn.episodes),
        hash_of(split, "novel", drawn.episodes[:2]),
        hash_of(split, "novel", drawn.episodes[::-1]),
    }
    assert len(hashes) == 6


def set_key(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda raw: raw.update({key: value})


def twice(raw: dict[str, Any]) -> None:
    raw["episodes"][2]["query"][0] = raw["episodes"][2]["support"][0]


def foreign(raw: dict[str, Any]) -> None:
    raw["episodes"][2]["query"][0] = "b/0001"


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown key": (set_key("splt_id", 1), "did you mean 'split_id'?"),
    "missing key": (lambda raw: raw.pop("count"), "the key 'count'"),
    "schema": (set_key("schema", "x"), "schema"),
    "protocol": (set_key("protocol", "one_per_label-v0"), "one_per_label-v1"),
    "support size": (set_key("support_per_label", True), "support_per_label 1"),
    "query size": (set_key("query_per_label", 5), "query_per_label 4"),
    "part": (set_key("part", "base"), "'val' or 'novel'"),
    "part not text": (set_key("part", []), "'val' or 'novel'"),
    "not unicode": (set_key("split_id", "\ud800"), "text for 'split_id'"),
    "split id": (set_key("split_id", 3), "text for 'split_id'"),
    "hash": (set_key("hash", "0" * 64), "that of the content"),
    "count": (set_key("count", 5), "count 6"),
    "count no whole number": (set_key("count", 6.0), "count 6"),
    "query size no whole number": (set_key("query_per_label", 4.0), "query_per_label 4"),
    "support size true": (set_key("support_per_label", True), "support_per_label 1"),
    "split id that turns text": (set_key("split_id", "x\u202e"), "text for 'split_id'"),
    "no episodes": (set_key("episodes", []), "at least one episode"),
    "not a list": (set_key("episodes", {}), "at least one episode"),
    "image changed": (foreign, "that of the content"),
    "image twice": (twice, "twice in episode 2"),
    "query short": (lambda raw: raw["episodes"][1]["query"].pop(), "in every episode"),
    "episode key": (lambda raw: raw["episodes"][1].update(seed=1), "'support' and 'query'"),
    "not an id": (lambda raw: raw["episodes"][1]["query"].append(3), "list of image ids"),
    "empty episode": (
        lambda raw: raw["episodes"][0].update(support=[], query=[]),
        "support images in each",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(name: str, path: Path) -> None:
    change, message = BROKEN[name]
    raw = json.loads(path.read_bytes())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(BenchError) as error:
        read_file(path)
    assert message in str(error.value)
    assert str(path) in error.value.what


def test_what_is_not_an_object_is_refused(path: Path) -> None:
    path.write_text("[]")
    with pytest.raises(BenchError, match="JSON object"):
        read_file(path)
    with pytest.raises(BenchError, match="no episode file"):
        read_file(path.with_name("none.json"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a file's content and give it the hash of the new content."""
    raw = json.loads(path.read_bytes())
    change(raw)
    body = {key: value for key, value in raw.items() if key != "hash"}
    raw["hash"] = files.hash_json(body)
    path.write_text(json.dumps(raw))


def test_episodes_of_another_split_are_refused(split: Split, path: Path) -> None:
    with pytest.raises(BenchError, match="another split"):
        read_episodes(path, make_split("e" * 64))
    rewrite(path, foreign)
    read_file(path)
    with pytest.raises(BenchError, match="images of the novel part"):
        read_episodes(path, split)


def test_an_image_without_its_label_is_refused(split: Split, path: Path) -> None:
    def swap(raw: dict[str, Any]) -> None:
        bare = next(
            image
            for image in split.novel.image_ids
            if not split.novel.targets_of((image,))[0, 1]
            and image not in raw["episodes"][3]["query"] + raw["episodes"][3]["support"]
        )
        raw["episodes"][3]["query"][4] = bare

    rewrite(path, swap)
    with pytest.raises(BenchError, match="with the label 'six'"):
        read_episodes(path, split)


def test_episodes_of_fewer_labels_are_refused(split: Split, path: Path) -> None:
    def shrink(raw: dict[str, Any]) -> None:
        for episode in raw["episodes"]:
            del episode["support"][2:], episode["query"][8:]

    rewrite(path, shrink)
    with pytest.raises(BenchError, match="1 for each of 3 labels"):
        read_episodes(path, split)


@pytest.mark.parametrize(
    ("part", "count"), [("base", 3), ("nvel", 3), ("novel", 0), ("val", 10**9)]
)
def test_impossible_requests_are_refused(split: Split, part: str, count: int) -> None:
    with pytest.raises(BenchError):
        draw(split, count, part)


def test_shipped_episodes_belong_to_one_hash(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "shipped_folder", lambda: tmp_path)
    assert files.shipped_episodes(ONE_PER_LABEL, split, "novel") is None
    assert len(find_episodes(None, split).episodes) == 200
    drawn = draw(split, 4)
    (tmp_path / "toy-v1.novel-episodes.json").write_bytes(drawn.format())
    assert find_episodes(None, split) == drawn
    assert find_episodes(ONE_PER_LABEL, split, count=3) == draw(split, 3)
    assert files.shipped_episodes(ONE_PER_LABEL, split, "val") is None
    assert files.shipped_episodes(ONE_PER_LABEL, make_split("e" * 64), "novel") is None
    limited = replace(split, subset={"available_only": True})
    assert files.shipped_episodes(ONE_PER_LABEL, limited, "novel") is None
    with pytest.raises(BenchError, match="part"):
        find_episodes(None, split, "base")


def test_episodes_of_a_hash_are_found_or_refused(split: Split, path: Path) -> None:
    drawn = draw(split, 5)
    assert find_episodes(ONE_PER_LABEL, split, count=5, hash=drawn.hash) == drawn
    with pytest.raises(BenchError, match="not the ones the scores were made on"):
        find_episodes(ONE_PER_LABEL, split, count=4, hash=drawn.hash)
    with pytest.raises(BenchError, match="is not drawn here"):
        find_episodes(ONE_PER_LABEL, split, count=10**6, hash=drawn.hash)
    with pytest.raises(BenchError, match="not the ones the scores were made on"):
        find_episodes(ONE_PER_LABEL, split, hash=drawn.hash, file=path)
    assert find_episodes(None, split, file=path) == draw(split, 6)
    with pytest.raises(BenchError, match="holds episodes of the novel part"):
        find_episodes(None, split, "val", file=path)


def found(path: Path, split: Split) -> list[str]:
    return list(verify_file(path, split).differences)


def test_verify_says_what_differs(split: Split, path: Path) -> None:
    original = path.read_bytes()
    assert found(path, split) == []

    path.write_bytes(original.replace(b'"count":6', b'"count": 6'))
    assert "other bytes" in found(path, split)[0]
    at = original.index(b'"count":6') + len(b'"count":')
    assert f"byte {at}" in found(path, split)[0]

    raw = json.loads(original)
    kept = raw["episodes"][4]["query"][7]
    raw["episodes"][4]["query"][7] = "n/none"
    path.write_text(json.dumps(raw))
    lines = found(path, split)
    assert lines[0] == "1 episode(s) differ, the first is 4"
    assert "n/none" in lines[1]
    assert kept in lines[2]

    raw = json.loads(original)
    raw["episodes"].pop()
    raw["extra"] = 1
    del raw["hash"]
    path.write_text(json.dumps(raw))
    assert found(path, split) == [
        "unknown key 'extra'",
        "episodes: 5 in the file, 6 regenerated",
        "the key 'hash' is missing",
    ]

    path.write_bytes(original)
    lines = found(path, make_split("e" * 64))
    assert any(line.startswith("split_hash: ") for line in lines)
    assert any("episode(s) differ" in line for line in lines)


@pytest.mark.parametrize("raw", [{"part": "novel", "count": -1}, {"part": [], "count": 1}, {}])
def test_verify_needs_part_and_count(split: Split, path: Path, raw: dict[str, Any]) -> None:
    path.write_text(json.dumps({"protocol": "one_per_label-v1", **raw}))
    with pytest.raises(BenchError) as error:
        verify_file(path, split)
    assert "'part' and a 'count'" in error.value.expected
