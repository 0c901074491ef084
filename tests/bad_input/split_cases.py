"""Bad split files and episode files."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

from mlfsic_bench.episodes.files import read_file
from mlfsic_bench.splits.files import content_hash, count_images, parse_split, write_split
from tests.bad_input.cases import SCENES, as_file, case, shipped

SPLIT = "scenes-12-6-6-v1"
RUN = ["run", "random", "--backbone", "scenes-small", "--episodes", "1", "--out", "out"]


def _run(folder, value):
    return [*RUN, "--split", as_file(folder / "split.json", value)]


def _sealed(folder, value):
    """The value with counts and a hash that fit it, as a sound-looking file."""
    content = parse_split(value, "split.json")
    content = content.model_copy(update={"counts": count_images(content)})
    content = content.model_copy(update={"hash": content_hash(content)})
    write_split(content, folder / "split.json")
    return [*RUN, "--split", str(folder / "split.json")]


@case(
    "a data set in COCO's format as a split", "a table of images", "splits new --dataset birds.json"
)
def _annotations(folder, monkeypatch):
    content = {"images": [], "annotations": [], "categories": []}
    (folder / "birds.json").write_text(json.dumps(content))
    return ["splits", "show", "birds.json"]


@case("an id of a split with a blank", "such as my-split-v1", "--id")
def _blank(folder, monkeypatch):
    words = ["splits", "new", "--dataset", "scenes", "--labels", "8", "4", "4"]
    return [*words, "--id", "my split"]


@case("a split file with another hash", "split.json", "hash")
def _hash(folder, monkeypatch):
    return _run(folder, shipped(f"{SPLIT}.json") | {"hash": "0" * 64})


@case("a split file that was edited", "split.json")
def _edited(folder, monkeypatch):
    value = shipped(f"{SPLIT}.json")
    value["images"]["novel"].pop()
    return _run(folder, value)


@case("a foreign split under a shipped id", SPLIT, "is not that split")
def _foreign(folder, monkeypatch):
    value = shipped(f"{SPLIT}.json")
    value["images"]["novel"].pop()
    return _sealed(folder, value)


@case("an unknown key in a split file", "split.json", "'lables'", "'labels'")
def _key(folder, monkeypatch):
    value = shipped(f"{SPLIT}.json")
    value["lables"] = value.pop("labels")
    return _run(folder, value)


@case("a split file that is not JSON", "split.json", "JSONDecodeError")
def _not_json(folder, monkeypatch):
    return _run(folder, "format: mlfsic-split/1\n")


@case("a split file that is not text", "split.json", "UnicodeDecodeError")
def _binary(folder, monkeypatch):
    (folder / "split.json").write_bytes(b"\x80\x04\x95\xff")
    return [*RUN, "--split", str(folder / "split.json")]


@case("NaN in a split file", "split.json", "NaN")
def _nan(folder, monkeypatch):
    text = json.dumps(shipped(f"{SPLIT}.json")).replace('"version": 1', '"version": NaN', 1)
    return _run(folder, text)


@case("a key that stands twice in a split file", "split.json", "'version'", "twice")
def _twice(folder, monkeypatch):
    text = json.dumps(shipped(f"{SPLIT}.json"))
    return _run(folder, text.replace('"version": 1', '"version": 1, "version": 2', 1))


@case("a split file nested too deep", "split.json", "RecursionError")
def _deep(folder, monkeypatch):
    return _run(folder, "[" * 200_000)


@case("a device for a split file", "zero.json", "not a regular file")
def _device(folder, monkeypatch):
    (folder / "zero.json").symlink_to("/dev/zero")
    return [*RUN, "--split", "./zero.json"]


@case("a folder for an episode file", "episodes.json", "not a regular file", "name an episode file")
def _episodes_folder(folder, monkeypatch):
    (folder / "episodes.json").mkdir()
    return ["run", "random", *SCENES, "--out", "out", "--episodes-file", "episodes.json"]


@case("a huge split file", "split.json", "too large")
def _huge(folder, monkeypatch):
    with (folder / "split.json").open("wb") as stream:
        stream.truncate((128 << 20) + 1)  # a hole, no bytes on the disk
    return [*RUN, "--split", "split.json"]


@case("targets beyond the labels", "split.json", "99")
def _range(folder, monkeypatch):
    value = shipped(f"{SPLIT}.json")
    value["images"]["novel"][0][1] = [99]
    return _run(folder, value)


@case("overlapping parts", "split.json")
def _overlap(folder, monkeypatch):
    value = shipped(f"{SPLIT}.json")
    shared = copy.deepcopy(value["images"]["base"][0])
    value["images"]["val"] = sorted([*value["images"]["val"], [shared[0], [0]]])
    return _run(folder, value)


@case("an unknown split", "scenes-12-6-6-v2", "did you mean 'scenes-12-6-6-v1'")
def _unknown(folder, monkeypatch):
    return [*RUN, "--split", "scenes-12-6-6-v2"]


@case("a split file that is not there", "nowhere.json")
def _nowhere(folder, monkeypatch):
    return [*RUN, "--split", "folder/nowhere.json"]


@case("a pool too small for episodes", "halved disc (3)", "--min-pool N")
def _pool(folder, monkeypatch):
    value = shipped(f"{SPLIT}.json")
    novel = value["images"]["novel"]
    value |= {"id": "small-12-6-6-v1"}
    value["images"]["novel"] = [row for row in novel if 0 not in row[1]] + [
        row for row in novel if 0 in row[1]
    ][:3]
    value["images"]["novel"].sort()
    _sealed(folder, value)
    return ["episodes", "sample", "split.json", "--out", "episodes.json"]


@case("more episodes than there are", "5000", "200")
def _count(folder, monkeypatch):
    return [*RUN[:4], "--out", "out", "--split", SPLIT, "--episodes", "5000"]


def _episodes(folder, name, change):
    path = folder / f"{SPLIT}.novel-episodes.json"
    changed = as_file(folder / name, change(shipped(path.name)))
    return ["run", "random", *SCENES, "--out", "out", "--episodes-file", changed]


@case("episodes of another split", "other.json", "another split")
def _other(folder, monkeypatch):
    from importlib.resources import files

    path = files("mlfsic_splits") / f"{SPLIT}.novel-episodes.json"
    other = replace(read_file(path), split_id="other-1-1-1-v1", split_hash="0" * 64)
    (folder / "other.json").write_bytes(other.format())
    return ["run", "random", *SCENES, "--out", "out", "--episodes-file", "other.json"]


@case("an image both in support and query", "episodes.json", "twice in episode 0")
def _support_query(folder, monkeypatch):
    def change(value):
        value["episodes"][0]["query"][0] = value["episodes"][0]["support"][0]
        return value

    return _episodes(folder, "episodes.json", change)


@case("episodes with another hash", "episodes.json", "hash")
def _episode_hash(folder, monkeypatch):
    return _episodes(folder, "episodes.json", lambda value: value | {"hash": "0" * 64})


@case("an unknown key in episodes", "episodes.json", "'partt'", "'part'")
def _episode_key(folder, monkeypatch):
    return _episodes(folder, "episodes.json", lambda value: value | {"partt": "novel"})


@case("episodes of the val part", "val-episodes.json", "novel")
def _val(folder, monkeypatch):
    path = folder / f"{SPLIT}.val-episodes.json"
    as_file(path, shipped(path.name))
    return ["run", "random", *SCENES, "--out", "out", "--episodes-file", str(path)]
