"""A result, opened once: raw scores, and the record of the run that made them.

It may be a run's folder, an archived run, or a scores file that any program wrote. Whatever a
record holds (subset, label embeddings, weights, precision, episodes) is read from it and never
asked for. Targets are not part of a result: `targets.targets_of` makes them from the split and the
episodes that the scores name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import meaning, method_version
from mlfsic_bench.evaluation.meta import BaseImages, MethodMeta, ScoresMeta
from mlfsic_bench.evaluation.record import ORDER, RECORD, SCORES, Record, read_record
from mlfsic_bench.evaluation.scores import Scores, StoredTargets, read_scores, read_targets
from mlfsic_bench.files import is_stored
from mlfsic_bench.hashing import hash_file, hash_json
from mlfsic_bench.metrics.registry import episode_metrics, values_and_influence
from mlfsic_bench.paths import exists, folders_with, is_folder
from mlfsic_bench.results.archived_targets import shared_file

if TYPE_CHECKING:
    from pandas import DataFrame

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
UNSTATED = "not stated, a run's scores without its record"


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of E episodes, and the images they are made of.

    Attributes
    ----------
    targets: bool [E, Q, L]. query: text [E, Q], image ids.
    support: ids of each episode's support images; support_targets: bool [images, L] for each
        episode. Both None where they are not known.
    drawn_for: int [Q], the label each query was drawn for; None when for none in particular.
    origin: `rebuilt` from split and episodes, or `stored` by the run that was scored.
    """

    targets: Bool
    query: npt.NDArray[np.str_]
    support: tuple[tuple[str, ...], ...] | None
    support_targets: tuple[Bool, ...] | None
    drawn_for: npt.NDArray[np.int64] | None
    origin: Literal["rebuilt", "stored"]

    def first(self, count: int) -> Targets:
        """Those of the first `count` episodes."""
        return Targets(
            self.targets[:count],
            self.query[:count],
            None if self.support is None else self.support[:count],
            None if self.support_targets is None else self.support_targets[:count],
            self.drawn_for,
            self.origin,
        )


@dataclass(frozen=True, eq=False)
class Result:
    """The scores of one method with one training seed, read and checked by themselves.

    Attributes
    ----------
    path: a run's folder, or a scores file.
    scores: raw scores [E, Q, L], or of some archived runs their order (`scores.order_of`),
        decisions or None, and what they say of themselves.
    sha256: of the file they were read from.
    record: of the run; None for a scores file that lies outside of its run's folder.
    stored: the targets that the run kept beside its scores; None for others.
    """

    path: Path
    scores: Scores
    sha256: str
    record: Record | None = None
    stored: StoredTargets | None = None

    @property
    def meta(self) -> ScoresMeta:
        """What the scores say of themselves: split, episodes, labels, method, seed."""
        return self.scores.meta

    @property
    def method(self) -> MethodMeta:
        """The method, its parameters and its training seed."""
        return self.scores.meta.method

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.scores.meta.method.seed

    def require_values(self, what: str) -> None:
        """BenchError where the order of the scores is kept in place of them, for `what`."""
        if self.scores.only_order:
            raise BenchError(
                f"{self.path} holds the order of its scores, not the scores",
                expected=f"raw scores, for {what}",
                found=f"an archived run with {ORDER}",
                remedy="run its command again (`provenance.command` in its record)",
            )

    @property
    def changed(self) -> dict[str, Any]:
        """The parameters that are not at the method's defaults, with their values."""
        return {name: self.method.parameters.get(name) for name in self.method.changed}

    @property
    def base_images(self) -> BaseImages | None:
        """On how many base images the method was trained, if not on all or not stated."""
        return self.record.base_images if self.record else self.meta.base_images

    @property
    def version(self) -> str:
        """The method's version, or the hash of its file; empty where no record says it."""
        return method_version(self.record.identity) if self.record else ""

    @cached_property
    def made_with(self) -> dict[str, str]:
        """What it was made with beside method, parameters and seed: backbone, embeddings, ..."""
        said = {"preset": str(self.method.preset)} if self.method.preset else {}
        cut = self.base_images
        if cut:
            said["base images"] = cut.text
        if self.record is None:
            if cut is None and self.meta.run is not None:
                said["base images"] = UNSTATED
            return said
        features, embeddings = self.record.features, self.record.words
        if features:
            said["backbone"] = features.backbone
            said["weights"] = f"{features.weights} {features.weights_hash[:8]}"
            end_to_end = features.mode == "end-to-end"
            said["features"] = "trained end to end" if end_to_end else "frozen"
            if features.source:
                said["features"] += f", {features.source}" + (
                    f", rounded to {features.rounded}" if features.rounded else ""
                )
            said["precision"] = features.precision
        if embeddings and self.method.uses_words:
            said |= {"embeddings": embeddings.title, "embeddings hash": embeddings.hash[:8]}
        said["method version"] = self.version
        return said

    @cached_property
    def settings(self) -> str:
        """Equal for results that differ in the training seed alone.

        A run says all it was made with in its record. Its scores file without the record does not,
        so it is like no other; a foreign file is what its own description says.
        """
        if self.record is not None:
            return hash_json(dict(meaning(self.record.identity), seed=0))
        if self.meta.run is not None:
            return f"not stated: {self.sha256}"
        return hash_json(self.described)

    @property
    def described(self) -> dict[str, object]:
        """The method and its base images without the seed, as a scores file describes them."""
        cut = self.meta.base_images
        return {
            "method": self.method.model_dump(mode="json", exclude={"seed"}),
            "base_images": cut.model_dump(mode="json") if cut else None,
        }

    def values(self, names: Sequence[str], targets: Targets) -> dict[str, Float64]:
        """float64 [E] for each metric: its value in every episode, as a fraction."""
        return episode_metrics(
            self.scores.scores, targets.targets, self.scores.decisions, tuple(names)
        )

    def to_dataframe(
        self, metrics: Sequence[str] | None = None, targets: Targets | None = None
    ) -> DataFrame:
        """In long form: a line for each metric and episode, of all metrics unless some are named.

        Columns: split, method, seed, episode (from 0), metric, value (a fraction; NaN where
        undefined). `targets` None takes those that the run stored; BenchError where it has none.
        """
        import pandas as pd

        from mlfsic_bench.metrics.registry import METRICS, check_names

        if targets is None and self.stored is None:
            raise BenchError(
                f"{self.path} holds no targets",
                expected="a run in its folder, or the targets of its episodes",
                found="a scores file",
                remedy="mlfsic_bench.results.targets.to_dataframe([result]) finds them",
            )
        names = check_names(metrics) if metrics else tuple(METRICS)
        values = self.values(names, targets or stored_targets(self.stored))  # type: ignore[arg-type]
        wide = pd.DataFrame({"episode": np.arange(len(self.scores.scores)), **values})
        long = wide.melt("episode", var_name="metric", value_name="value")
        long.insert(0, "split", self.meta.split.id)
        long.insert(1, "method", self.method.name)
        long.insert(2, "seed", self.seed)
        return long

    def measured(
        self, names: Sequence[str], targets: Targets
    ) -> tuple[dict[str, Float64], dict[str, Float64]]:
        """For each metric its `values`, and what each query does to them, float64 [E, Q]."""
        return values_and_influence(
            self.scores.scores, targets.targets, self.scores.decisions, tuple(names)
        )

    def influence(self, names: Sequence[str], targets: Targets) -> dict[str, Float64]:
        """float64 [E, Q] for each metric: what each query does to its value."""
        return self.measured(names, targets)[1]


def open_result(path: Path) -> Result:
    """The result in a run's folder or a scores file.

    Raises BenchError for a run that has not succeeded, for files that are not those that its record
    names or that belong to different runs, and for a scores file that is not sound.
    """
    found = result_or_status(path)
    if isinstance(found, Result):
        return found
    raise BenchError(
        f"the run in {path} has not ended well",
        expected="status success",
        found=f"status {found}",
        remedy="run the same command again to finish it",
    )


def result_or_status(path: Path) -> Result | str:
    """As `open_result`; of a run that has not succeeded, its status."""
    if not exists(path):
        raise BenchError(
            f"there is nothing at {path}",
            expected="the folder of a finished run, or a scores file",
            found="nothing at that path",
            remedy="check the path",
        )
    if not is_folder(path):
        return Result(path, read_scores(path), hash_file(path))
    _refuse_folder_of_runs(path)
    record = read_record(path)
    if record.status != "success":
        return record.status
    scores, sha256 = _own_scores(path, record)
    stored = _stored(path, record)
    _check_together(path, record, scores, stored)
    return Result(path, scores, sha256, record, stored)


def stored_targets(stored: StoredTargets) -> Targets:
    """The targets that a run left in its folder."""
    _, queries, labels = stored.targets.shape
    return Targets(
        targets=stored.targets.astype(np.bool_),
        query=stored.query,
        support=None,
        support_targets=None,
        drawn_for=stored.meta.episodes.drawn_by.drawn_for(labels, queries),
        origin="stored",
    )


def _own_file(folder: Path, name: str, record: Record) -> Path:
    path = folder / name
    if name == record.targets_file and not is_stored(path):
        path = shared_file(folder, record.outputs.get(name, "")) or path  # an archived run
    found = hash_file(path) if is_stored(path) else "no such file"
    if found != record.outputs.get(name):
        raise BenchError(
            f"{path} is not the file this run wrote",
            expected=f"SHA-256 {record.outputs.get(name, '(none)')[:16]}...",
            found=found[:16],
            remedy="restore the file, or run the same command again",
        )
    return path


def _own_scores(folder: Path, record: Record) -> tuple[Scores, str]:
    """(the run's scores, or their order where an archive keeps that; SHA-256 of the file)."""
    order = folder / ORDER
    if is_stored(folder / SCORES) or not is_stored(order):
        path = _own_file(folder, SCORES, record)
        return read_scores(path), record.outputs[SCORES]
    scores = read_scores(order)
    if scores.meta.order_of != record.outputs.get(SCORES):
        raise BenchError(
            f"{order} is not of the scores this run wrote",
            expected=f"the order of the scores with SHA-256 {record.outputs.get(SCORES, '')[:16]}",
            found=f"that of {str(scores.meta.order_of)[:16]}",
            remedy="restore the file, or run the same command again",
        )
    return scores, hash_file(order)


def _stored(folder: Path, record: Record) -> StoredTargets | None:
    return read_targets(_own_file(folder, record.targets_file, record))


def _check_together(
    folder: Path, record: Record, scores: Scores, stored: StoredTargets | None
) -> None:
    a, b = scores.meta, (stored or scores).meta
    same = a.split == b.split == record.split and a.episodes == b.episodes == record.episodes
    same = same and a.labels == b.labels and a.run == record.key and a.method == record.method
    # files written before the key existed do not have it
    same = same and a.base_images in (None, record.base_images)
    if not same or (stored is not None and scores.scores.shape != stored.targets.shape):
        raise BenchError(
            f"the files in {folder} do not belong together",
            expected="scores, targets and record of one run",
            found=f"scores of split {a.split.hash[:12]}, episodes {a.episodes.hash[:12]}; "
            f"targets of {b.split.hash[:12]}, {b.episodes.hash[:12]}; key {str(a.run)[:12]}",
            remedy="leave each run's files in its own folder",
        )


def _refuse_folder_of_runs(folder: Path) -> None:
    if exists(folder / RECORD):
        return
    runs = [path.name for path in folders_with(folder, RECORD)]
    if runs:
        raise BenchError(
            f"{folder} is not a run but holds {len(runs)} of them",
            expected="the folders of runs",
            found=", ".join(runs[:3]) + (", ..." if len(runs) > 3 else ""),
            remedy=f"name the runs in it: {folder}/*",
        )
