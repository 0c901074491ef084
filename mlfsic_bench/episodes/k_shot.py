"""LaSO's protocol, `laso_k_shot-v1`: support images until every label has at least K of them.

The protocol of LaSO (Alfassy et al., CVPR 2019), ten episodes: the support is a set of training
images in which each novel label has at least K. An image counts for all its novel labels, so an
episode has fewer images than labels times K and frequent labels have more than K. The query is the
same in all episodes: every val2014 image of the part, once, in the order of ids (the natural
distribution of labels). How the original supports were drawn is not said; this is the law here
(docs/episodes.md).

`laso_k_shot_balanced-v1` has the same supports, and as its query the test pass of the original's
released code (`balanced_query`): 40,504 draws balanced over labels, with repeats.

Labels are ordered by the size of their pools among the support images, smallest first, ties in the
part's order. Episode r with K shots has the seed

    stream_seed("episodes", "laso_k_shot-v1", split hash, part, K, r)

For each label in that order, while fewer than K images of the episode have it, one image is added.
The image with place p in the support (p = 0, 1, 2, ...) has the SplitMix64 stream that starts at
`splitmix64(seed, p)`; each word x of it, in turn, names image `x mod n` of the label's n images
(sorted by id). It is passed over when it is not below the largest multiple of n up to 2**64, or
when the image is in the support already: the image is uniform over those of the label not yet in.

A file holds supports only; the query follows from the split. `drawn` says whether the law drew
them from the split with `split_hash`, or somebody gave them. A file fits every copy of its split
whose annotations still give each label its K images: then the annotations may differ from those it
was drawn from, and drawing anew would give other supports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlfsic_bench.episodes.feasibility import Pools, build_pools
from mlfsic_bench.episodes.per_label import last_accepted
from mlfsic_bench.episodes.protocol import Episode, EpisodeSet, Protocol, find_protocol
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import read_json
from mlfsic_bench.randomness import splitmix64, stream_seed
from mlfsic_bench.schema import FileSchema, load
from mlfsic_bench.splits.split import Part, Split
from mlfsic_bench.works import ALFASSY_2019

if TYPE_CHECKING:
    from mlfsic_bench.data.coco import Coco

STREAM = "laso_k_shot-v1"  # of the supports, whatever the query
SUPPORT_FROM = "train2014"
QUERY_FROM = "val2014"
DRAWS = 40_504
"""Draws of the balanced test pass: the number of images in val2014."""
PAGE = "docs/episodes.md"
_Run = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=100_000)]


@dataclass(frozen=True)
class LasoKShot(Protocol):
    """At least `shots` train2014 images of each label, tested on all val2014 images of the part."""

    name = "laso_k_shot"
    takes = ("shots",)
    counts = {"novel": 10}  # noqa: RUF012
    one_query = True
    schema = "mlfsic-bench/runs-v1"
    listed = "runs"
    bibtex = ALFASSY_2019
    queries = None
    shots: int

    def draw(self, split: Split, part: str, indices: Sequence[int]) -> list[Episode]:
        """The supports with these numbers. BenchError naming labels with fewer than K images."""
        content = split.parts[part]  # type: ignore[index]
        images = images_of(content, SUPPORT_FROM)
        pools = build_pools(content.targets_of(images))
        short = [i for i in range(len(pools)) if pools.sizes[i] < self.shots]
        if short or not content.labels:
            listed = ", ".join(f"{content.labels[i]} ({pools.sizes[i]})" for i in short)
            raise BenchError(
                f"can't draw episodes with K = {self.shots}",
                expected=f"labels, each with as many {SUPPORT_FROM} images or more",
                found=f"labels with fewer: {listed}" if short else "no label",
                remedy="use all images of the data set, a smaller K, or let labels leave the part "
                f"with --min-pool N (which counts the images of the whole part, not {SUPPORT_FROM} "
                "alone)",
            )
        drawn = []
        for index in indices:
            seed = stream_seed("episodes", STREAM, split.hash, part, self.shots, index)
            rows = draw_support(pools, seed, self.shots)
            drawn.append(Episode(tuple(images[row] for row in rows), ()))
        return drawn

    def query(self, split: Split, part: str) -> tuple[str, ...]:
        """The val2014 images of the part. BenchError when there are none."""
        content = split.parts[part]  # type: ignore[index]
        query = images_of(content, QUERY_FROM)
        if not query:
            raise BenchError(
                f"split {split.id!r} has no image to test {self.id} on",
                expected=f"{QUERY_FROM} images with a novel label",
                found=f"{len(content.image_ids)} novel images, none of {QUERY_FROM}",
                remedy="use a split of COCO 2014, with the val2014 images in the data root",
            )
        return query

    def check(self, split: Split, part: str, episodes: Sequence[Episode], name: str) -> None:
        """BenchError unless these are support images of the split, at least K of every label.

        A label that is short is named: annotations may lack some that another copy has.
        """
        content = split.parts[part]  # type: ignore[index]
        allowed = set(images_of(content, SUPPORT_FROM))
        for number, episode in enumerate(episodes):
            foreign = [image for image in episode.support if image not in allowed]
            if foreign:
                raise BenchError(
                    f"{name} names images that are not support images of split {split.id!r}",
                    expected=f"{SUPPORT_FROM} images with a novel label, present in this split",
                    found=f"in episode {number}: {', '.join(foreign[:3])}"
                    + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""),
                    remedy="use the split and the annotations the episodes were made for, whole: "
                    "without --available-only",
                )
            counts = content.targets_of(episode.support).sum(axis=0)
            pairs = zip(content.labels, counts, strict=True)
            short = [f"{label} ({n})" for label, n in pairs if n < self.shots]
            if short:
                raise BenchError(
                    f"an episode in {name} has too few images of a label",
                    expected=f"at least {self.shots} of every novel label",
                    found=f"in episode {number}: {', '.join(short)}",
                    remedy="use the official annotations (a copy that lacks some of them makes a "
                    "label short), or name episodes with enough images",
                )

    def file_name(self, split_id: str, part: str) -> str:
        """`SPLIT.K-shot-runs.json`."""
        return f"{split_id}.{self.tag}-runs.json"

    @classmethod
    def chosen_in(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """K, which a file states under its own name."""
        return {"shots": raw.get("shots")}

    def stated(self, drawn: bool) -> dict[str, Any]:
        """K, where images come from, and whether the law drew them."""
        return {
            "shots": self.shots,
            "support_from": SUPPORT_FROM,
            "query_from": QUERY_FROM,
            "drawn": drawn,
        }

    def entry(self, episode: Episode) -> list[str]:
        """The support images."""
        return list(episode.support)

    def lists_in(self, entry: Any) -> tuple[Any, Any]:
        """The support images, and no query."""
        return entry, []

    def identity(self, body: dict[str, Any], query: Sequence[str]) -> dict[str, Any]:
        """Split, K, supports and query, whether they were drawn or given."""
        kept = ("split_id", "split_hash", "protocol", "part", "shots", "runs")
        return {key: body[key] for key in kept} | {"query": list(query)}


@dataclass(frozen=True)
class LasoBalanced(LasoKShot):
    """The same supports, tested on the balanced pass of LaSO's released code, with repeats."""

    name = "laso_k_shot_balanced"

    @property
    def tag(self) -> str:
        """`balanced-5-shot`."""
        return f"balanced-{super().tag}"

    def query(self, split: Split, part: str) -> tuple[str, ...]:
        """`DRAWS` val2014 images of the part, an image as often as it was drawn."""
        content = split.parts[part]  # type: ignore[index]
        images = super().query(split, part)
        targets = content.targets_of(images)
        without = [
            label for label, n in zip(content.labels, targets.sum(axis=0), strict=True) if not n
        ]
        if without:
            raise BenchError(
                f"split {split.id!r} has no balanced query for {self.id}",
                expected=f"{QUERY_FROM} images of every novel label",
                found=f"none of: {', '.join(without)}",
                remedy="use all images of the data set, or --protocol laso_k_shot",
            )
        return tuple(images[row] for row in balanced_query(targets, DRAWS))


def balanced_query(targets: npt.NDArray[np.bool_], draws: int) -> list[int]:
    """Rows of bool targets [n, L] in the order drawn: each time of the label least drawn so far.

    As in LaSO's released code (`CocoDatasetAugmentation`): draw d takes the label that the images
    drawn so far show least often, and of the n images with it number d mod n; the image then counts
    for all its labels. Two things are not given by that code. Which of several labels that are
    equally rare is taken: nearly always the first there, and always here. The order of images: that
    of the annotation file there, of ids here.
    """
    pools = [np.flatnonzero(column).tolist() for column in targets.T]
    shown = [np.flatnonzero(row).tolist() for row in targets]
    seen, drawn = [0] * len(pools), []
    for draw in range(draws):
        pool = pools[seen.index(min(seen))]
        row = pool[draw % len(pool)]
        for label in shown[row]:
            seen[label] += 1
        drawn.append(row)
    return drawn


def images_of(part: Part, folder: str) -> tuple[str, ...]:
    """The part's images in one folder (year) of the dataset, sorted."""
    return tuple(image for image in part.image_ids if image.partition("/")[0] == folder)


def draw_support(pools: Pools, seed: int, shots: int) -> list[int]:
    """The rows of one support in the order drawn; every pool has at least `shots` images."""
    members = [np.asarray(pools[label]).tolist() for label in range(len(pools))]
    carried = [set(pool) for pool in members]
    taken: list[int] = []
    for label in pools.order.tolist():
        while sum(row in carried[label] for row in taken) < shots:
            taken.append(_one(members[label], splitmix64(seed, len(taken)), set(taken)))
    return taken


def _one(pool: list[int], stream: int, used: set[int]) -> int:
    """An image of the pool that is not used yet; there is one."""
    n = len(pool)
    last = last_accepted(n)
    word = 0
    while True:
        x = splitmix64(stream, word)
        word += 1
        if x <= last and pool[x % n] not in used:
            return pool[x % n]


class Indices(FileSchema):
    """LaSO's own supports, as indices into the official annotation file."""

    format: Literal["mlfsic-bench/coco-indices-v1"]
    shots: Annotated[int, Field(ge=1)]
    runs: Annotated[list[_Run], Field(min_length=1)]


def read_indices(path: Path) -> Indices:
    """The content of a file of indices; BenchError naming the key that is wrong."""
    raw = read_json(path, kind="file of indices")
    return load(Indices, raw, str(path), page=PAGE, remedy=f"write it as {PAGE} shows")


def import_indices(
    path: Path, split: Split, dataset: Coco, protocol: str = LasoKShot.name
) -> EpisodeSet:
    """The supports in a file of indices into instances_train2014.json, checked against the split.

        {"format": "mlfsic-bench/coco-indices-v1", "shots": 1, "runs": [[38619, 46125, ...], ...]}

    The indices count the images in the order in which the *official* file lists them. In a copy of
    it sorted by id LaSO's first list has images without a novel label, so the orders differ.
    `protocol`: the name of the one whose query the supports are tested on.
    BenchError for unknown keys, indices out of range or twice in an episode, images that are no
    support images of the split, and labels with fewer than K images.
    """
    name = str(path)
    given = read_indices(path)
    order = dataset.file_order(SUPPORT_FROM)
    for number, one in enumerate(given.runs):
        often, times = Counter(one).most_common(1)[0]
        if max(one) >= len(order) or times > 1:
            raise BenchError(
                f"{name}: runs.{number} is not valid",
                expected=f"indices of images of {SUPPORT_FROM}, 0 to {len(order) - 1}, each once",
                found=f"{often} twice" if times > 1 else str(max(one)),
                remedy=f"write it as {PAGE} shows",
            )
    episodes = tuple(Episode(tuple(order[i] for i in one), ()) for one in given.runs)
    made = find_protocol(protocol, shots=given.shots)
    try:
        made.check(split, "novel", episodes, name)
    except BenchError as error:
        if order == tuple(sorted(order)):
            error.remedy = (
                f"use the official instances_{SUPPORT_FROM}.json: the one here lists its images "
                "sorted by id, so these indices name other images than in the official file"
            )
        raise
    return EpisodeSet(split.plain_id, split.hash, made, "novel", episodes, drawn=False)
