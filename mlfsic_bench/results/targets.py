"""The answers that scores are held against: made anew from split and episodes, never handed in.

Whoever hands in scores names a split and a set of episodes by their hashes. The targets of the
query images follow from these two alone, so they are computed here. Only a run in its own folder,
on a split whose images don't ship and with no data root named, is scored with the answers that it
stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    from mlfsic_bench.episodes.episode import EpisodeSet
    from mlfsic_bench.evaluation.meta import EpisodesMeta, ScoresMeta
    from mlfsic_bench.results.runs import FinishedRun
    from mlfsic_bench.splits.split import Split

Bool = npt.NDArray[np.bool_]
MOST_DRAWN = 10_000  # episodes drawn to check a hash; larger sets come as a file


@dataclass(frozen=True)
class SplitPlace:
    """Where split and episodes are found; each as in `mlfsic-bench run`.

    Without `split` the id in the scores names a shipped one. `data_root` None takes MLFSIC_DATA.
    """

    split: str | None = None
    data_root: Path | None = None
    available_only: bool = False
    min_pool: int | None = None
    episodes_file: Path | None = None

    @property
    def named(self) -> bool:
        """Whether anything says where to find them."""
        return self != SplitPlace()


@dataclass(frozen=True, eq=False)
class Truth:
    """The answers to E episodes, and the images they are made of.

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


def can_rebuild(meta: ScoresMeta) -> bool:
    """Whether the split of these scores needs no data: it ships with its images or is drawn."""
    from mlfsic_bench.data.registry import is_synthetic
    from mlfsic_bench.splits.shipped import shipped_file, shipped_ids

    card = meta.split
    if card.id not in shipped_ids() or card.subset:
        return False
    content = shipped_file(card.id)
    return content.images is not None or is_synthetic(content.dataset)


def stored_truth(run: FinishedRun) -> Truth:
    """The answers a run left in its folder; `read_run` has checked their hash and cards."""
    answers = run.answers
    return Truth(
        targets=answers.targets.astype(np.bool_),
        query=answers.query,
        support=None,
        support_targets=None,
        drawn_for=_drawn_for(answers.meta.episodes.protocol, answers.targets.shape),
        origin="stored",
    )


def rebuild_truth(meta: ScoresMeta, place: SplitPlace) -> Truth:
    """The answers to the episodes that `meta` names, from the split that it names.

    Raises BenchError when split or episodes found are not those of the hashes in `meta`.
    """
    return truth_on(_split(meta, place), meta, place)


def truth_on(split: Split, meta: ScoresMeta, place: SplitPlace | None = None) -> Truth:
    """As `rebuild_truth`, on a split that is open and known to be the one `meta` names.

    Of `place` only the file of the episodes counts.
    """
    novel, episodes = split.novel, _episodes(meta.episodes, split, place or SplitPlace())
    if list(novel.labels) != meta.labels:
        raise BenchError(
            "the scores have other columns than the split has novel labels",
            expected=f"{len(novel.labels)} labels: {', '.join(novel.labels)[:200]}",
            found=f"{len(meta.labels)} labels: {', '.join(meta.labels)[:200]}",
            remedy="write the columns in the split's order of labels",
        )
    used = episodes.episodes[: meta.episodes.count]
    targets = np.stack([novel.targets_of(episode.query) for episode in used])
    return Truth(
        targets=targets,
        query=np.array([episode.query for episode in used]),
        support=tuple(episode.support for episode in used),
        support_targets=tuple(novel.targets_of(episode.support) for episode in used),
        drawn_for=_drawn_for(episodes.protocol, targets.shape),
        origin="rebuilt",
    )


def _split(meta: ScoresMeta, place: SplitPlace) -> Split:
    from mlfsic_bench.evaluation.known_names import known_split
    from mlfsic_bench.splits.resolve import resolve_split

    card = meta.split
    split = resolve_split(
        place.split or known_split(card.id, "--split FILE"),
        data_root=place.data_root,
        available_only=place.available_only,
        min_pool=place.min_pool,
    )
    found = (split.id, split.hash, split.dataset, split.rule, split.subset is not None)
    if found != (card.id, card.hash, card.dataset, card.rule, card.subset):
        limited = (
            ""
            if card.subset == found[4]
            else " (the scores say: "
            + (
                "a subset; add --available-only or --min-pool as in the run)"
                if card.subset
                else "the whole split; leave --available-only and --min-pool out)"
            )
        )
        raise BenchError(
            "the split found is not the one the scores were made on",
            expected=f"{card.id} with hash {card.hash}, dataset {card.dataset}, rule {card.rule}",
            found=f"{split.id} with hash {split.hash}, dataset {split.dataset}, rule {split.rule}",
            remedy="name the split the scores were made on, with --split and --data-root" + limited,
        )
    return split


def _episodes(card: EpisodesMeta, split: Split, place: SplitPlace) -> EpisodeSet:
    found = _found_episodes(card, split, place)
    total, known = len(found.episodes), (found.protocol, found.part, found.shots)
    if found.hash != card.hash or known != (card.protocol, card.part, card.shots):
        raise BenchError(
            "the episodes found are not the ones the scores were made on",
            expected=f"{card.protocol}, part {card.part}, hash {card.hash}",
            found=f"{found.protocol}, part {found.part}, hash {found.hash}",
            remedy="name the file of the episodes that were scored: --episodes-file FILE",
        )
    if total != card.total or card.count > total:
        raise BenchError(
            "the scores state another number of episodes than their set has",
            expected=f"total {total}, and at most as many scored",
            found=f"total {card.total}, {card.count} scored",
            remedy="correct `episodes` in the description, or score the missing episodes",
        )
    return found


def _found_episodes(card: EpisodesMeta, split: Split, place: SplitPlace) -> EpisodeSet:
    from mlfsic_bench.episodes.any_file import read_any
    from mlfsic_bench.episodes.files import sample_episode_set, shipped_episode_set
    from mlfsic_bench.episodes.run_files import own_runs

    if place.episodes_file is not None:
        return read_any(place.episodes_file, split)
    if card.shots is not None:
        return own_runs(split, card.shots)
    shipped = shipped_episode_set(split, "novel")
    if shipped is not None and shipped.hash == card.hash:
        return shipped
    if card.total > MOST_DRAWN:
        raise BenchError(
            f"a set of {card.total} episodes is not drawn here",
            expected=f"at most {MOST_DRAWN} episodes, or their file",
            found=str(card.total),
            remedy="name their file: --episodes-file FILE",
        )
    return sample_episode_set(split, "novel", card.total)


def _drawn_for(protocol: str, shape: tuple[int, ...]) -> npt.NDArray[np.int64] | None:
    """Under `one_per_label` the queries stand label by label, as many for each."""
    _, queries, labels = shape
    if not protocol.startswith("one_per_label-") or queries % labels:
        return None
    return np.arange(queries, dtype=np.int64) // (queries // labels)
