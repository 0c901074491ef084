"""Splits, datasets and backbones opened once for many runs of one process.

Reading the annotations of COCO and loading a backbone take seconds each time. What a run depends on
stays the same: the objects are those that the run would have opened itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.splits.files import SplitFile
    from mlfsic_bench.splits.split import Split


class ResourceCache:
    """What the runs of a process share; a new one is empty."""

    def __init__(self) -> None:
        self._splits: dict[object, Split] = {}
        self._split_files: dict[str, SplitFile] = {}
        self._datasets: dict[object, Dataset] = {}
        self._backbones: dict[object, tuple[Backbone, ...]] = {}

    def split(self, plan: RunPlan) -> Split:
        """The split that `plan` names."""
        from mlfsic_bench.splits.files import to_split
        from mlfsic_bench.splits.resolve import resolve_file

        key = (plan.split, plan.data_root, plan.available_only, plan.min_pool)
        if key not in self._splits:
            content = resolve_file(
                plan.split,
                data_root=plan.data_root,
                available_only=plan.available_only,
                min_pool=plan.min_pool,
            )
            self._splits[key] = to_split(content)
            self._split_files[self._splits[key].hash] = content
        return self._splits[key]

    def split_file(self, split: Split) -> SplitFile:
        """The content of a split that was opened here."""
        return self._split_files[split.hash]

    def dataset(self, name: str, data_root: Path | None) -> Dataset:
        """The dataset of that name below the data root."""
        from mlfsic_bench.data.registry import open_dataset

        key = (name, data_root)
        if key not in self._datasets:
            self._datasets[key] = open_dataset(name, data_root)
        return self._datasets[key]

    def backbones(self, plan: RunPlan) -> tuple[Backbone, ...]:
        """The networks that `plan` names; shared for stored features, which leave them untouched.

        A live backbone moves to the device of its run and may be trained: each run has its own.
        """
        from mlfsic_bench.features.backbones.registry import build_backbones

        if plan.features != "stored":
            return build_backbones(plan.backbone, plan.weights)
        key = (plan.backbone, plan.weights)
        if key not in self._backbones:
            self._backbones[key] = build_backbones(plan.backbone, plan.weights)
        return self._backbones[key]
