"""What must be equal before two files of scores are compared, and which reason is given if not.

Split, share of its images, episodes (protocol, set, number) and labels must be equal. Everything
else - method, backbone, label vectors, base images - is what comparisons are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlfsic_bench.analysis.score import Source
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_json


def check_comparable(sources: Sequence[Source]) -> None:
    """BenchError saying why, unless all were made on the same images, episodes and labels."""
    if not sources:
        raise BenchError(
            "there is nothing to compare",
            expected="runs' folders or scores files",
            found="none",
            remedy="name some",
        )
    first, seen = sources[0], dict[str, Path]()
    expected = _conditions(first)
    for source in sources:
        for kind, value in _conditions(source).items():
            if value != expected[kind]:
                raise BenchError(
                    f"{source.path} can't be compared with {first.path}: another {kind}",
                    expected=f"{kind}: {expected[kind]}",
                    found=value,
                    remedy="compare only what was made on the same split, images and episodes",
                )
        if source.sha256 in seen:
            raise BenchError(
                f"{source.path} holds the same scores as {seen[source.sha256]}",
                expected="each run once",
                found=f"SHA-256 {source.sha256[:12]} twice",
                remedy="name it once",
            )
        seen[source.sha256] = source.path


def _conditions(source: Source) -> dict[str, str]:
    """What must be equal, the most telling reason first."""
    split, episodes = source.scores.meta.split, source.scores.meta.episodes
    labels = source.scores.meta.labels
    shots = f" with K = {episodes.shots}" if episodes.shots else ""
    return {
        "split": f"{split.id} (dataset {split.dataset}, rule {split.rule})",
        "share of the split's images": "a subset of the images" if split.subset else "all images",
        "content of the split": f"{split.id} with hash {split.hash[:16]}",
        "protocol": f"{episodes.protocol}{shots}, part {episodes.part}",
        "set of episodes": f"{episodes.total} episodes with hash {episodes.hash[:16]}",
        "number of episodes": f"the first {episodes.count} of {episodes.total}",
        "list of labels": f"{len(labels)} labels with hash {hash_json(labels)[:16]}: "
        f"{', '.join(labels)[:120]}",
    }
