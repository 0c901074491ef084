"""Features that were made elsewhere, as a run opens them: a feature pack, or an imported store.

A run of them needs no image, no network and no weights. What they say of themselves is believed:
nobody can check it without the images (`mlfsic-bench features verify`), and records say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.packs.manifest import rounding_of
from mlfsic_bench.features.packs.pack import Pack
from mlfsic_bench.features.store.manifest import MANIFEST, Precision
from mlfsic_bench.features.store.store import FeatureStore
from mlfsic_bench.paths import exists

if TYPE_CHECKING:
    import torch

    from mlfsic_bench.features.sources import Description, FeatureSource
    from mlfsic_bench.splits.files import SplitFile
    from mlfsic_bench.splits.split import Split

Origin = Literal["pack", "imported"]


def side_by_side(stores: Sequence[FeatureStore], device: torch.device) -> FeatureSource:
    """The rows of a store, or those of several networks joined."""
    from mlfsic_bench.features.sources import JoinedFeatures, StoredFeatures

    each = {one.manifest.backbone: StoredFeatures(one, device) for one in stores}
    return next(iter(each.values())) if len(each) == 1 else JoinedFeatures(dict(each))


class GivenFeatures:
    """The content of a pack, or of the folder of an imported store.

    Attributes
    ----------
    path: where it lies.
    networks: the rows of each network, in the order of the name `a+b`.
    pack: the pack; None for a store.
    origin: `imported` where another program made the features, else `pack`.
    weights: what `--weights` named where they were made; `imported` of imported ones.
    precision: arithmetic of the backbone, as the manifest says.
    rounded: how the values of a pack were rounded (`packs.manifest`); None for not.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.pack: Pack | None = None
        self.networks: tuple[FeatureStore, ...]
        if exists(self.path / MANIFEST):
            self.networks = (FeatureStore(self.path),)
        else:
            self.pack = Pack(self.path)
            self.pack.check()
            self.networks = self.pack.networks
        self.manifests = [one.manifest for one in self.networks]
        imported = any(one.made_by for one in self.manifests)
        self.origin: Origin = "imported" if imported else "pack"
        self.precision: Precision = self.manifests[0].precision
        self.weights = self.pack.manifest.weights if self.pack else "imported"
        self.rounded = rounding_of(self.pack.manifest) if self.pack else None
        if self.pack is None and not imported:
            raise BenchError(
                f"{self.path} is a store that this program extracted",
                expected="a feature pack, or the folder of an imported store",
                found=f"a store of {self.manifests[0].backbone}",
                remedy="leave --features-pack out: --backbone finds the store in the cache; or "
                "make a pack of it with `mlfsic-bench features export`",
            )

    @property
    def said(self) -> dict[str, str]:
        """What made imported features and on which images that was trained; else nothing."""
        names = ("made_by", "pretraining")
        told = {name: [getattr(one, name) for one in self.manifests] for name in names}
        return {name: " + ".join(filter(None, texts)) for name, texts in told.items() if any(texts)}

    def describe(self) -> Description:
        """What a record says of them."""
        from mlfsic_bench.features.sources import describe_stored

        return describe_stored(self.manifests)

    def source(self, device: torch.device) -> FeatureSource:
        """The features side by side; frozen."""
        return side_by_side(self.networks, device)

    def split_file(self) -> SplitFile:
        """The split of the pack: the one it carries, else the one that ships under its id."""
        from mlfsic_bench.splits.names import shipped_ids
        from mlfsic_bench.splits.resolve import shipped_file

        if self.pack is None:
            raise BenchError(
                f"the store {self.path} names no split",
                expected="--split ID or FILE beside the folder of an imported store",
                found="no --split",
                remedy="name the split",
            )
        carried, said = self.pack.split_file(), self.pack.manifest.split
        if carried is not None:
            return carried
        found = shipped_file(said.id) if said.id in shipped_ids() else None
        if found is None or found.hash != said.hash:
            raise BenchError(
                f"the pack {self.path} does not carry its split",
                expected=f"the split {said.id} with hash {said.hash[:12]}",
                found="no such split among those that ship",
                remedy="name the split's file with --split",
            )
        return found

    def require(self, split: Split, parts: Mapping[str, Sequence[str]]) -> None:
        """BenchError naming what is missing of these images of each part of the split."""
        dataset = self.manifests[0].dataset
        if dataset != split.dataset:
            raise BenchError(
                f"{self.path} holds features of another data set",
                expected=f"features of {split.dataset!r}, the data set of {split.id}",
                found=f"features of {dataset!r}",
                remedy="name another pack, or the split that it was made for",
            )
        have = self.networks[0]
        missing = {name: [i for i in ids if i not in have] for name, ids in parts.items()}
        missing = {name: ids for name, ids in missing.items() if ids}
        if not missing:
            return
        first = next(iter(missing.values()))
        names = ", ".join(first[:3]) + (" ..." if len(first) > 3 else "")
        counts = ", ".join(
            f"{len(ids):,} of {len(parts[part]):,} images of {part}"
            for part, ids in missing.items()
        )
        part = "novel" if set(missing) == {"novel"} else "all"
        made = f"features export --split {split.id} --part {part} "
        made += f"--backbone {self.describe().name}"
        raise BenchError(
            f"{self.path} lacks features that this run needs",
            expected="features of every image that the method is trained, selected or tested on",
            found=f"none for {counts}, such as {names}",
            remedy=f"name a pack made with `mlfsic-bench {made}`"
            if self.origin == "pack"
            else "import features of all images of the split",
        )

    def network(self) -> tuple[str, str]:
        """Name and weights of the network that made them; BenchError for imported features."""
        name = self.describe().name
        if self.origin == "imported":
            raise BenchError(
                f"the network {name!r} of {self.path} is not here: its features were imported",
                expected="a file of label embeddings, or a sentence encoder's folder",
                found="the text side of the backbone, asked for by --embeddings or the method",
                remedy="name a file with --embeddings",
            )
        return name, self.weights

    def check_name(self, backbone: str) -> None:
        """BenchError when a backbone is asked for that is not theirs."""
        name = self.describe().name
        if backbone and backbone != name:
            raise BenchError(
                f"{self.path} holds features of another backbone",
                expected=name,
                found=f"--backbone {backbone}",
                remedy="leave --backbone out: the features say what made them",
            )
