"""What type checkers see of the front; mypy reads this file with the package."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor
from typing_extensions import assert_type

import mlfsic_bench as mb


class NearestMean(mb.Method):
    """Cosine-free nearest mean, as a user writes a method."""

    name = "nearest-mean"

    def adapt(self, support: mb.Support) -> mb.Predictor:
        """Scores by the product with the mean of each label's support images."""
        means = support.targets.T @ support.images.pooled()

        def predict(query: mb.Images) -> Tensor:
            return query.pooled() @ means.T

        return predict


def example(folder: str) -> mb.Comparison:
    """Every function of the front, with the types that a user relies on."""
    split = mb.load_split("scenes-12-6-6-v1")
    episodes = mb.load_episodes(split, shots=1, queries=4, count=2)
    features = mb.load_features(split, "scenes-small")
    shown = mb.iter_episodes(split, episodes, features)
    assert_type(shown, Iterator[mb.EpisodeData[mb.Images]])
    for episode in shown:
        assert_type(episode.query.pooled(), Tensor)
        assert episode.query_targets.dtype == np.bool_
    assert_type(mb.iter_episodes(split, episodes), Iterator[mb.EpisodeData[None]])
    results = mb.evaluate(
        [NearestMean, "protonet"], split=split, episodes=episodes, features=features, seeds=[0]
    )
    assert_type(results, mb.Results)
    scores = results.results[0].scores.scores
    card = mb.MethodCard("theirs", trains=False)
    path = mb.write_scores(f"{folder}/s.npz", scores, split=split, episodes=episodes, card=card)
    files = mb.load_results(path, split="scenes-12-6-6-v1")
    assert_type(files.table("latex"), str)
    values = mb.metrics.episode_metrics(scores, np.ones_like(scores))
    assert values["macro_recall"].shape == (2,)
    return mb.compare(results, against="protonet")
