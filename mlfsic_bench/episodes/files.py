"""Episode files: written, read, drawn anew and compared; and the episodes of a split, found.

A file is JSON with fixed keys, one episode a line, ids only, and its own hash: the same bytes on
every machine. Which keys, and what a line holds, the protocol says that the file names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mlfsic_bench.episodes.protocol import (
    Episode,
    EpisodeSet,
    Protocol,
    episode_set,
    find_protocol,
    kind_with_id,
    known_ids,
)
from mlfsic_bench.errors import BenchError, nearest, unknown_name
from mlfsic_bench.files import read_json, read_regular
from mlfsic_bench.hashing import canonical_json, hash_json
from mlfsic_bench.paths import is_file
from mlfsic_bench.schema import is_plain
from mlfsic_bench.splits.split import Split

LARGEST_COUNT = 100_000
MOST_DRAWN = 10_000  # episodes drawn to find those of a hash; larger sets come as a file
LONGEST = 200  # characters of an id
HEAD = ("schema", "split_id", "split_hash", "protocol", "part")
INDICES = "mlfsic-bench/coco-indices-v1"
"""`format` of a file that holds indices into annotations, which `episodes import` turns into ids"""


def draw_episodes(
    protocol: Protocol, split: Split, part: str, count: int | None = None
) -> EpisodeSet:
    """Episodes 0 to count - 1 of a part, or as many as the protocol has by default.

    BenchError when the part can't give them or the count is not 1 to 100,000.
    """
    if part not in protocol.counts:
        raise unknown_name(f"part that {protocol.name} draws from", part, protocol.counts)
    count = protocol.default_count(split, part) if count is None else count
    if not 1 <= count <= LARGEST_COUNT:
        raise BenchError(
            "an episode set can't have that many episodes",
            expected=f"a count from 1 to {LARGEST_COUNT}",
            found=str(count),
            remedy="leave the count out for the official number",
        )
    return episode_set(protocol, split, part, protocol.draw(split, part, range(count)))


def read_episodes(path: Path, split: Split) -> EpisodeSet:
    """The episodes in a file of whichever protocol, checked by themselves and on the split."""
    return read_file(path).on(split, str(path))


def read_file(path: Path) -> EpisodeSet:
    """The episodes in a file, checked by themselves: keys, counts, hash, no image twice."""
    return parse_file(read_json(path, kind="episode file"), str(path))


def parse_file(raw: Any, name: str) -> EpisodeSet:
    """The episodes in the JSON value of the file called `name`, checked like `read_file`."""
    protocol = _protocol(raw, name)
    drawn = raw.get("drawn", True)
    if not isinstance(drawn, bool):
        raise wrong(name, "true or false for 'drawn'", repr(drawn)[:80])
    stated = {"schema": protocol.schema, **protocol.stated(drawn)}
    keys = (*HEAD, *protocol.stated(drawn), "count", protocol.listed, "hash")
    for key in raw:
        if key not in keys:
            close = nearest(key, keys)
            hint = f"did you mean {close!r}? " if close else ""
            raise wrong(name, f"keys among {', '.join(keys)}", f"unknown key {key!r}", hint)
    for key in keys:
        if key not in raw:
            raise wrong(name, f"the key {key!r}", "no such key")
    for key, value in stated.items():
        if raw[key] != value or type(raw[key]) is not type(value):  # true and 1.0 equal 1
            raise wrong(name, f"{key} {value!r}", repr(raw[key])[:80])
    for key in ("split_id", "split_hash", "hash"):
        if not is_plain(raw[key]) or len(raw[key]) > LONGEST:
            raise wrong(name, f"plain text for {key!r}", repr(raw[key])[:80])
    parts = " or ".join(map(repr, protocol.counts))
    if raw["part"] not in tuple(protocol.counts):  # of any type, hashable or not
        raise wrong(name, f"part {parts}", repr(raw["part"])[:80])
    entries = raw[protocol.listed]
    if not isinstance(entries, list) or not entries:
        raise wrong(name, "a list of at least one episode", repr(entries)[:80])
    episodes = tuple(_episode(protocol, name, i, entry) for i, entry in enumerate(entries))
    if type(raw["count"]) is not int or raw["count"] != len(episodes):
        raise wrong(name, f"count {len(episodes)}, as many as listed", repr(raw["count"])[:80])
    sizes = {(len(episode.support), len(episode.query)) for episode in episodes}
    support, query = next(iter(sizes))
    if protocol.queries and (
        len(sizes) > 1 or query * protocol.shots != support * protocol.queries
    ):
        expected = f"{protocol.shots} support and {protocol.queries} query images per label"
        raise wrong(name, f"{expected} in every episode", f"sizes {sorted(sizes)}")
    content = EpisodeSet(raw["split_id"], raw["split_hash"], protocol, raw["part"], episodes, drawn)
    try:
        expected = hash_json(content.body())
    except UnicodeEncodeError as error:
        raise wrong(name, "text that can be written as UTF-8", str(error)) from error
    if raw["hash"] != expected:
        raise wrong(name, f"hash {expected} (that of the content)", f"hash {raw['hash']}")
    return content


def wrong(name: str, expected: str, found: str, hint: str = "") -> BenchError:
    """The error of a file called `name` that is no sound episode file."""
    return BenchError(
        f"{name} is not a valid episode file",
        expected=expected,
        found=found,
        remedy=f"{hint}make the file again with `mlfsic-bench episodes sample`",
    )


def _protocol(raw: Any, name: str) -> Protocol:
    """The protocol that the file called `name` says its episodes are of."""
    if not isinstance(raw, dict):
        raise wrong(name, "a JSON object", type(raw).__name__)
    if raw.get("format") == INDICES:
        raise BenchError(
            f"{name} holds indices into an annotation file, not image ids",
            expected="an episode file",
            found=f"format {INDICES!r}",
            remedy=f"turn it into one: mlfsic-bench episodes import SPLIT {name} --out FILE",
        )
    if "protocol" not in raw:
        raise wrong(name, "the key 'protocol'", "no such key")
    kind = kind_with_id(raw["protocol"])
    if kind is None:
        raise wrong(name, f"a protocol among {', '.join(known_ids())}", repr(raw["protocol"])[:80])
    chosen = kind.chosen_in(raw)
    for key, value in chosen.items():
        if type(value) is not int or value < 1:
            raise wrong(name, f"a whole number of at least 1 for {key!r}", repr(value)[:80])
    found = find_protocol(kind.name, **chosen)
    if found.id != raw["protocol"]:  # one set of episodes has one name, and so one hash
        raise wrong(name, f"protocol {found.id!r} for {chosen}", repr(raw["protocol"]))
    return found


def _episode(protocol: Protocol, name: str, i: int, entry: Any) -> Episode:
    lists = protocol.lists_in(entry)
    if lists is None:
        found = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise wrong(name, "the keys 'support' and 'query' in each episode", f"{found} in {i}")
    for key, ids in zip(("support", "query"), lists, strict=True):
        if not isinstance(ids, list) or not all(is_plain(image) for image in ids):
            raise wrong(name, f"a list of image ids as {key!r}", f"other values in episode {i}")
    support, query = lists
    if not support:
        raise wrong(name, "support images in each episode", f"none in episode {i}")
    seen: set[str] = set()
    for image in (*support, *query):
        if image in seen:
            raise wrong(name, "each image once in an episode", f"{image!r} twice in episode {i}")
        seen.add(image)
    return Episode(tuple(support), tuple(query))


# Finding ------------------------------------------------------------------------------------------


def find_episodes(
    protocol: Protocol | None,
    split: Split,
    part: str = "novel",
    *,
    count: int | None = None,
    hash: str | None = None,
    file: Path | None = None,
) -> EpisodeSet:
    """The episodes of a part: those in `file`, else those that ship for the split, else drawn.

    Parameters
    ----------
    protocol: how they were drawn; None: as the file says, or by the default protocol.
    count: how many are drawn, where none that ship fit; None: as many as the protocol has.
    hash: the set must be the one with this hash.
    file: an episode file; it must be of the protocol and the part.

    Raises BenchError when there is no such set.
    """
    if file is not None:
        found = read_episodes(file, split)
        for what, wanted, there in (
            ("another protocol", protocol and protocol.title, found.protocol.title),
            (f"the {found.part} part", part, found.part),
        ):
            if wanted not in (None, there):
                raise BenchError(
                    f"{file} holds episodes of {what}",
                    expected=f"episodes of {wanted}",
                    found=there,
                    remedy="name another file; it says itself by which protocol it was made",
                )
    else:
        protocol = protocol or find_protocol()
        shipped = shipped_episodes(protocol, split, part)
        fits = shipped is not None and (
            count in (None, len(shipped.episodes)) if hash is None else shipped.hash == hash
        )
        if shipped is not None and fits:
            return shipped
        if hash is not None and count is not None and count > MOST_DRAWN:
            raise BenchError(
                f"a set of {count} episodes is not drawn here",
                expected=f"at most {MOST_DRAWN} episodes, or their file",
                found=str(count),
                remedy="name their file: --episodes-file FILE",
            )
        found = draw_episodes(protocol, split, part, count)
    if hash not in (None, found.hash):
        raise BenchError(
            "the episodes found are not the ones the scores were made on",
            expected=f"{found.protocol.title}, part {part}, hash {hash}",
            found=f"{found.protocol.title}, part {part}, hash {found.hash}",
            remedy="name the file of the episodes that were scored: --episodes-file FILE",
        )
    return found


def shipped_folder() -> Path:
    """Where the files lie that come with the package."""
    return Path(str(files("mlfsic_splits")))


def shipped_files() -> list[Path]:
    """The episode files that come with the package, by name."""
    return sorted(shipped_folder().glob("*.*.json"))  # a split's own file has no dot in its name


def shipped_episodes(protocol: Protocol, split: Split, part: str) -> EpisodeSet | None:
    """The episodes of this split that come with the package, checked; None when there are none.

    A split that is limited to some of its images never gets them: it may lack some of theirs.
    """
    if part not in protocol.counts:
        raise unknown_name(f"part that {protocol.name} draws from", part, protocol.counts)
    path = shipped_folder() / protocol.file_name(split.plain_id, part)
    if split.subset is not None or not is_file(path):
        return None
    content = read_file(path)
    if content.split_hash != split.hash and not protocol.one_query:
        return None
    return content.on(split, path.name)


# Verifying ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """`said`: what a file was found to be; `differences`: what is wrong, empty when sound."""

    said: str
    differences: tuple[str, ...] = ()


def verify_file(path: Path, split: Split | None) -> Verdict:
    """Draw the episodes of a file again and compare byte for byte.

    Without a split the file is only checked by itself. Where all episodes share one query, those
    that were given, or drawn from other annotations of the split, are only checked on the split.
    Raises BenchError when the file does not say which episodes it holds, or is unsound in a case
    where it can't be drawn again.
    """
    data, raw = read_regular(path), read_json(path, kind="episode file")
    if split is None:
        read_file(path)
        return Verdict("sound; not compared with its split: no data root named")
    protocol = _protocol(raw, str(path))
    if protocol.one_query:
        content = read_file(path)
        content.on(split, str(path))
        if not content.drawn:
            return Verdict("sound episodes of the split; given, so not drawn again")
        if content.split_hash != split.hash:
            said = "drawn from other annotations of it, so not drawn again"
            return Verdict(f"sound episodes of the split; {said}")
    part, count = raw.get("part"), raw.get("count")
    known = part in tuple(protocol.counts) and type(count) is int and 1 <= count <= LARGEST_COUNT
    if not known:
        raise wrong(str(path), "a 'part' and a 'count' that say which episodes", repr(raw)[:80])
    expected = draw_episodes(protocol, split, part, count).format()
    if data == expected:
        return Verdict("regenerates byte for byte")
    return Verdict("differs", tuple(_differences(raw, json.loads(expected), data, expected)))


def _differences(
    raw: dict[str, Any], wanted: dict[str, Any], data: bytes, expected: bytes
) -> list[str]:
    lines = [f"unknown key {key!r}" for key in raw if key not in wanted]
    for key, value in wanted.items():
        if key not in raw:
            lines.append(f"the key {key!r} is missing")
        elif isinstance(value, list):
            lines += _entry_differences(raw[key], value)
        elif raw[key] != value:
            lines.append(f"{key}: {raw[key]!r} in the file, {value!r} regenerated")
    if not lines:
        pairs = zip(data, expected, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(data), len(expected)))
        lines = [f"same content, other bytes: first difference at byte {at} (spacing or order)"]
    return lines


def _entry_differences(found: Any, wanted: list[Any]) -> list[str]:
    if not isinstance(found, list):
        return [f"episodes: {type(found).__name__} in the file, a list regenerated"]
    lines = []
    if len(found) != len(wanted):
        lines.append(f"episodes: {len(found)} in the file, {len(wanted)} regenerated")
    differ = [i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b]
    if differ:
        first = differ[0]
        have, want = canonical_json(found[first]).decode(), canonical_json(wanted[first]).decode()
        at = next((i for i, (a, b) in enumerate(zip(have, want, strict=False)) if a != b), 0)
        start = max(0, at - 40)
        lines.append(f"{len(differ)} episode(s) differ, the first is {first}")
        lines.append(f"there {have[start : at + 40]!r} in the file,")
        lines.append(f"      {want[start : at + 40]!r} regenerated")
    return lines
