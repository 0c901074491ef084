"""Notes on scores that are sound in form and look wrong: ties, and numbers that are no logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TIED = 0.05  # share of tied scores from which on it is said


def notes_on_scores(
    scores: npt.NDArray[np.float32], decisions: npt.NDArray[np.bool_] | None
) -> list[str]:
    """One sentence for each thing that looks wrong in scores float32 [E, Q, L]."""
    notes = []
    tied = share_tied(scores)
    if tied >= TIED:
        notes.append(
            f"{100 * tied:.0f} % of scores are tied: another query image of the episode has the "
            "same score for the same label"
        )
    if decisions is None:
        notes += [note for note in (not_logits(scores),) if note]
    return notes


def share_tied(scores: npt.NDArray[np.float32]) -> float:
    """The share of scores [E, Q, L] that another image of their episode has for the same label."""
    ordered = np.sort(scores, axis=1)
    equal = ordered[:, 1:] == ordered[:, :-1]
    edge = np.zeros_like(equal[:, :1])
    return float((np.concatenate([equal, edge], 1) | np.concatenate([edge, equal], 1)).mean())


def not_logits(scores: npt.NDArray[np.float32]) -> str:
    """What is said of scores that are never below 0, where 0 is the threshold; or ''."""
    low, high = float(scores.min()), float(scores.max())
    if low < 0 or high == 0:
        return ""
    if high <= 1:
        return (
            "all scores lie in [0, 1]: they look like probabilities; a label is predicted where "
            "the score is above 0, so give logits, or a `decide`"
        )
    if low > 0:
        return "all scores are above 0: every label is predicted for every image; recall is 100 %"
    return ""
