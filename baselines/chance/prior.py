"""The `prior` row: how often a label occurs, and nothing about the image."""

from __future__ import annotations

import torch
from torch import Tensor

from mlfsic_bench.methods.contract import Images, Method, Predictor, Support


class Prior(Method):
    """No authors: every image gets each label's share in the support.

    With k_c of the s support images carrying label c, the share is (k_c + 1/2) / (s + 1)
    (half a count on either side keeps it off 0 and 1), and the score is its logit,

        score(x, c) = log((k_c + 1/2) / (s - k_c + 1/2)),

    the same for every image x. A label is predicted where more than half of the support has it.

    What the row is for: within a label all scores are tied, so its macro-AP is the prevalence,
    exactly; across labels they differ, so its micro-AP shows what knowing the frequent labels
    alone is worth. A method that does not beat it has not looked at the image.
    """

    name = "prior"
    printed = "Prior"
    citation = "chance level; no paper"

    def adapt(self, support: Support) -> Predictor:
        """Scores float32 [q, L], each row the same."""
        k = support.targets.sum(0)
        s = support.targets.shape[0]
        scores = torch.log((k + 0.5) / (s - k + 0.5))

        def predictor(query: Images) -> Tensor:
            return scores.expand(len(query), -1).clone()

        return predictor
