"""Episode files: ids only, one episode a line, hashed, the same bytes on every machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mlfsic_bench.episodes.episode import Episode, EpisodeSet
from mlfsic_bench.episodes.hashed_json import FileKind, shipped_folder
from mlfsic_bench.episodes.one_per_label import (
    PROTOCOL,
    QUERY_PER_LABEL,
    SUPPORT_PER_LABEL,
    EpisodeSampler,
)
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.files import read_json, write_bytes
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.paths import is_file
from mlfsic_bench.schema import is_plain
from mlfsic_bench.splits.split import Split

SCHEMA = "mlfsic-bench/episodes-v1"
OFFICIAL_COUNTS = {"val": 100, "novel": 200}
LARGEST_COUNT = 100_000
KEYS = (
    "schema", "split_id", "split_hash", "protocol", "part", "support_per_label",
    "query_per_label", "count", "episodes", "hash",
)  # fmt: skip
KIND = FileKind(
    what="episode file",
    keys=KEYS,
    fixed={
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "support_per_label": SUPPORT_PER_LABEL,
        "query_per_label": QUERY_PER_LABEL,
    },
    listed="episodes",
    remedy="make the file anew with `mlfsic-bench episodes sample`",
)


def sample_episode_set(split: Split, part_name: str, count: int) -> EpisodeSet:
    """Episodes 0 to count - 1 of the split's `val` or `novel` part, drawn for testing on it.

    Raises BenchError when the part can't serve its labels or the count is not 1 to 100,000.
    """
    _check_part(part_name)
    if not 1 <= count <= LARGEST_COUNT:
        raise BenchError(
            "an episode set can't have that many episodes",
            expected=f"a count from 1 to {LARGEST_COUNT}",
            found=str(count),
            remedy=f"the official count for {part_name} is {OFFICIAL_COUNTS[part_name]}",
        )
    part = split.parts[part_name]  # type: ignore[index]
    sampler = EpisodeSampler(part, split.hash, part_name)
    return named_set(split.id, split.hash, part_name, tuple(sampler.draw(range(count))))


def named_set(
    split_id: str, split_hash: str, part_name: str, episodes: tuple[Episode, ...]
) -> EpisodeSet:
    """The set of these episodes with the hash that names it."""
    unnamed = EpisodeSet(split_id, split_hash, PROTOCOL, part_name, episodes, "")
    return replace(unnamed, hash=hash_json(_body(unnamed)))


def format_episode_set(episodes: EpisodeSet) -> bytes:
    """The bytes of the set's file: keys in a fixed order, one episode a line, UTF-8."""
    return KIND.format(_body(episodes), episodes.hash)


def write_episode_set(episodes: EpisodeSet, path: Path) -> None:
    """Write the set's file atomically."""
    write_bytes(path, format_episode_set(episodes))


def read_episode_set(path: Path, split: Split | None = None) -> EpisodeSet:
    """The set in a file, checked: keys, counts, hash, no image twice in an episode.

    With `split`, the file must also belong to it: id, hash, every image in the part and every
    image with the label it was drawn for. Raises BenchError otherwise.
    """
    raw = read_json(path, kind="episode file")
    episodes = parse_episode_set(raw, str(path))
    if split is not None:
        check_belongs(episodes, split, str(path))
    return episodes


def parse_episode_set(raw: Any, name: str) -> EpisodeSet:
    """The set in the JSON value of the file called `name`, checked like `read_episode_set`."""
    raw = KIND.check_head(raw, name)
    if raw["part"] not in tuple(OFFICIAL_COUNTS):  # of any type, hashable or not
        raise KIND.wrong(name, "part 'val' or 'novel'", repr(raw["part"]))
    if not isinstance(raw["episodes"], list) or not raw["episodes"]:
        raise KIND.wrong(name, "a list of at least one episode", repr(raw["episodes"])[:80])
    episodes = tuple(_episode(name, i, entry) for i, entry in enumerate(raw["episodes"]))
    if type(raw["count"]) is not int or raw["count"] != len(episodes):
        raise KIND.wrong(name, f"count {len(episodes)}, as many as listed", repr(raw["count"]))
    sizes = {(len(episode.support), len(episode.query)) for episode in episodes}
    support, query = next(iter(sizes))
    if len(sizes) > 1 or query * SUPPORT_PER_LABEL != support * QUERY_PER_LABEL:
        expected = f"{SUPPORT_PER_LABEL} support and {QUERY_PER_LABEL} query images per label"
        raise KIND.wrong(name, f"{expected} in every episode", f"sizes {sorted(sizes)}")
    result = EpisodeSet(
        raw["split_id"], raw["split_hash"], PROTOCOL, raw["part"], episodes, raw["hash"]
    )
    KIND.check_hash(raw, _body(result), name)
    return result


def check_belongs(episodes: EpisodeSet, split: Split, name: str) -> None:
    """BenchError unless the set called `name` is one of this split."""
    if (episodes.split_id, episodes.split_hash) != (split.id, split.hash):
        raise BenchError(
            f"{name} was drawn from another split",
            expected=f"split {split.id} with hash {split.hash}",
            found=f"split {episodes.split_id} with hash {episodes.split_hash}",
            remedy="name the split the episodes were drawn from, or sample episodes for this one",
        )
    part = split.parts[episodes.part]  # type: ignore[index]
    count = len(part.labels)
    for i, episode in enumerate(episodes.episodes):
        if len(episode.support) != count * SUPPORT_PER_LABEL:
            found = f"{len(episode.support)} support images in episode {i}"
            raise KIND.wrong(name, f"{SUPPORT_PER_LABEL} support image per label ({count})", found)
        for images, each in (
            (episode.support, SUPPORT_PER_LABEL),
            (episode.query, QUERY_PER_LABEL),
        ):
            try:
                targets = part.targets_of(images)
            except KeyError as error:
                found = f"image {error.args[0]!r} in episode {i}"
                raise KIND.wrong(name, f"images of the {episodes.part} part", found) from None
            for place, image in enumerate(images):
                if not targets[place, place // each]:
                    label = part.labels[place // each]
                    found = f"image {image!r} without it in episode {i}"
                    raise KIND.wrong(name, f"an image with the label {label!r}", found)


def shipped_name(split_id: str, part_name: str) -> str:
    """The file name of a split's official episodes."""
    return f"{split_id}.{part_name}-episodes.json"


def shipped_files() -> list[Path]:
    """The episode files that come with the package, by name."""
    return sorted(shipped_folder().glob("*-episodes.json"))


def shipped_episode_set(split: Split, part_name: str) -> EpisodeSet | None:
    """The official episodes of this split, checked; None when none ship for its hash.

    A split limited to some of its images has another hash, so it never gets the official episodes.
    """
    _check_part(part_name)
    path = shipped_folder() / shipped_name(split.id, part_name)
    if not is_file(path):
        return None
    episodes = read_episode_set(path)
    if episodes.split_hash != split.hash:
        return None
    check_belongs(episodes, split, path.name)
    return episodes


def _body(episodes: EpisodeSet) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "split_id": episodes.split_id,
        "split_hash": episodes.split_hash,
        "protocol": episodes.protocol,
        "part": episodes.part,
        "support_per_label": SUPPORT_PER_LABEL,
        "query_per_label": QUERY_PER_LABEL,
        "count": len(episodes.episodes),
        "episodes": [
            {"support": list(episode.support), "query": list(episode.query)}
            for episode in episodes.episodes
        ],
    }


def _episode(name: str, i: int, entry: Any) -> Episode:
    if not isinstance(entry, dict) or sorted(entry) != ["query", "support"]:
        found = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise KIND.wrong(name, "the keys 'support' and 'query' in each episode", f"{found} in {i}")
    for key in ("support", "query"):
        ids = entry[key]
        if not isinstance(ids, list) or not all(is_plain(image) for image in ids):
            raise KIND.wrong(
                name, f"a list of image ids as {key!r}", f"other values in episode {i}"
            )
    episode = Episode(tuple(entry["support"]), tuple(entry["query"]))
    images = episode.support + episode.query
    if not episode.support:
        raise KIND.wrong(name, "support images in each episode", f"none in episode {i}")
    if len(set(images)) != len(images):
        double = next(image for image in images if images.count(image) > 1)
        raise KIND.wrong(name, "each image once in an episode", f"{double!r} twice in episode {i}")
    return episode


def _check_part(part_name: str) -> None:
    if part_name not in OFFICIAL_COUNTS:
        raise unknown_name("part with fixed episodes", part_name, OFFICIAL_COUNTS)
