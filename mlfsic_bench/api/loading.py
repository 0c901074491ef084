"""What a run begins with, for a loop of your own: a split, its episodes, their features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from mlfsic_bench.episodes.files import find_episodes
from mlfsic_bench.episodes.protocol import EpisodeSet, Protocol, find_protocol
from mlfsic_bench.errors import BenchError, described
from mlfsic_bench.evaluation.plan import Precision, RunPlan
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.features.extract import stored_features
from mlfsic_bench.features.packs.manifest import SUFFIX
from mlfsic_bench.features.sources import FeatureSource, Shape, describe
from mlfsic_bench.methods.contract import Images
from mlfsic_bench.progress import LOG
from mlfsic_bench.splits.split import Split

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from mlfsic_bench.data.dataset import Dataset, PartName
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.store.store import FeatureStore

PathLike = str | Path
Shown = TypeVar("Shown")
AHEAD = 50  # episodes whose features are made in one go


def path_or_none(value: PathLike | None) -> Path | None:
    """A Path of what may be a text."""
    return None if value is None else Path(value)


@dataclass(frozen=True, eq=False, repr=False)
class LoadedSplit(Split):
    """A `Split` that remembers how it was opened, so that nothing is said or read twice.

    Attributes
    ----------
    id, hash, dataset, rule, subset: as in `Split`.
    base, val, novel: the parts, each with `labels`, `image_ids` and `targets` (bool [n, L]).
    plan: the options it was opened with.
    opened: what was opened on the way, shared by all that is done with this split.
    """

    plan: RunPlan = field(kw_only=True)
    opened: ResourceCache = field(kw_only=True)

    def open_dataset(self) -> Dataset:
        """The dataset of its images."""
        return self.opened.dataset(self.plan, self.dataset)


def load_split(
    id_or_path: PathLike,
    *,
    data_root: PathLike | None = None,
    dataset: str | Dataset | None = None,
    available_only: bool = False,
    min_pool: int | None = None,
) -> LoadedSplit:
    """The split of that id, or in that file: three parts with labels, image ids and targets.

    A feature pack has a split too, and features for it: neither images nor a network are needed.

    Parameters
    ----------
    id_or_path: an id that `mlfsic-bench splits list` shows, a split file, or a feature pack.
    data_root: where the data sets lie; None: the environment variable MLFSIC_DATA.
    dataset: how the split's dataset is opened, if not by the name in the split: a name, a file,
        `path/to/file.py:Class` or a Dataset.
    available_only, min_pool: limit the split to the images on disk, and to labels with so many.

    Raises BenchError for unknown names, unsound files and missing data.

    >>> import mlfsic_bench as mb
    >>> split = mb.load_split("scenes-12-6-6-v1")
    >>> split.novel.labels[0], split.novel.image_ids[0], split.novel.targets.shape
    ('halved disc', 'scenes/900000', (1500, 6))
    """
    if not isinstance(id_or_path, (str, Path)):
        raise BenchError(
            "a split is loaded by its id or its file",
            expected="a text or a Path, such as 'voc-8-6-6-v1'",
            found=described(id_or_path),
            remedy="name the split; one that is loaded already is passed on as it is",
        )
    packed = Path(id_or_path).suffix == SUFFIX
    plan = RunPlan(
        method="",
        split="" if packed else str(id_or_path),
        features_pack=Path(id_or_path) if packed else None,
        data_root=path_or_none(data_root),
        dataset=dataset,
        available_only=available_only,
        min_pool=min_pool,
    )
    opened = ResourceCache()
    split = opened.split(plan)
    return _remembering(split, plan, opened)


def _remembering(split: Split, plan: RunPlan, opened: ResourceCache) -> LoadedSplit:
    own = {one.name: getattr(split, one.name) for one in fields(Split)}
    return LoadedSplit(**own, plan=plan, opened=opened)


def loaded(split: Split | PathLike, **options: Any) -> LoadedSplit:
    """`split` as a LoadedSplit, wherever it comes from; `options` as for `load_split`.

    BenchError for what is no split, and for options beside one that is open already.
    """
    given = [name for name, value in options.items() if value not in (None, False)]
    if not isinstance(split, Split):
        return load_split(split, **options)
    if isinstance(split, LoadedSplit):
        if given:
            raise BenchError(
                f"the split {split.id} is open already",
                expected="these options where it is loaded: mb.load_split(...)",
                found=", ".join(f"{name}={options[name]!r}" for name in given),
                remedy="name them there",
            )
        return split
    named = {**options, "data_root": path_or_none(options.get("data_root"))}
    plan = RunPlan(method="", split=split, **named)
    return _remembering(split, plan, ResourceCache())


def load_episodes(
    split: Split,
    shots: int | None = None,
    queries: int | None = None,
    *,
    part: str = "novel",
    count: int | None = None,
    file: PathLike | None = None,
    protocol: str | Protocol | None = None,
) -> EpisodeSet:
    """The episodes of a part: those that ship for the split, else drawn from it, always the same.

    Parameters
    ----------
    split: as `load_split` gives it.
    shots, queries: K support and Q query images for each label; 1 and 4 unless said otherwise.
    part: `novel`, to test; or `val`.
    count: how many, if they are drawn; None: as many as the protocol has (200 and 100).
    file: an episode file, in place of the split's own; it says itself how they were drawn.
    protocol: another way to draw them: a name such as `laso_k_shot`, or a Protocol.

    Raises BenchError when the part can't give such episodes.

    >>> import mlfsic_bench as mb
    >>> split = mb.load_split("scenes-12-6-6-v1")
    >>> episodes = mb.load_episodes(split)
    >>> episodes
    <200 novel episodes of scenes-12-6-6-v1: one_per_label-v1, hash 8cf7ecbf8a15>
    >>> len(episodes[0].support), len(episodes[0].query)
    (6, 24)
    >>> len(mb.load_episodes(split, shots=5)[0].support)  # 5 for each label
    30
    >>> len(mb.load_episodes(split, part="val", count=10))
    10
    """
    if not isinstance(split, Split):
        raise _no_split(split)
    place = path_or_none(file)
    drawn_by = protocol_of(protocol, shots, queries) if file is None else None
    return find_episodes(drawn_by, split, part, count=count, file=place)


def protocol_of(
    protocol: str | Protocol | None, shots: int | None, queries: int | None
) -> Protocol:
    """The protocol that is meant, as the options of `mlfsic-bench run` would say it."""
    if isinstance(protocol, Protocol):
        return protocol
    return find_protocol(protocol, shots=shots, queries=queries)


class Features(FeatureSource):
    """Features of the images of a dataset, out of the cache; what is missing there is made first.

    As `load_features` gives it. `channels` is c, `grid` is (h, w) of a map, `dim` is d of a global
    vector, and `vector` says what that is.
    """

    def __init__(self, split: LoadedSplit, plan: RunPlan) -> None:
        from mlfsic_bench.features.compute import parse_device

        self.plan = plan
        self.dataset = split.dataset
        self.device: torch.device = parse_device(plan.device)
        self._split = split
        self._source: FeatureSource | None = None
        self._stores: list[FeatureStore] = []
        given = split.opened.given(plan)
        if given is None:
            self._backbones = split.opened.backbones(plan)
            made_by = describe(self._backbones)
        else:
            made_by, self._source = given.describe(), given.source(self.device)
        self.name, shape = made_by.name, Shape.of(made_by)
        self.channels, self.grid = shape.channels, shape.grid
        self.dim, self.vector = shape.dim, shape.vector

    def __repr__(self) -> str:
        h, w = self.grid
        maps = f"maps {self.channels} x {h} x {w}, global vectors of {self.dim} ({self.vector})"
        return f"<Features of {self.dataset} by {self.name}: {maps}>"

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w]: the local feature maps of these images, in this order."""
        return self._of(ids).local(ids)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, d]: their global vectors."""
        return self._of(ids).pooled(ids)

    def averaged(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c]: the averages of their maps."""
        return self._of(ids).averaged(ids)

    def extract(self, ids: Sequence[str]) -> None:
        """Make the features of these images that are not in the cache yet, all in one go."""
        self._of(ids)

    def _of(self, ids: Sequence[str]) -> FeatureSource:
        """A source with features of these images at least."""
        if isinstance(ids, str) or not all(isinstance(one, str) for one in ids):
            raise BenchError(
                "features are those of image ids",
                expected="a list of image ids, such as split.novel.image_ids[:5]",
                found=described(ids),
                remedy="give the ids of the images",
            )
        plan = self.plan
        if plan.features_pack is not None and self._source is not None:
            return self._source
        covered = all(one in store for store in self._stores for one in ids)
        if self._source is None or not covered:
            self._source, self._stores = stored_features(
                self._split.open_dataset(),
                ids,
                self._backbones,
                cache=plan.cache,
                device=self.device,
                batch_size=plan.batch_size,
                workers=plan.workers,
                precision=plan.precision,
                open_store=self._split.opened.store,
                log=LOG.info,
            )
        return self._source


def load_features(
    split: Split,
    backbone: str | Backbone | None = None,
    *,
    pack: PathLike | None = None,
    weights: str = "default",
    precision: Precision = "fp32",
    device: str = "auto",
    cache: PathLike | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Features:
    """Features of the split's images by a backbone: `.pooled(ids)`, `.local(ids)`.

    They come out of the same cache as those of `mlfsic-bench run`; what is missing there is made
    when it is asked for.

    Parameters
    ----------
    split: as `load_split` gives it.
    backbone, weights: a name of `mlfsic-bench backbones list`, or what `as_backbone` gave.
    pack: a feature pack or an imported store in place of a backbone; a split that was loaded from a
        pack has it already.
    precision, device, cache, batch_size, workers: as the options of `mlfsic-bench run`.

    >>> import mlfsic_bench as mb
    >>> split = mb.load_split("scenes-12-6-6-v1")
    >>> features = mb.load_features(split, "scenes-small")
    >>> features
    <Features of scenes by scenes-small: maps 128 x 7 x 7, global vectors of 128 (mean)>
    >>> ids = split.novel.image_ids[:2]
    >>> features.pooled(ids).shape, features.local(ids).shape
    (torch.Size([2, 128]), torch.Size([2, 128, 7, 7]))
    """
    if not isinstance(split, Split):
        raise _no_split(split)
    own = loaded(split)
    made_before = path_or_none(pack) or (own.plan.features_pack if backbone is None else None)
    if (backbone is None) == (made_before is None):
        raise BenchError(
            "features are made by a backbone, or were made before",
            expected="a backbone, or pack=FILE",
            found="neither" if backbone is None else "both",
            remedy="name one of the two",
        )
    plan = RunPlan(
        method="",
        split=own.plan.split,
        backbone=backbone or "",
        features_pack=made_before,
        weights=weights,
        data_root=own.plan.data_root,
        dataset=own.plan.dataset,
        precision=precision,
        device=device,
        cache=path_or_none(cache),
        batch_size=batch_size,
        workers=workers,
    )
    return Features(own, plan)


@dataclass(frozen=True, eq=False)
class EpisodeData(Generic[Shown]):
    """One episode: what a method may look at, and the targets, apart.

    Attributes
    ----------
    index: its number in the set.
    labels: the L labels of its part.
    support_ids, query_ids: image ids. With Q queries for each label, those of label i are at Q*i to
        Q*i + Q - 1 in `query_ids`, so a method must not use their places.
    support_targets, query_targets: bool [s, L] and [q, L].
    support, query: what was asked for: `Images` with `.pooled()` and `.local()`, transformed
        images, or None.
    """

    index: int
    labels: tuple[str, ...]
    support_ids: tuple[str, ...]
    query_ids: tuple[str, ...]
    support_targets: npt.NDArray[np.bool_] = field(repr=False)
    query_targets: npt.NDArray[np.bool_] = field(repr=False)
    support: Shown = field(repr=False)
    query: Shown = field(repr=False)


@overload
def iter_episodes(split: Split, episodes: EpisodeSet) -> Iterator[EpisodeData[None]]: ...
@overload
def iter_episodes(
    split: Split, episodes: EpisodeSet, features: FeatureSource
) -> Iterator[EpisodeData[Images]]: ...
@overload
def iter_episodes(
    split: Split, episodes: EpisodeSet, *, transform: Callable[[Image], Any]
) -> Iterator[EpisodeData[Any]]: ...
def iter_episodes(
    split: Split,
    episodes: EpisodeSet,
    features: FeatureSource | None = None,
    transform: Callable[[Image], Any] | None = None,
) -> Iterator[EpisodeData[Any]]:
    """The episodes one after the other: ids and targets, and features or images where asked.

    Parameters
    ----------
    split, episodes: as `load_split` and `load_episodes` give them.
    features: as `load_features` gives them; `.support` and `.query` are then `Images`, which have
        `.pooled()` and `.local()`, as a method sees them.
    transform: called with each decoded RGB image (PIL); `.support` and `.query` are then the
        tensors it returns, stacked, or a list of whatever else it returns.

    >>> import mlfsic_bench as mb
    >>> split = mb.load_split("scenes-12-6-6-v1")
    >>> episodes = mb.load_episodes(split, count=5)
    >>> first = next(mb.iter_episodes(split, episodes))
    >>> first.support_targets.shape, first.query_targets.shape
    ((6, 6), (24, 6))
    >>> sizes = next(mb.iter_episodes(split, episodes, transform=lambda image: image.size))
    >>> sizes.query[0]
    (112, 112)
    >>> features = mb.load_features(split, "scenes-small")
    >>> next(mb.iter_episodes(split, episodes, features)).support.pooled().shape
    torch.Size([6, 128])
    """
    if not isinstance(split, Split):
        raise _no_split(split)
    check_episodes(episodes, split)
    if features is not None and transform is not None:
        raise BenchError(
            "an episode is shown as features or as images",
            expected="features or transform",
            found="both",
            remedy="leave one of the two out",
        )
    return _episodes(split, episodes, features, transform)


def _episodes(
    split: Split,
    episodes: EpisodeSet,
    features: FeatureSource | None,
    transform: Callable[[Image], Any] | None,
) -> Iterator[EpisodeData[Any]]:
    part: PartName = "val" if episodes.part == "val" else "novel"
    own = split.parts[part]
    dataset = None if transform is None else loaded(split).open_dataset()

    def shown(ids: tuple[str, ...]) -> Any:
        if features is not None:
            return Images(ids, features)
        if dataset is None or transform is None:
            return None
        return _stacked([transform(dataset.open_image(one)) for one in ids])

    for index, episode in enumerate(episodes.episodes):
        if isinstance(features, Features) and index % AHEAD == 0:
            soon = episodes.episodes[index : index + AHEAD]
            features.extract(sorted({i for e in soon for i in (*e.support, *e.query)}))
        yield EpisodeData(
            index=index,
            labels=own.labels,
            support_ids=episode.support,
            query_ids=episode.query,
            support_targets=own.targets_of(episode.support),
            query_targets=own.targets_of(episode.query),
            support=shown(episode.support),
            query=shown(episode.query),
        )


def _stacked(images: list[Any]) -> Any:
    """Tensors of one shape as one tensor; a list of anything else."""
    import torch

    tensors = all(isinstance(one, torch.Tensor) for one in images)
    same = tensors and len({one.shape for one in images}) == 1
    return torch.stack(images) if same else images


def check_episodes(episodes: object, split: Split) -> None:
    """BenchError unless these are episodes of this split."""
    if not isinstance(episodes, EpisodeSet):
        raise BenchError(
            "these are no episodes",
            expected="an EpisodeSet, as mb.load_episodes(split) gives it",
            found=described(episodes),
            remedy="load them: episodes = mb.load_episodes(split)",
        )
    if (episodes.split_id, episodes.split_hash) != (split.id, split.hash):
        raise BenchError(
            "the episodes are those of another split",
            expected=f"episodes of {split.id} with hash {split.hash[:12]}",
            found=f"episodes of {episodes.split_id} with hash {episodes.split_hash[:12]}",
            remedy="load them for this split: mb.load_episodes(split)",
        )


def _no_split(given: object) -> BenchError:
    return BenchError(
        "this is no split",
        expected="a Split, as mb.load_split(id_or_path) gives it",
        found=described(given),
        remedy="load it: split = mb.load_split('voc-8-6-6-v1')",
    )
