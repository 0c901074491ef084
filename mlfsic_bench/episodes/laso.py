"""Protocol `laso_k_shot-v1`: ten runs of K shots, each tested on all val2014 images of the part.

A run is an episode whose support sets differ in size from run to run and whose query is the same in
all: every val2014 image of the part, once, in the order of ids (the natural distribution of labels;
docs/methodology.md says how the original's resampling differs).
"""

from __future__ import annotations

from collections.abc import Sequence

from mlfsic_bench.episodes.episode import Episode, EpisodeSet
from mlfsic_bench.episodes.laso_law import (
    PROTOCOL,
    QUERY_FROM,
    SUPPORT_FROM,
    draw_runs,
    images_of,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.splits.split import Split

RUNS = 10
PART = "novel"

Runs = Sequence[tuple[str, ...]]


def sample_runs(split: Split, shots: int, count: int = RUNS) -> EpisodeSet:
    """Runs 0 to count - 1 of K = `shots`, drawn by the law of `laso_law.py`."""
    return run_set(split, shots, drawn_supports(split, shots, count))


def drawn_supports(split: Split, shots: int, count: int) -> list[tuple[str, ...]]:
    """The support images of runs 0 to count - 1."""
    return draw_runs(split.novel, split.hash, PART, shots, range(count))


def run_set(split: Split, shots: int, supports: Runs) -> EpisodeSet:
    """The episode set of these support images; the query is that of the split.

    The hash is over split, protocol, K, the supports and the query. BenchError when the part has no
    query image.
    """
    query = images_of(split.novel, QUERY_FROM)
    if not query:
        raise BenchError(
            f"split {split.id!r} has no image to test {PROTOCOL} on",
            expected=f"{QUERY_FROM} images with a novel label",
            found=f"{len(split.novel.image_ids)} novel images, none of {QUERY_FROM}",
            remedy="use a split of COCO 2014, with the val2014 images in the data root",
        )
    body = {
        "split_id": split.id,
        "split_hash": split.hash,
        "protocol": PROTOCOL,
        "part": PART,
        "shots": shots,
        "runs": [list(support) for support in supports],
        "query": list(query),
    }
    episodes = tuple(Episode(tuple(support), query) for support in supports)
    return EpisodeSet(split.id, split.hash, PROTOCOL, PART, episodes, hash_json(body), shots)


def check_runs(split: Split, shots: int, supports: Runs, name: str) -> None:
    """BenchError unless these are runs of this split: its images, at least K of every label.

    A label that is short is named with its run: annotations may lack some that another copy has.
    """
    part = split.novel
    allowed = set(images_of(part, SUPPORT_FROM))
    for number, support in enumerate(supports, 1):
        foreign = [image for image in support if image not in allowed]
        if foreign:
            raise BenchError(
                f"{name} names images that are not support images of split {split.id!r}",
                expected=f"{SUPPORT_FROM} images with a novel label, present in this split",
                found=f"in run {number}: {', '.join(foreign[:3])}"
                + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""),
                remedy="use the split and the annotations the runs were made for, whole: without "
                "--available-only",
            )
        counts = part.targets_of(tuple(support)).sum(axis=0)
        short = [
            f"{label} ({n})" for label, n in zip(part.labels, counts, strict=True) if n < shots
        ]
        if short:
            raise BenchError(
                f"a run in {name} has too few images of a label",
                expected=f"at least {shots} of every novel label",
                found=f"in run {number}: {', '.join(short)}",
                remedy="use the official annotations (a copy that lacks some of them makes a label "
                "short), or name runs with enough images",
            )
