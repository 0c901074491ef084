"""The `constant` row: one score for every image and label."""

from __future__ import annotations

from torch import Tensor

from mlfsic_bench.methods.contract import Images, Method, Predictor, Support


class Constant(Method):
    """No authors: score(x, c) = 0 for every image x and label c.

    What the row is for: all scores are tied, so every AP is the prevalence, exactly, under a
    metric that treats ties rightly; one that sorts and counts gives anything up to 100 %. And
    sigmoid(0) = 0.5 is not above 0.5, so nothing is predicted: precision, recall and F1 are 0.
    """

    name = "constant"
    printed = "Constant"
    citation = "chance level; no paper"

    def adapt(self, support: Support) -> Predictor:
        """Scores float32 [q, L], all 0."""
        targets = support.targets

        def predictor(query: Images) -> Tensor:
            return targets.new_zeros(len(query), targets.shape[1])

        return predictor
