"""What a failed audit looks like: which change in how an episode is scored gives the stored scores.

Every question is put to a process that is fresh again. A method can be more than one of these; the
first that fits is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mlfsic_bench.evaluation.audit.compare import Difference, Found, Stored, compare
from mlfsic_bench.evaluation.audit.fresh import Chunk, Task, stop
from mlfsic_bench.evaluation.parts import PartView
from mlfsic_bench.evaluation.predict import BLOCK, CHUNK
from mlfsic_bench.evaluation.record import AuditKind
from mlfsic_bench.randomness import splitmix64_array, stream_seed

QUERIES = 24  # images of an episode that are scored again


class Session(Protocol):
    """A fresh process, as `audit_fresh.Fresh` is one."""

    def score(self, task: Task) -> Chunk:
        """Scores [n, L], and decisions or None, of a task."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A run that is scored again.

    Attributes
    ----------
    stored: what must come out again. view: the novel part, from which episodes are made.
    key: of the run; it chooses the queries.
    fresh: opens a session with the method from its saved state.
    seconds: after which the audit scores no further queries of an episode.
    """

    stored: Stored
    view: PartView
    key: str
    fresh: Callable[[], AbstractContextManager[Session]]
    seconds: float

    def queries(self, episode: int) -> tuple[str, ...]:
        """Query images of an episode, chosen by the run's key and in an order of its own."""
        ids = sorted(self.stored.episodes[episode].query)
        order = shuffled(len(ids), "audit", self.key, "queries", episode)
        return tuple(ids[i] for i in order[:QUERIES])

    def alone(self, session: Session, episode: int) -> Found:
        """The episode adapted to by itself, its chosen queries one by one."""
        ids = self.queries(episode)
        blocks = [(image_id,) for image_id in ids]
        return self._found(session, episode, blocks, 1, seconds=self.seconds)

    def whole(self, session: Session, found: Found, *, reverse: bool = False) -> Found:
        """The episode by itself, with the block of queries in which its worst one was scored."""
        return self._found(session, found.episode, [self._block(found, reverse)], 1)

    def chunk(self, session: Session, found: Found, *, together: bool) -> Found:
        """The same after adapting to the episodes that were adapted together with it."""
        blocks = [self._block(found, False)]
        return self._found(session, found.episode, blocks, CHUNK, together)

    def difference(self, found: Found) -> Difference:
        """From what was stored."""
        return compare(self.stored, found)

    def _block(self, found: Found, reverse: bool) -> tuple[str, ...]:
        ids = sorted(self.stored.episodes[found.episode].query)
        at = ids.index(self.difference(found).image) // BLOCK * BLOCK
        block = ids[at : at + BLOCK]
        return tuple(reversed(block) if reverse else block)

    def _found(
        self,
        session: Session,
        episode: int,
        blocks: Sequence[tuple[str, ...]],
        company: int,
        together: bool = False,
        seconds: float | None = None,
    ) -> Found:
        first = episode // company * company
        numbers = range(first, min(first + company, len(self.stored.episodes)))
        supports = [self.view.support(i, self.stored.episodes[i]) for i in numbers]
        task = Task(first, supports, episode - first, blocks, together, seconds)
        scores, decisions = session.score(task)
        ids = [image_id for block in blocks for image_id in block]
        return Found(episode, tuple(ids[: len(scores)]), scores, decisions)


def diagnose(bench: Bench, found: Sequence[Found]) -> tuple[AuditKind, str]:
    """(kind, the evidence for it) of an audit that found these, in this order, and has failed."""
    bad = [one for one in found if not bench.difference(one).same]
    first = min(bad, key=lambda one: one.episode)
    if not _repeats(bench, found[: found.index(bad[0]) + 1]):
        return "unkeyed randomness", "scored once more in the same way, it gave other scores again"
    with bench.fresh() as session:
        if bench.difference(bench.alone(session, first.episode)).same:
            return (
                "memory between episodes",
                "the stored scores come when no other episode is adapted to before it",
            )
    with bench.fresh() as session:
        by_itself = bench.difference(bench.whole(session, first)).same
    if by_itself:
        with bench.fresh() as session:
            if bench.difference(bench.whole(session, first, reverse=True)).same:
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
    return _company(bench, first)


def _company(bench: Bench, first: Found) -> tuple[AuditKind, str]:
    """What it is when an episode by itself does not give the stored scores."""
    with bench.fresh() as session:
        together = bench.difference(bench.chunk(session, first, together=True)).same
    if together:
        with bench.fresh() as session:
            in_turn = bench.difference(bench.chunk(session, first, together=False)).same
        if not in_turn:
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
    if not _repeats(bench, [first]):
        return "unkeyed randomness", "another process with the same seeds gave other scores"
    return (
        "state that was not saved",
        "not even the first episode gives the stored scores, adapted to alone or with its company: "
        "the run's process knew something that `state()` does not hold",
    )


def _repeats(bench: Bench, found: Sequence[Found]) -> bool:
    """Whether the same questions in the same order get the same answers in another process."""
    with bench.fresh() as session:
        again = [bench.alone(session, one.episode) for one in found]
    return all(
        compare(_as_stored(bench.stored, one), _first(other, len(one.ids))).same
        for one, other in zip(found, again, strict=True)
    )


def _first(found: Found, count: int) -> Found:
    """What came for the first `count` queries; of those there were not, nothing was asked."""
    decisions = None if found.decisions is None else found.decisions[:count]
    return Found(found.episode, found.ids[:count], found.scores[:count], decisions)


def _as_stored(stored: Stored, found: Found) -> Stored:
    """What was stored, with what was found in its place."""
    place = {image_id: row for row, image_id in enumerate(stored.episodes[found.episode].query)}
    rows = [place[image_id] for image_id in found.ids]
    scores, decisions = stored.scores.copy(), None
    scores[found.episode, rows] = found.scores
    if stored.decisions is not None and found.decisions is not None:
        decisions = stored.decisions.copy()
        decisions[found.episode, rows] = found.decisions
    return Stored(stored.episodes, scores, decisions)


def shuffled(count: int, *stream: str | int) -> list[int]:
    """The numbers below `count` in an order drawn from a named stream."""
    words = splitmix64_array(
        np.array(stream_seed(*stream), np.uint64), np.arange(count, dtype=np.uint64)
    )
    return [int(i) for i in np.argsort(words, kind="stable")]
