"""Several runs or scores files side by side: what belongs together, and what each is called.

What `comparable` demands is equal. Backbone, label vectors, preset and base images may differ; they
are told in the names and below the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.score import Source, open_source, truth_of
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import BaseImages, MethodMeta
from mlfsic_bench.metrics.episode import episode_metrics, query_influence
from mlfsic_bench.results.comparable import check_comparable
from mlfsic_bench.results.marks import changed, failed_audits, off_defaults, picture_title
from mlfsic_bench.results.targets import SplitPlace, Truth
from mlfsic_bench.results.traits import UNSTATED, base_images_of, group_key, traits_of

Float64 = npt.NDArray[np.float64]

MAY_DIFFER = ("backbone", "weights", "features", "precision", "words", "words hash", "base images",
              "preset")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Entry:
    """One method: a single file, or several training seeds of it whose values are averaged."""

    name: str
    sources: tuple[Source, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds, in the order of `sources`."""
        return tuple(source.scores.meta.method.seed for source in self.sources)

    @property
    def method(self) -> MethodMeta:
        """The card of its method; training seeds differ in the seed alone."""
        return self.sources[0].scores.meta.method

    @property
    def changed(self) -> dict[str, Any]:
        """The parameters that are not at the method's defaults, with their values."""
        cards = [source.scores.meta.method for source in self.sources]
        return {name: value for card in cards for name, value in changed(card).items()}

    @property
    def base_images(self) -> BaseImages | None:
        """On how many base images it was trained, if not on all or not stated."""
        return base_images_of(self.sources[0])

    def values(self, metric: str, truth: Truth) -> Float64:
        """float64 [E]: the metric in each episode, mean over training seeds."""
        each = [
            episode_metrics(s.scores.scores, truth.targets, s.scores.decisions, [metric])[metric]
            for s in self.sources
        ]
        return np.asarray(np.mean(each, axis=0), np.float64)

    def influence(self, metric: str, truth: Truth) -> Float64:
        """float64 [E, Q]: what each query does to the metric, mean over training seeds."""
        each = [
            query_influence(s.scores.scores, truth.targets, s.scores.decisions, [metric])[metric]
            for s in self.sources
        ]
        return np.asarray(np.mean(each, axis=0), np.float64)


@dataclass(frozen=True, eq=False)
class Lineup:
    """Entries that can be compared, where their episodes are found, and what else differs."""

    entries: tuple[Entry, ...]
    place: SplitPlace
    differing: tuple[str, ...]

    @cached_property
    def truth(self) -> Truth:
        """The answers to the episodes; BenchError when they can't be had."""
        return truth_of([s for entry in self.entries for s in entry.sources], self.place)

    @property
    def first(self) -> Source:
        """The first source; all share its split and episodes."""
        return self.entries[0].sources[0]

    @property
    def off_defaults(self) -> list[str]:
        """A sentence for each setting of parameters that is not its method's default."""
        return off_defaults((entry.method.name, entry.changed) for entry in self.entries)

    def title(self, what: str, *, novel: bool = True) -> str:
        """What a picture says above itself; a part of the episodes matters to `novel` ones only."""
        meta = self.first.scores.meta
        cuts = [entry.base_images for entry in self.entries]
        return picture_title(what, meta.split, meta.labels, cuts, meta.episodes if novel else None)


def line_up(
    paths: Sequence[Path], place: SplitPlace | None = None, *, seeds_apart: bool = False
) -> Lineup:
    """Read runs and scores files and group those that differ in the training seed only.

    With `seeds_apart` every one is an entry of its own. Raises BenchError for files that are
    unsound or can't be compared, and for two of one method with the same training seed.
    """
    sources = [open_source(path) for path in paths]
    check_comparable(sources)
    groups: dict[str, list[Source]] = {}
    for i, source in enumerate(sources):
        key = str(i) if seeds_apart else group_key(source)
        groups.setdefault(key, []).append(source)
    for group in groups.values():
        _check_seeds(group)
    names = _names(list(groups.values()))
    entries = tuple(
        Entry(name, tuple(sorted(group, key=lambda s: s.scores.meta.method.seed)))
        for name, group in zip(names, groups.values(), strict=True)
    )
    return Lineup(entries, place or SplitPlace(), tuple(_differing(entries)))


def _check_seeds(group: Sequence[Source]) -> None:
    seen: dict[int, Source] = {}
    for source in group:
        seed = source.scores.meta.method.seed
        if seed in seen:
            raise BenchError(
                f"{source.path} and {seen[seed].path} are one method with one training seed",
                expected="another training seed in each, to be averaged",
                found=f"seed {seed} twice",
                remedy="name one of the two, or add --seeds-apart",
            )
        seen[seed] = source


def _names(groups: Sequence[Sequence[Source]]) -> list[str]:
    """Method names; where one stands twice, with what tells its entries apart."""
    told = [_told(group) for group in groups]
    heads = [_head(group[0]) for group in groups]
    names = []
    for head, own in zip(heads, told, strict=True):
        same = [traits for other, traits in zip(heads, told, strict=True) if other == head]
        keys = [
            key
            for key in dict.fromkeys(key for traits in same for key in traits)
            if len({traits.get(key, "-") for traits in same}) > 1
        ]
        if "words" in keys and "words hash" in keys:
            keys.remove("words hash")
        if "backbone" in keys and "weights" in keys:
            keys.remove("weights")
        values = ", ".join(f"{key}={own.get(key, '-')}" for key in keys)
        names.append(f"{head} ({values})" if keys else head)
    return [
        name if names.count(name) == 1 else f"{name} #{names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    ]


def _head(source: Source) -> str:
    cut = base_images_of(source)
    name = source.scores.meta.method.name
    return f"{name}, base_images={cut.used}" if cut else name


def _told(group: Sequence[Source]) -> dict[str, str]:
    card = group[0].scores.meta.method
    seeds = sorted(source.scores.meta.method.seed for source in group)
    traits = {key: value for key, value in traits_of(group[0]).items() if key != "base images"}
    code = traits.pop("code", None)
    traits |= {str(key): str(value) for key, value in card.parameters.items()}
    traits["seed" if len(seeds) == 1 else "seeds"] = "+".join(str(seed) for seed in seeds)
    return traits | ({"code": code} if code else {})


def _differing(entries: Sequence[Entry]) -> list[str]:
    """A sentence for each thing that may differ, and does."""
    lines = []
    for kind in MAY_DIFFER:
        where: dict[str, list[str]] = {}
        for entry in entries:
            for value in dict.fromkeys(traits_of(s).get(kind, "") for s in entry.sources):
                if value or kind == "preset":
                    where.setdefault(value or "none", []).append(entry.name)
        if len(where) > 1:
            values = "; ".join(f"{value}: {', '.join(names)}" for value, names in where.items())
            lines.append(f"They differ in {kind} ({values}).")
        if kind == "base images" and set(where) == {UNSTATED}:
            lines.append(f"Base images are {UNSTATED}: {', '.join(where[UNSTATED])}.")
        cuts = [value for value in where if kind == "base images" and value != UNSTATED]
        if cuts and len(where) == 1:
            lines.append(f"Trained on {cuts[0]} base images: {', '.join(where[cuts[0]])}.")
    code: dict[str, set[str]] = {}
    for source in (source for entry in entries for source in entry.sources):
        found = traits_of(source).get("code")
        if found:
            code.setdefault(source.scores.meta.method.name, set()).add(found)
    lines += [
        f"Runs of {name} were made by {len(versions)} versions of its code."
        for name, versions in code.items()
        if len(versions) > 1
    ]
    runs = [(e.name, s.run.record) for e in entries for s in e.sources if s.run is not None]
    return lines + failed_audits(runs)
