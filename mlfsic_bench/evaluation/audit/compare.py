"""What a run stored and what came when it was scored again: do they agree?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.episodes.protocol import Episode

TOLERANCE = 1e-3  # of the range of a label's stored scores in the episode
Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Stored:
    """What a run stored: its episodes, scores float32 [E, Q, L], decisions bool or None.

    Rows are in the order of each episode's query.
    """

    episodes: tuple[Episode, ...]
    scores: Float32
    decisions: Bools | None


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
    """

    episode: int
    image: str
    scores: float
    flips: int

    @property
    def same(self) -> bool:
        """Whether scores agree within TOLERANCE, and decisions do."""
        return self.scores <= TOLERANCE and not self.flips


def compare(stored: Stored, found: Found) -> Difference:
    """The difference of what came from what was stored, of the queries that were scored again.

    It is relative to the range of a label's scores over the whole query of the episode, since the
    order within a label is what counts; where all are equal, to their size.
    """
    episode = stored.episodes[found.episode]
    place = {image_id: row for row, image_id in enumerate(episode.query)}
    rows = [place[image_id] for image_id in found.ids]
    every = stored.scores[found.episode].astype(np.float64)
    spread = spreads(every)
    relative = np.abs(every[rows] - found.scores) / spread
    worst = int(relative.max(axis=1).argmax())
    flips = 0
    if stored.decisions is not None or found.decisions is not None:
        flips = _flips(stored, found, rows, every, spread)
    return Difference(found.episode, found.ids[worst], float(relative.max()), flips)


def spreads(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64 [L]: the range of each label's scores [q, L]; their size, or 1, where it is 0."""
    spread = scores.max(axis=0) - scores.min(axis=0)
    size = np.abs(scores).max(axis=0)
    return np.where(spread > 0, spread, np.where(size > 0, size, 1.0))


def _flips(
    stored: Stored,
    found: Found,
    rows: list[int],
    every: npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
) -> int:
    if stored.decisions is None or found.decisions is None:
        return found.scores.size  # decisions on one side alone
    differ = stored.decisions[found.episode][rows] != found.decisions
    # A score that lies as near to its threshold as scores may differ can fall on either side.
    yes = stored.decisions[found.episode]
    lowest_yes = np.where(yes, every, np.inf).min(axis=0)
    highest_no = np.where(yes, -np.inf, every).max(axis=0)
    margin = TOLERANCE * spread
    at_threshold = (np.abs(every) <= margin) | (
        (lowest_yes > highest_no) & (lowest_yes - highest_no <= margin)
    ) & ((every == lowest_yes) | (every == highest_no))
    return int((differ & ~at_threshold[rows]).sum())
