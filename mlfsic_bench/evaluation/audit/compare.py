"""What a run stored and what comes when it is scored again: do they agree, and if not, why?

A failed audit is named after the change in how an episode is scored that gives the stored scores.
Every question is put to a process that is fresh again. A method can be of more than one kind; the
first that fits is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.episodes.protocol import Episode
from mlfsic_bench.evaluation.audit.fresh import Fresh, stop
from mlfsic_bench.evaluation.parts import PartView
from mlfsic_bench.evaluation.predict import CHUNK, block_size
from mlfsic_bench.evaluation.record import AuditKind
from mlfsic_bench.methods.contract import Support
from mlfsic_bench.randomness import splitmix64_array, stream_seed

QUERIES = 24  # images of an episode that are scored again
TOLERANCE = 1e-3  # of the range of a label's stored scores in the episode
# Of a live network whose products are rounded to 8 or 10 bits: how many images are computed at once
# may choose another order of its sums.
ROUNDED = 3e-2
NUDGES = 4  # of the last bits of the features, to see what rounding does to scores
Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Stored:
    """What a run stored: its episodes, scores float32 [E, Q, L], decisions bool or None.

    Rows are in the order of each episode's query. `tolerance` is how far what comes may be from
    it, of the range of a label's scores.
    """

    episodes: tuple[Episode, ...]
    scores: Float32
    decisions: Bools | None
    tolerance: float = TOLERANCE


@dataclass(frozen=True, eq=False)
class Found:
    """What came for some queries of an episode: scores float32 [n, L], decisions bool or None."""

    episode: int
    ids: tuple[str, ...]
    scores: Float32
    decisions: Bools | None


@dataclass(frozen=True)
class Difference:
    """How far what came is from what was stored.

    Attributes
    ----------
    episode: its number. image: the query image that differs most.
    scores: the largest difference, relative to the range of its label's stored scores.
    flips: how many decisions differ though no score lies at its threshold.
    tolerance: how large `scores` may be.
    """

    episode: int
    image: str
    scores: float
    flips: int
    tolerance: float = TOLERANCE

    @property
    def same(self) -> bool:
        """Whether scores agree within the tolerance, and decisions do."""
        return self.scores <= self.tolerance and not self.flips


def compare(stored: Stored, found: Found, earlier: Found | None = None) -> Difference:
    """The difference of what came from what was stored, or from what came `earlier`.

    It is relative to the range of a label's scores over the whole query of the episode, since the
    order within a label is what counts; where all are equal, to their size.
    """
    place = {image_id: row for row, image_id in enumerate(stored.episodes[found.episode].query)}
    rows = [place[image_id] for image_id in found.ids]
    every = stored.scores[found.episode].astype(np.float64)
    yes = None if stored.decisions is None else stored.decisions[found.episode]
    if earlier is not None:  # in the place of what was stored
        before = [place[image_id] for image_id in earlier.ids]
        every[before] = earlier.scores
        if yes is not None and earlier.decisions is not None:
            yes = yes.copy()
            yes[before] = earlier.decisions
        rows = rows[: len(before)]  # those that both have
    count = len(rows)
    spread = spreads(every)
    relative = np.abs(every[rows] - found.scores[:count]) / spread
    worst = int(relative.max(axis=1).argmax())
    own = None if found.decisions is None else found.decisions[:count]
    if yes is None or own is None:  # decisions on one side alone
        flips = 0 if yes is own else relative.size
    else:
        flips = _flips(every, yes, rows, own, stored.tolerance * spread)
    largest = float(relative.max())
    return Difference(found.episode, found.ids[worst], largest, flips, stored.tolerance)


def spreads(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64 [L]: the range of each label's scores [q, L]; their size, or 1, where it is 0."""
    spread = scores.max(axis=0) - scores.min(axis=0)
    size = np.abs(scores).max(axis=0)
    return np.where(spread > 0, spread, np.where(size > 0, size, 1.0))


def _flips(
    every: npt.NDArray[np.float64],
    yes: Bools,
    rows: list[int],
    own: Bools,
    margin: npt.NDArray[np.float64],
) -> int:
    """How many decisions of the rows differ from `yes`, but for those at a threshold.

    A score that lies as near to its threshold as scores may differ can fall on either side.
    """
    lowest_yes = np.where(yes, every, np.inf).min(axis=0)
    highest_no = np.where(yes, -np.inf, every).max(axis=0)
    at_threshold = (np.abs(every) <= margin) | (
        (lowest_yes > highest_no) & (lowest_yes - highest_no <= margin)
    ) & ((every == lowest_yes) | (every == highest_no))
    return int(((yes[rows] != own) & ~at_threshold[rows]).sum())


@dataclass(frozen=True, eq=False)
class Bench:
    """A run that is scored again.

    Attributes
    ----------
    stored: what must come out again. view: the novel part, from which episodes are made.
    key: of the run; it chooses the queries.
    fresh: opens a session with the method from its saved state; `nudge` as in `Fresh`.
    seconds: after which the audit scores no further queries of an episode.
    transductive: whether the scores may depend on the whole query, which is then scored at once.
    """

    stored: Stored
    view: PartView
    key: str
    fresh: Callable[..., Fresh]
    seconds: float
    transductive: bool = False

    def alone(self, session: Fresh, episode: int) -> Found:
        """The episode adapted to by itself, its chosen queries one by one in another order.

        All at once in another order where the method is transductive.
        """
        ids = sorted(self.stored.episodes[episode].query)
        order = [ids[i] for i in shuffled(len(ids), "audit", self.key, "queries", episode)]
        support = self.view.support(episode, self.stored.episodes[episode])
        blocks = [tuple(order)] if self.transductive else [(one,) for one in order[:QUERIES]]
        return _found(session, episode, [support], 0, blocks, seconds=self.seconds)

    def block(
        self, session: Fresh, found: Found, *, back: bool = False, beside: int = 1, **how: bool
    ) -> Found:
        """The block of queries in which the worst one of an episode was scored; `back`: reversed.

        `beside`: after adapting to the episodes of its group of so many, `together` or in turn.
        """
        ids = sorted(self.stored.episodes[found.episode].query)
        size = block_size(self.transductive)
        at = ids.index(self.difference(found).image) // size * size
        block = ids[at : at + size]
        first = found.episode // beside * beside
        numbers = range(first, min(first + beside, len(self.stored.episodes)))
        supports = [self.view.support(i, self.stored.episodes[i]) for i in numbers]
        blocks = [tuple(reversed(block) if back else block)]
        return _found(session, first, supports, found.episode - first, blocks, **how)

    def fits(self, scored: Callable[[Fresh], Found]) -> bool:
        """Whether the stored scores come when a fresh process scores in this way."""
        with self.fresh() as session:
            return self.difference(scored(session)).same

    def difference(self, found: Found) -> Difference:
        """From what was stored."""
        return compare(self.stored, found)

    def rounding(self, episode: int) -> float:
        """The largest difference that the last bits of the features make to an episode's scores.

        Each time it is the only episode of a fresh process.
        """

        def once(nudge: int | None) -> Found:
            with self.fresh(nudge=nudge) as session:
                return self.alone(session, episode)

        plain = once(None)
        return max(compare(self.stored, once(i), plain).scores for i in range(NUDGES))

    def repeats(self, found: Sequence[Found]) -> bool:
        """Whether the same in the same order gives these scores again in another process."""
        with self.fresh() as session:
            again = [self.alone(session, one.episode) for one in found]
        return all(
            compare(self.stored, other, one).same for one, other in zip(found, again, strict=True)
        )


def _found(
    session: Fresh,
    first: int,
    supports: Sequence[Support],
    which: int,
    blocks: Sequence[tuple[str, ...]],
    **how: Any,
) -> Found:
    scores, decisions = session.score(first, supports, which, blocks, **how)
    ids = [image_id for block in blocks for image_id in block]
    return Found(first + which, tuple(ids[: len(scores)]), scores, decisions)


def explained_by_rounding(bench: Bench, found: Sequence[Found]) -> float | None:
    """How far the last bits of the features alone move scores, if that explains the differences.

    A method that trains for many steps on each support, or chooses among near equals, can turn the
    last bit of a feature into a difference beyond the tolerance, and then the order of a sum does
    so too. None where the differences are larger than that, or are others each time.
    """
    worst = max((bench.difference(one) for one in found), key=lambda one: one.scores)
    if not bench.repeats(found[: _first_bad(bench, found) + 1]):
        return None
    rounding = bench.rounding(worst.episode)
    return rounding if agree(bench, found, 2 * rounding) else None


def agree(bench: Bench, found: Sequence[Found], tolerance: float) -> bool:
    """Whether what came is what was stored, to this tolerance."""
    wider = replace(bench, stored=replace(bench.stored, tolerance=tolerance))
    return all(wider.difference(one).same for one in found)


def _first_bad(bench: Bench, found: Sequence[Found]) -> int:
    return next(i for i, one in enumerate(found) if not bench.difference(one).same)


def diagnose(bench: Bench, found: Sequence[Found]) -> tuple[AuditKind, str]:
    """(kind, the evidence for it) of an audit that found these, in this order, and has failed."""
    bad = [one for one in found if not bench.difference(one).same]
    first = min(bad, key=lambda one: one.episode)
    if not bench.repeats(found[: _first_bad(bench, found) + 1]):
        return "unkeyed randomness", "scored once more in the same way, it gave other scores again"
    if bench.fits(lambda session: bench.alone(session, first.episode)):
        return (
            "memory between episodes",
            "the stored scores come when no other episode is adapted to before it",
        )
    if bench.fits(lambda session: bench.block(session, first)):
        if not bench.transductive and bench.fits(
            lambda session: bench.block(session, first, back=True)
        ):
            return (
                "batch statistics over the query",
                "the stored scores come when the whole query is scored at once, in any order, "
                "and not when an image is scored alone",
            )
        return (
            "order of the query",
            "the stored scores come when the query images stand in the evaluation's order, and not "
            "in another",
        )
    together = bench.fits(lambda one: bench.block(one, first, beside=CHUNK, together=True))
    if together and not bench.fits(lambda one: bench.block(one, first, beside=CHUNK)):
        return (
            "pooled supports",
            f"the stored scores come when `adapt_all` gets all {CHUNK} supports of the "
            "evaluation's call, and not when `adapt` gets them one by one",
        )
    if together or first.episode > 0:
        return (
            "memory between episodes",
            "the stored scores come only after other episodes have been adapted to or scored",
        )
    stop()  # another process has another order of sets
    if not bench.repeats([first]):
        return "unkeyed randomness", "another process with the same seeds gave other scores"
    return (
        "state that was not saved",
        "not even the first episode gives the stored scores, adapted to alone or with those beside "
        "it: the run's process knew something that `state()` does not hold",
    )


def shuffled(count: int, *stream: str | int) -> list[int]:
    """The numbers below `count` in an order drawn from a named stream."""
    numbers = splitmix64_array(
        np.array(stream_seed(*stream), np.uint64), np.arange(count, dtype=np.uint64)
    )
    return [int(i) for i in np.argsort(numbers, kind="stable")]
