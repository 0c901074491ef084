"""What the runs of one process share: each split, network, file and feature store opened once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.known_names import known_backbone, known_weights
from mlfsic_bench.evaluation.parts import Selection, select_parts
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.paths import Places, is_file, is_folder, list_folder, resolved, watched

if TYPE_CHECKING:
    import torch

    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.embeddings.label_embeddings import LabelEmbeddings
    from mlfsic_bench.episodes.protocol import EpisodeSet
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.given import GivenFeatures
    from mlfsic_bench.features.store.store import FeatureStore
    from mlfsic_bench.methods.contract import Method
    from mlfsic_bench.splits.files import SplitFile
    from mlfsic_bench.splits.split import Split

Opened = TypeVar("Opened")


class ResourceCache:
    """What the runs of one process share, each opened once; a new one is empty.

    Splits, episodes, datasets, backbones, label embeddings and feature stores: reading the
    annotations of COCO and loading a backbone take seconds each time. The objects are those that a
    run would have opened itself.

    Attributes
    ----------
    places: what was looked at to open them, and all else that runs opened (`finished`).
    since: when it was made, in ns.
    """

    def __init__(self) -> None:
        self._opened: dict[tuple[object, ...], tuple[Any, RunPlan]] = {}
        self.places: Places = {}
        self.since = time.time_ns()
        self._stores: dict[Path, tuple[object, FeatureStore]] = {}

    def split(self, plan: RunPlan) -> Split:
        """The split that `plan` names or is given."""
        from mlfsic_bench.splits.files import to_split

        if not isinstance(plan.split, str):
            return plan.split
        return self._once(plan, _place(plan, "split"), lambda: to_split(self.split_file(plan)))

    def split_file(self, plan: RunPlan) -> SplitFile:
        """The content of that split; BenchError for one that is given as an object."""
        from mlfsic_bench.splits.resolve import resolve_file

        name, given = plan.split, self.given(plan)
        assert isinstance(name, str)
        if given is not None and not name:
            return self._once(plan, _place(plan, "content"), given.split_file)
        try:
            return self._once(
                plan,
                _place(plan, "content"),
                lambda: resolve_file(
                    name,
                    data_root=plan.data_root,
                    available_only=plan.available_only,
                    min_pool=plan.min_pool,
                    dataset=plan.dataset,
                ),
            )
        except BenchError as error:
            if given is not None and given.pack is not None:
                error.remedy += "; or leave --split out to use the split of the feature pack"
            raise

    def given(self, plan: RunPlan) -> GivenFeatures | None:
        """The features made elsewhere that `plan` names; None where it names none."""
        from mlfsic_bench.features.given import GivenFeatures

        path = plan.features_pack
        if path is None:
            return None
        return self._once(plan, ("given", *_states(path)), lambda: GivenFeatures(path))

    def dataset(self, plan: RunPlan, name: str) -> Dataset:
        """The dataset that a split names `name`, as the plan says where it is, or gives it."""
        from mlfsic_bench.data.registry import dataset_of

        spec, root = plan.dataset, plan.data_root
        key = ("dataset", name, _same(spec), root)
        return self._once(plan, key, lambda: dataset_of(name, root, spec))

    def dataset_if_needed(self, plan: RunPlan, name: str) -> Dataset | None:
        """That dataset; None where the run has a feature pack and the dataset can't be opened."""
        try:
            return self.dataset(plan, name)
        except BenchError:
            if plan.features_pack is None:
                raise
            return None

    def networks(self, plan: RunPlan) -> tuple[Backbone, ...]:
        """As `backbones`; of stored features perhaps no more than is known of them (`known`)."""
        from mlfsic_bench.features.backbones.known import known_backbones

        name, weights = plan.backbone, plan.weights
        if not isinstance(name, str) or plan.features != "stored":
            return self.backbones(plan)
        return self._once(plan, _network(plan, "known"), lambda: known_backbones(name, weights))

    def backbones(self, plan: RunPlan) -> tuple[Backbone, ...]:
        """The networks that `plan` names; shared for stored features, which leave them untouched.

        A live backbone moves to the device of its run and may be trained: each run has its own.
        """
        from mlfsic_bench.features.backbones.registry import build_backbones

        given = self.given(plan)
        if given is not None:  # asked for its text side alone
            made_by, weights = given.network()
            return build_backbones(known_backbone(made_by), known_weights(weights, "--embeddings"))
        name = plan.backbone
        if not isinstance(name, str):
            networks = build_backbones(name)
            for one in networks:
                one.require_unchanged()
            return networks if plan.features == "stored" else copy.deepcopy(networks)
        if plan.features != "stored":
            return build_backbones(name, plan.weights)
        built = _network(plan, "backbones")
        return self._once(plan, built, lambda: build_backbones(name, plan.weights))

    def selection(self, plan: RunPlan, split: Split) -> Selection:
        """The base and val parts that a method trains and selects on."""
        key = ("selection", id(split), plan.base_images, plan.base_labels)
        return self._once(
            plan, key, lambda: select_parts(split, plan.base_images, plan.base_labels)
        )

    def episodes(self, plan: RunPlan, split: Split) -> EpisodeSet:
        """The novel episodes, of the split or of a file."""
        from mlfsic_bench.episodes.files import find_episodes

        file = plan.episodes_file
        key = ("episodes", id(split), id(plan.protocol), *(_states(file) if file else ()))
        return self._once(plan, key, lambda: find_episodes(plan.protocol, split, file=file))

    def embeddings(
        self,
        plan: RunPlan,
        split: Split,
        method: Method,
        dataset: Dataset | None,
        device: torch.device,
    ) -> LabelEmbeddings | None:
        """The label embeddings of a run: parsed or computed once for all methods alike."""
        from mlfsic_bench.embeddings.joined import sources
        from mlfsic_bench.evaluation.embeddings import label_embeddings

        given, network = plan.embeddings, plan.backbone
        files = sources(given) if isinstance(given, Path) else []
        for folder in filter(is_folder, tuple(files)):
            files += list_folder(folder)
        key = (
            *("embeddings", id(split), _same(plan.dataset), str(device)),
            *(method.needs_embeddings, method.needs_text_side),
            *(plan.embeddings_format, plan.templates, plan.weights, plan.features_pack),
            *(network if isinstance(network, str) else id(network), None if files else id(given)),
            *_states(*files),
        )
        return self._once(
            plan,
            key,
            lambda: label_embeddings(
                plan, split, method, dataset, lambda: self.backbones(plan), device
            ),
        )

    def store(self, folder: Path) -> FeatureStore:
        """The feature store in a folder, opened again only when one of its files has changed."""
        from mlfsic_bench.features.store.store import FILES, FeatureStore

        state = tuple(_states(*(folder / name for name in FILES)))
        if folder not in self._stores or self._stores[folder][0] != state:
            self._stores[folder] = state, FeatureStore(folder)
        return self._stores[folder][1]

    def _once(self, plan: RunPlan, key: tuple[object, ...], opened: Callable[[], Opened]) -> Opened:
        if key not in self._opened:
            # with the plan, lest another object get the number of its dataset
            with watched(self.places):
                self._opened[key] = opened(), plan
        found: Opened = self._opened[key][0]
        return found


def _same(named: str | Dataset | None) -> str | int | None:
    """A name; of an object its number, because it need not be hashable."""
    return named if named is None or isinstance(named, str) else id(named)


def _states(*files: Path) -> Iterator[tuple[str, object]]:
    """Where each file is and when it was written: a changed one is opened anew (notebooks)."""
    for file in files:
        found = file.stat() if is_file(file) else None
        yield str(resolved(file)), found and (found.st_mtime_ns, found.st_size)


def _network(plan: RunPlan, kind: str) -> tuple[object, ...]:
    from mlfsic_bench.features.backbones.registry import JOIN, parse_spec, split_name

    files = [Path(parse_spec(one).name.rpartition(":")[0]) for one in split_name(plan.network)]
    files += [Path(one) for one in plan.weights.split(JOIN)]
    return kind, plan.network, plan.weights, *_states(*files)


def _place(plan: RunPlan, kind: str) -> tuple[object, ...]:
    limits = plan.available_only, plan.min_pool
    source = plan.split or plan.features_pack
    return kind, plan.split, plan.data_root, _same(plan.dataset), *limits, source
