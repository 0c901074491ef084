"""A feature pack of a split: which images are in it, and what rounding does to the metrics."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlfsic_bench.data.dataset import PART_NAMES, PartName
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import PartView
from mlfsic_bench.evaluation.predict import evaluate
from mlfsic_bench.features.packs.manifest import Change, Kept, Measured, PackedSplit, PackManifest
from mlfsic_bench.features.packs.writer import write_pack

if TYPE_CHECKING:
    from mlfsic_bench.episodes.protocol import Episode, Protocol
    from mlfsic_bench.features.packs.manifest import Part
    from mlfsic_bench.features.sources import FeatureSource
    from mlfsic_bench.features.store.store import FeatureStore
    from mlfsic_bench.splits.files import SplitFile
    from mlfsic_bench.splits.split import Split

Log = Callable[[str], None]
MEASURED_WITH = "protonet"  # quick, trains nothing, reads global vectors alone


@dataclass(frozen=True)
class Chosen:
    """The images of a pack.

    Attributes
    ----------
    ids: sorted.
    of: what the manifest says of them.
    episodes: the novel episodes whose images are all among them.
    """

    ids: list[str]
    of: PackedSplit
    episodes: tuple[Episode, ...]


def choose_images(
    split: Split, part: Part, protocol: Protocol | None = None, episodes: int | None = None
) -> Chosen:
    """The images of a part (`all`: of each part); of novel images those of the first `episodes`.

    `protocol`: how the episodes are drawn; None for the default one. Raises BenchError for a part
    without images, and for a number of episodes that there is not.
    """
    from mlfsic_bench.episodes.files import find_episodes

    names: tuple[PartName, ...] = PART_NAMES if part == "all" else (part,)
    ids = {name: set(split.parts[name].image_ids) for name in names}
    covered: tuple[Episode, ...] = ()
    drawn_by = None
    if "novel" in names:
        found = find_episodes(protocol, split)
        covered = found.episodes[:episodes]
        if episodes is not None:
            drawn_by = found.protocol.id
            ids["novel"] = {i for e in covered for i in (*e.support, *e.query)}
    most = len(covered)
    if episodes is not None and most != episodes:
        raise BenchError(
            f"there are no {episodes} episodes to choose images by",
            expected=f"a number from 1 to {most}" if most else "--part novel or all",
            found=f"--episodes {episodes}, --part {part}",
            remedy="correct --episodes, or leave it out for all images of the part",
        )
    chosen = sorted(set().union(*ids.values()))
    if not chosen:
        raise BenchError(
            f"{split.id} has no images in {part}",
            expected="at least one image",
            found="none",
            remedy="check --data-root and --available-only",
        )
    of = PackedSplit(id=split.id, hash=split.hash, part=part, protocol=drawn_by, episodes=episodes)
    return Chosen(chosen, of, covered)


def export_pack(
    out: Path,
    stores: Sequence[FeatureStore],
    content: SplitFile,
    chosen: Chosen,
    *,
    weights: str,
    kept: Kept = "exact",
    maps: bool = True,
    made_by: str = "",
    log: Log = lambda line: None,
) -> PackManifest:
    """Write a feature pack; what its manifest says. The arguments are as in `write_pack`.

    Of rounded values, the change of every metric is measured on the episodes of the pack.
    """
    from mlfsic_bench.splits.files import to_split

    def write(path: Path, measured: Measured | None = None) -> PackManifest:
        return write_pack(
            path,
            stores,
            chosen.ids,
            split=chosen.of,
            split_file=None if _ships(content) else content,
            weights=weights,
            kept=kept,
            maps=maps,
            measured=measured,
            made_by=made_by,
        )

    if kept == "exact":
        return write(out)
    if not chosen.episodes:
        log("no novel episode has all its images in the pack: what rounding does is not measured")
        return write(out)
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder, out.name)
        write(rounded)
        measured = measure(to_split(content), chosen.episodes, stores, rounded, log)
    return write(out, measured)


def measure(
    split: Split,
    episodes: Sequence[Episode],
    stores: Sequence[FeatureStore],
    rounded: Path,
    log: Log = lambda line: None,
) -> Measured:
    """Every metric of MEASURED_WITH on these episodes: from the stores, and from a pack of them."""
    import torch

    from mlfsic_bench.features.given import GivenFeatures, side_by_side

    cpu = torch.device("cpu")
    exact = _metrics(split, episodes, side_by_side(stores, cpu), log)
    packed = _metrics(split, episodes, GivenFeatures(rounded).source(cpu), log)
    return Measured(
        method=MEASURED_WITH,
        episodes=len(episodes),
        metrics={name: Change(exact=exact[name], packed=packed[name]) for name in exact},
    )


def _metrics(
    split: Split, episodes: Sequence[Episode], source: FeatureSource, log: Log
) -> dict[str, float | None]:
    from mlfsic_bench.methods.registry import make_method
    from mlfsic_bench.metrics.intervals import t_interval
    from mlfsic_bench.metrics.registry import episode_metrics

    view = PartView(split.novel, "novel", split.hash, 0, source, None)
    with tempfile.TemporaryDirectory() as folder:
        method = make_method(MEASURED_WITH, {}, None)
        scores, decisions = evaluate(method, view, tuple(episodes), Path(folder), "0" * 64, log)
    targets = np.stack([split.novel.targets_of(e.query) for e in episodes]).astype(np.uint8)
    means = {
        name: t_interval(values)[0]
        for name, values in episode_metrics(scores, targets, decisions).items()
    }
    return {name: None if math.isnan(mean) else float(mean) for name, mean in means.items()}


def _ships(content: SplitFile) -> bool:
    """Whether everybody has this very split, images and all."""
    from mlfsic_bench.splits.names import shipped_ids
    from mlfsic_bench.splits.resolve import shipped_file

    if content.id not in shipped_ids():
        return False
    shipped = shipped_file(content.id)
    return shipped.images is not None and shipped.hash == content.hash
