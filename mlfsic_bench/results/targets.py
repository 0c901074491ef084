"""The targets that scores are compared with: made from split and episodes, never handed in.

Whoever hands in scores names a split and a set of episodes by their hashes. The targets of the
query images follow from these two alone, so they are computed here: from the split that is named,
from one that ships with its images or is synthetic, or from one that was used on this machine
before. Where the split is not at hand, a run in its own folder is scored with the targets that it
stored, and every report says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlfsic_bench.data.official import in_short
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import select_parts, val_episodes
from mlfsic_bench.results.archived_targets import shared_support
from mlfsic_bench.results.result import Result, Targets, stored_targets
from mlfsic_bench.splits.names import plain_id, shipped_ids

if TYPE_CHECKING:
    from pandas import DataFrame

    from mlfsic_bench.episodes.protocol import EpisodeSet
    from mlfsic_bench.evaluation.meta import EpisodesMeta, ScoresMeta
    from mlfsic_bench.splits.split import Split


@dataclass(frozen=True)
class SplitPlace:
    """Where split and episodes are found; each as in `mlfsic-bench run`.

    Without `split` the id in the scores names a shipped one. `data_root` None takes MLFSIC_DATA.
    """

    split: str | None = None
    data_root: Path | None = None
    episodes_file: Path | None = None

    @property
    def named(self) -> bool:
        """Whether anything says where to find them."""
        return self != SplitPlace()


def note_on(targets: Targets) -> list[str]:
    """A sentence where targets are those that a run stored; none where they were rebuilt."""
    if targets.origin == "rebuilt":
        return []
    covers = (
        ""
        if targets.support is not None
        else " Without the support images, intervals over images cover query images only."
    )
    return [
        "Targets are those the run stored, since its split is not available here; name "
        f"--data-root to make them from the split.{covers}"
    ]


def targets_of(results: Sequence[Result], place: SplitPlace | None = None) -> Targets:
    """The targets for all these results, which share split and episodes.

    Raises BenchError where they can't be had, and for scores that do not fit them.
    """
    first = results[0]
    stored = [result for result in results if result.stored is not None]
    if place is not None and place.named:
        subset = next((r.record.subset for r in results if r.record is not None), None)
        found = rebuild_targets(first.meta, place, subset)
    else:
        enough = len(stored) == len(results)
        try:
            at_hand = _at_hand(first, enough)
        except BenchError:
            if not enough:
                raise
            at_hand = None
        found = _agreed(stored) if at_hand is None else at_hand
    for result in results:
        if result.scores.scores.shape != found.targets.shape:
            raise BenchError(
                f"{result.path} does not have a score for every query image",
                expected=f"scores {list(found.targets.shape)}: episodes, queries, labels",
                found=f"scores {list(result.scores.scores.shape)}",
                remedy="score all query images of the episodes, in their order",
            )
    return found


def to_dataframe(
    results: Sequence[Result], metrics: Sequence[str] | None = None, place: SplitPlace | None = None
) -> DataFrame:
    """`Result.to_dataframe` of several results, below each other; each with its own targets."""
    import pandas as pd

    found = [one.to_dataframe(metrics, targets_of([one], place)) for one in results]
    return pd.concat(found, ignore_index=True)


def _at_hand(result: Result, enough: bool) -> Targets | None:
    """The targets from a split that needs no data or was used here before.

    Where there is none: None if the stored targets are `enough`; else data are looked for.
    """
    from mlfsic_bench.evaluation.recall import recall_run, recall_split

    meta = result.meta
    episodes_file = recall_run(meta.run).get("episodes_file") if meta.run else None
    place = SplitPlace(episodes_file=Path(episodes_file) if episodes_file else None)
    split = None if can_rebuild(meta) else recall_split(meta.split.hash)
    if split is not None:
        return targets_on(_checked(split, meta), meta, place)
    if enough and not can_rebuild(meta):
        return None
    return rebuild_targets(meta, place, result.record.subset if result.record else None)


def _agreed(results: Sequence[Result]) -> Targets:
    """The targets that these runs stored, which must be the same."""
    first = results[0]
    assert first.stored is not None
    for other in results[1:]:
        assert other.stored is not None
        same = np.array_equal(other.stored.targets, first.stored.targets)
        if not same or not np.array_equal(other.stored.query, first.stored.query):
            raise BenchError(
                f"the runs in {first.path} and {other.path} stored different targets",
                expected="the same targets for the same episodes",
                found="targets or query images that differ",
                remedy="name the data root to compute them again: --data-root ROOT",
            )
    found = stored_targets(first.stored)
    sha256 = first.record.outputs[first.record.targets_file] if first.record else ""
    support = shared_support(first.path, sha256)
    return found if support is None else replace(found, support=support[: len(found.targets)])


def can_rebuild(meta: ScoresMeta) -> bool:
    """Whether the split of these scores needs no data: its images ship, or are synthetic."""
    from mlfsic_bench.data.registry import needs_root
    from mlfsic_bench.splits.resolve import shipped_file

    card = meta.split
    if plain_id(card.id) not in shipped_ids() or card.subset:
        return False
    content = shipped_file(plain_id(card.id))
    return content.images is not None or not needs_root(content.dataset)


def rebuild_targets(
    meta: ScoresMeta, place: SplitPlace, subset: Mapping[str, Any] | None = None
) -> Targets:
    """The targets of the episodes that `meta` names, from the split that it names.

    `subset` is what a record says of the images that a split was limited to. Raises BenchError when
    split or episodes found are not those of the hashes in `meta`.
    """
    return targets_on(_split(meta, place, subset or {}), meta, place)


def targets_on(split: Split, meta: ScoresMeta, place: SplitPlace | None = None) -> Targets:
    """As `rebuild_targets`, on a split that is open and known to be the one `meta` names.

    Of `place` only the file of the episodes counts.
    """
    if meta.episodes.part == "val":
        part, episodes = val_episodes(split, select_parts(split))
    else:
        part, episodes = split.novel, _episodes(meta.episodes, split, place or SplitPlace())
    _check_set(meta.episodes, episodes)
    if list(part.labels) != meta.labels:
        raise BenchError(
            "the scores have other columns than the split has labels in that part",
            expected=f"{len(part.labels)} labels: {', '.join(part.labels)[:200]}",
            found=f"{len(meta.labels)} labels: {', '.join(meta.labels)[:200]}",
            remedy="write the columns in the split's order of labels",
        )
    used = episodes.episodes[: meta.episodes.count]
    targets = np.stack([part.targets_of(episode.query) for episode in used])
    return Targets(
        targets=targets,
        query=np.array([episode.query for episode in used]),
        support=tuple(episode.support for episode in used),
        support_targets=tuple(part.targets_of(episode.support) for episode in used),
        drawn_for=episodes.protocol.drawn_for(targets.shape[2], targets.shape[1]),
        origin="rebuilt",
    )


def _split(meta: ScoresMeta, place: SplitPlace, subset: Mapping[str, Any]) -> Split:
    from mlfsic_bench.evaluation.known_names import known_split
    from mlfsic_bench.evaluation.recall import remember_split
    from mlfsic_bench.splits.files import to_split
    from mlfsic_bench.splits.resolve import resolve_file

    content = resolve_file(
        place.split or known_split(meta.split.id, "--split FILE"),
        data_root=place.data_root,
        available_only=bool(subset.get("available_only")) and place.split is None,
        min_pool=subset.get("min_pool") if place.split is None else None,
    )
    split = _checked(to_split(content), meta)
    remember_split(content)  # so that the next command needs no option
    return split


def _checked(split: Split, meta: ScoresMeta) -> Split:
    """The split, if it is the one that the scores name, and official if they say so."""
    named = meta.split
    found = (split.plain_id, split.hash, split.dataset, split.rule, split.subset is not None)
    if found != (plain_id(named.id), named.hash, named.dataset, named.rule, named.subset):
        partial = (
            "; these are scores on part of its images: name the file that `splits build` wrote"
            if named.subset and not found[4]
            else ""
        )
        raise BenchError(
            "the split found is not the one the scores were made on",
            expected=f"{named.id} with hash {named.hash}, dataset {named.dataset}, "
            f"rule {named.rule}, {_share(named.subset)}",
            found=f"{split.id} with hash {split.hash}, dataset {split.dataset}, rule {split.rule}, "
            f"{_share(found[4])}",
            remedy="name the split the scores were made on, with --split and --data-root" + partial,
        )
    if named.differs_from_official == [] and split.differs_from_official:
        raise BenchError(
            "the scores say that their split is official; the annotations found are not",
            expected=f"{named.id}: annotations with the official counts of {named.dataset}",
            found=f"{split.id}: {in_short(split.differs_from_official)}",
            remedy="name a data root with the official annotations: --data-root ROOT",
        )
    return split


def _share(subset: bool) -> str:
    return "part of its images" if subset else "all images"


def _episodes(card: EpisodesMeta, split: Split, place: SplitPlace) -> EpisodeSet:
    from mlfsic_bench.episodes.files import find_episodes

    return find_episodes(
        card.drawn_by,
        split,
        card.part,
        count=card.total,
        hash=card.hash,
        file=place.episodes_file,
    )


def _check_set(card: EpisodesMeta, found: EpisodeSet) -> None:
    """BenchError unless these are the episodes that the scores name."""
    if found.hash != card.hash:  # of val: others are looked for by their hash
        raise BenchError(
            "the episodes found are not the ones the scores were made on",
            expected=f"{card.drawn_by.title}, part {card.part}, hash {card.hash}",
            found=f"{found.protocol.title}, part {found.part}, hash {found.hash}",
            remedy="score the selection episodes that the split has; val has no others",
        )
    total = len(found.episodes)
    if total != card.total or card.count > total:
        raise BenchError(
            "the scores state another number of episodes than their set has",
            expected=f"total {total}, and at most as many scored",
            found=f"total {card.total}, {card.count} scored",
            remedy="correct `episodes` in the description, or score the missing episodes",
        )
