"""The `random` row: scores that know nothing, to show where chance lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mlfsic_bench.methods.contract import Images, Method, Predictor, Support
from mlfsic_bench.randomness import splitmix64_array, stream_seed


class RandomScores(Method):
    """No authors: the chance level of ranking metrics, drawn.

    score(x, c) = 2 u - 1, with u uniform on [0, 1) and drawn from the stream keyed by (episode's
    seed, image id, label name). So an image's score depends neither on the other queries nor on
    the place of a label in the list, and the next episode scores the same image anew.

    What the row is for: its AP is the chance level, which is high on small query sets (expected
    macro-AP 11.8 % with 4 positives of 64 images, 26.7 % with 4 of 24). The mean score is 0, so
    about half of all labels are predicted: recall near 50 %, precision near the prevalence.

    Nothing is learnt; support images and features are not looked at.
    """

    name = "random"
    printed = "Random"
    citation = "chance level; no paper"

    def adapt(self, support: Support) -> Predictor:
        """Scores float32 [q, L] in [-1, 1)."""
        labels = _words("label", support.labels)
        device = support.targets.device

        def predictor(query: Images) -> Tensor:
            images = _words(f"image/{support.seed}", query.ids)
            bits = splitmix64_array(images[:, None], labels[None, :])
            # 24 bits are what a float32 in [0, 1) holds exactly
            u = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
            return torch.from_numpy(2 * u - 1).to(device)

        return predictor


def _words(kind: str, names: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """uint64 [n]: one word for each name."""
    return np.array([stream_seed("random", kind, name) for name in names], dtype=np.uint64)
