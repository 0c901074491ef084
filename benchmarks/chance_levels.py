"""The level of a random scorer on the episodes of each shipped split, and the pools of its labels.

    MLFSIC_DATA=... python benchmarks/chance_levels.py

Writes results/simulations/chance.json. A query's images show several labels, so the level lies
above that of four positives a label (`expected_random_ap(4, n)`). The pool of a label is all novel
images that show it. Splits of COCO need the annotations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.episodes.files import find_episodes
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.files import write_json
from mlfsic_bench.metrics.registry import chance_levels
from mlfsic_bench.splits.resolve import resolve_split
from mlfsic_bench.splits.split import Split

RESULT = Path(__file__).resolve().parents[1] / "results" / "simulations" / "chance.json"
SPLITS = (
    *("coco-52-12-16-v1", "coco-52-12-16-text-v1", "coco-52-12-16-open-v1"),
    *("voc-8-6-6-v1", "voc-8-6-6-strict-v1", "scenes-12-6-6-v1"),
)


def level(split: Split) -> dict[str, Any]:
    """Expected macro- and micro-AP, in per cent, on a split's novel episodes; pools; hashes."""
    episodes = find_episodes(ONE_PER_LABEL, split)
    targets = np.stack([split.novel.targets_of(one.query) for one in episodes.episodes])
    micro, macro = chance_levels(targets)
    return {
        "split_hash": split.hash,
        "episodes": len(episodes.episodes),
        "episodes_hash": episodes.hash,
        "macro_ap": round(100 * macro, 4),
        "micro_ap": round(100 * micro, 4),
        "novel_pools": dict(
            zip(split.novel.labels, split.novel.targets.sum(axis=0).tolist(), strict=True)
        ),
    }


def main() -> None:
    """Compute all rows and write them; a split whose data is not there is an error."""
    splits = (resolve_split(split_id, data_root=None) for split_id in SPLITS)
    rows = {split.id: level(split) for split in splits}
    write_json(RESULT, rows)
    for split_id, row in rows.items():
        print(f"{split_id:<32} macro-AP {row['macro_ap']:.2f}, micro-AP {row['micro_ap']:.2f}")


if __name__ == "__main__":
    main()
