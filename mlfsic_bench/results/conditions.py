"""Which results can be compared, which are training seeds of one method, what each is called.

Split, share of its images, episodes (protocol, set, number) and labels are the conditions: results
under the same ones can be compared. Results that differ in the training seed alone are one method.
Everything else - parameters, backbone, label embeddings, base images, version - may differ; it is
said in the names and below the values. There is no other answer to these questions elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import differences, meaning
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.metrics.intervals import EpisodeImages, episode_images
from mlfsic_bench.results.captions import doubts, off_defaults, picture_title
from mlfsic_bench.results.result import UNSTATED, Float64, Result, Targets, open_result
from mlfsic_bench.results.targets import SplitPlace, targets_of
from mlfsic_bench.splits.names import plain_id

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.meta import BaseImages, MethodMeta, ScoresMeta

Seeds = Literal["mean", "each"]
TRANSDUCTIVE = "transductive"
MAY_DIFFER = ("backbone", "weights", "features", "precision", "embeddings", "embeddings hash",
              "base images", "preset")  # fmt: skip


@dataclass(frozen=True, eq=False)
class MethodResult:
    """One method under one setting: a single result, or several training seeds of it."""

    name: str
    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """The first seed's result; the others differ in the seed alone."""
        return self.results[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds, rising."""
        return tuple(result.seed for result in self.results)

    @property
    def method(self) -> MethodMeta:
        """The method and its parameters."""
        return self.first.method

    @property
    def changed(self) -> dict[str, Any]:
        """The parameters that are not at the method's defaults, with their values."""
        return {name: value for r in self.results for name, value in r.changed.items()}

    @property
    def base_images(self) -> BaseImages | None:
        """On how many base images it was trained, if not on all or not stated."""
        return self.first.base_images

    def measured(
        self, names: Sequence[str], targets: Targets
    ) -> tuple[dict[str, Float64], dict[str, Float64]]:
        """As `Result.measured`, the mean over training seeds."""
        each = [result.measured(names, targets) for result in self.results]
        return _means([values for values, _ in each]), _means([effects for _, effects in each])


def _means(rows: Sequence[dict[str, Float64]]) -> dict[str, Float64]:
    return {name: np.asarray(np.mean([row[name] for row in rows], axis=0)) for name in rows[0]}


@dataclass(frozen=True, eq=False)
class ResultGroup:
    """Methods that can be compared, where their episodes are found, and what else differs."""

    methods: tuple[MethodResult, ...]
    place: SplitPlace
    differing: tuple[str, ...]

    @cached_property
    def targets(self) -> Targets:
        """The targets of the episodes; BenchError when they can't be had."""
        return targets_of(self.results, self.place)

    @cached_property
    def images(self) -> EpisodeImages:
        """The images that the episodes are made of, for intervals over images."""
        found = self.targets
        return episode_images(found.query, found.support, found.drawn_for)

    @property
    def results(self) -> list[Result]:
        """All results, method by method."""
        return [result for method in self.methods for result in method.results]

    @property
    def first(self) -> Result:
        """The first result; all share its split and episodes."""
        return self.methods[0].first

    @property
    def meta(self) -> ScoresMeta:
        """What the first one says of split, episodes and labels, which all share."""
        return self.first.meta

    @property
    def off_defaults(self) -> list[str]:
        """A sentence for each setting of parameters that is not its method's default."""
        return off_defaults((one.method.name, one.changed) for one in self.methods)

    def title(self, what: str, *, novel: bool = True) -> str:
        """What a picture says above itself; a part of the episodes matters to `novel` ones only."""
        meta = self.meta
        cuts = [one.base_images for one in self.methods]
        return picture_title(what, meta.split, meta.labels, cuts, meta.episodes if novel else None)


def open_group(
    paths: Sequence[Path], place: SplitPlace | None = None, *, seeds: Seeds = "mean"
) -> ResultGroup:
    """Open results and group those that differ in the training seed only (`seeds` "mean").

    With `seeds` "each" every result is a method of its own. Raises BenchError for files that are
    unsound or can't be compared, and for two of one method with the same training seed.
    """
    return group_results([open_result(path) for path in paths], place, seeds=seeds)


def group_results(
    results: Sequence[Result], place: SplitPlace | None = None, *, seeds: Seeds = "mean"
) -> ResultGroup:
    """As `open_group`, of results that are open."""
    check_comparable(results)
    groups: dict[str, list[Result]] = {}
    for i, result in enumerate(results):
        groups.setdefault(str(i) if seeds == "each" else result.settings, []).append(result)
    for group in groups.values():
        _check_seeds(group)
    methods = tuple(
        MethodResult(name, tuple(sorted(group, key=lambda r: r.seed)))
        for name, group in zip(names_of(list(groups.values())), groups.values(), strict=True)
    )
    return ResultGroup(methods, place or SplitPlace(), tuple(_differing(methods)))


def by_conditions(results: Iterable[Result]) -> list[list[Result]]:
    """Results in groups that can be compared, each in the order given."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(hash_json(conditions_of(result)), []).append(result)
    return list(groups.values())


def conditions_of(result: Result) -> dict[str, str]:
    """What must be equal among results that are compared, the most telling first."""
    split, episodes, labels = result.meta.split, result.meta.episodes, result.meta.labels
    name = plain_id(split.id)  # the hash says whether it is the same copy
    return {
        "split": f"{name} (dataset {split.dataset}, rule {split.rule})",
        "share of the split's images": "a subset of the images" if split.subset else "all images",
        "content of the split": f"{name} with hash {split.hash[:16]}",
        "protocol": f"{episodes.drawn_by.title}, part {episodes.part}",
        "set of episodes": f"{episodes.total} episodes with hash {episodes.hash[:16]}",
        "number of episodes": f"the first {episodes.count} of {episodes.total}",
        "list of labels": f"{len(labels)} labels with hash {hash_json(labels)[:16]}: "
        f"{', '.join(labels)[:120]}",
    }


def check_comparable(results: Sequence[Result]) -> None:
    """BenchError saying why, unless all are under the same conditions and each is named once."""
    if not results:
        raise BenchError(
            "there is nothing to compare",
            expected="runs' folders or scores files",
            found="none",
            remedy="name some",
        )
    first, seen = results[0], dict[str, Path]()
    expected = conditions_of(first)
    for result in results:
        for kind, value in conditions_of(result).items():
            if value != expected[kind]:
                raise BenchError(
                    f"{result.path} can't be compared with {first.path}: another {kind}",
                    expected=f"{kind}: {expected[kind]}",
                    found=value,
                    remedy="compare only what was made on the same split, images and episodes",
                )
        if result.sha256 in seen:
            raise BenchError(
                f"{result.path} holds the same scores as {seen[result.sha256]}",
                expected="each run once",
                found=f"SHA-256 {result.sha256[:12]} twice",
                remedy="name it once",
            )
        seen[result.sha256] = result.path


def seed_groups(results: Sequence[Result]) -> list[list[Result]]:
    """Results that differ in the training seed alone, together; in the order given."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.settings, []).append(result)
    return list(groups.values())


def not_seeds(results: Sequence[Result]) -> list[str]:
    """A sentence for runs of one method and parameters that are no training seeds of each other."""
    first: dict[str, Result] = {}
    lines = []
    for group in seed_groups(results):
        result = group[0]
        if result.record is None:
            continue
        other = first.setdefault(hash_json(result.described["method"]), result)
        if other is not result and other.record is not None:
            one, two = (
                dict(meaning(r.record.identity), seed=0) for r in (other, result) if r.record
            )
            lines.append(
                f"{other.path.name} and {result.path.name} are not taken together as training "
                f"seeds; they differ in {'; '.join(differences(one, two))}."
            )
    return lines


def _check_seeds(group: Sequence[Result]) -> None:
    seen: dict[int, Result] = {}
    for result in group:
        if result.seed in seen:
            raise BenchError(
                f"{result.path} and {seen[result.seed].path} are one method with one training seed",
                expected="another training seed in each, to be averaged",
                found=f"seed {result.seed} twice",
                remedy="name one of the two, or add --seeds each",
            )
        seen[result.seed] = result


def names_of(groups: Sequence[Sequence[Result]]) -> list[str]:
    """A name for each group: the method's; where one occurs twice, with what differs."""
    said = [_settings_of(group) for group in groups]
    heads = [_head(group[0]) for group in groups]
    names = []
    for head, own in zip(heads, said, strict=True):
        same = [settings for other, settings in zip(heads, said, strict=True) if other == head]
        keys = [
            key
            for key in dict.fromkeys(key for settings in same for key in settings)
            if len({settings.get(key, "-") for settings in same}) > 1
        ]
        keys = without_hashes(keys, same)
        values = ", ".join(f"{key}={own.get(key, '-')}" for key in keys)
        names.append(f"{head} ({values})" if keys else head)
    return [
        name if names.count(name) == 1 else f"{name} #{names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    ]


def without_hashes(keys: Sequence[str], made_with: Sequence[Mapping[str, str]]) -> list[str]:
    """Those of the keys that a reader needs: no hash where the names beside it differ as well."""
    left = list(keys)
    for name, hashed in (("embeddings", "embeddings hash"), ("backbone", "weights")):
        pairs = {(one.get(name), one.get(hashed)) for one in made_with}
        if name in left and hashed in left and len(pairs) == len({one for one, _ in pairs}):
            left.remove(hashed)
    return left


def _head(result: Result) -> str:
    cut = result.base_images
    marks = [TRANSDUCTIVE] if result.method.transductive else []
    marks += [f"base_labels={cut.labels}"] if cut and cut.labels else []
    marks += [f"base_images={cut.used}"] if cut else []
    return ", ".join([result.method.name, *marks])


def _settings_of(group: Sequence[Result]) -> dict[str, str]:
    """What tells a method from others of its name, the most telling first."""
    made_with = {k: v for k, v in group[0].made_with.items() if k != "base images"}
    version = made_with.pop("method version", None)
    made_with |= {str(key): str(value) for key, value in group[0].method.parameters.items()}
    seeds = sorted(result.seed for result in group)
    made_with["seed" if len(seeds) == 1 else "seeds"] = "+".join(str(seed) for seed in seeds)
    return made_with | ({"version": version[:15]} if version else {})


def _differing(methods: Sequence[MethodResult]) -> list[str]:
    """A sentence for each thing that may differ, and does."""
    lines = []
    for kind in MAY_DIFFER:
        where: dict[str, list[str]] = {}
        for one in methods:
            for value in dict.fromkeys(r.made_with.get(kind, "") for r in one.results):
                if value or kind == "preset":
                    where.setdefault(value or "none", []).append(one.name)
        if len(where) > 1:
            values = "; ".join(f"{value}: {', '.join(names)}" for value, names in where.items())
            lines.append(f"They differ in {kind} ({values}).")
        if kind == "base images" and set(where) == {UNSTATED}:
            lines.append(f"Base images are {UNSTATED}: {', '.join(where[UNSTATED])}.")
        cuts = [value for value in where if kind == "base images" and value != UNSTATED]
        if cuts and len(where) == 1:
            lines.append(f"Trained on {cuts[0]}: {', '.join(where[cuts[0]])}.")
    versions: dict[str, set[str]] = {}
    for result in (result for one in methods for result in one.results):
        if result.version:
            versions.setdefault(result.method.name, set()).add(result.version)
    lines += [
        f"Runs of {name} were made by {len(found)} versions of the method."
        for name, found in versions.items()
        if len(found) > 1
    ]
    runs = [(one.name, r.record) for one in methods for r in one.results if r.record is not None]
    return lines + doubts(runs)
