"""The population that coverage_simulation.py draws its pools from: images, scores and the truth.

An image shows one label drawn evenly (`uneven`: with probability proportional to 1 / its place)
and each label with probability `others` times that label's share beside. Its latent
vector is the sum of its labels' unit directions, each with a log-normal strength, plus noise; its
brightness is one more number. The score of a query for a label is the dot product of its vector
with the normalised vector of the support image drawn for that label, plus the query's brightness,
which so moves its scores for all labels together. `kin` sets how alike the directions of two
neighbouring labels are. Nothing here knows of the intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.metrics.registry import episode_metrics
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.splits.split import Part

TRUTH_POOL, TRUTH_EPISODES, DIMENSIONS = 200_000, 20_000, 24
NAMES = ["macro_ap"]


@dataclass(frozen=True)
class Setting:
    """A population and the size of the pools drawn from it.

    Attributes
    ----------
    labels: L. pool: images a label, about. others: mean number of further labels of an image.
    noise: of the latent vectors. brightness: deviation of the shift that a query's scores share.
    kin: correlation of the directions of labels 2i and 2i + 1. replicates: pools drawn.
    uneven: the labels' shares are proportional to 1, 1/2, 1/3, ... instead of equal.
    bootstrap: whether the cluster bootstrap, which takes most of the time, is tried as well.
    """

    name: str
    labels: int
    pool: int
    others: float
    noise: float
    brightness: float
    kin: float
    replicates: int
    uneven: bool = False
    bootstrap: bool = True


class Population:
    """Draws images, and scores the episodes made of them."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        rng = np.random.default_rng(stream_seed("coverage", setting.name, "directions"))
        L = setting.labels
        own = rng.normal(size=(L, DIMENSIONS))
        shared = np.repeat(rng.normal(size=(L // 2, DIMENSIONS)), 2, axis=0)
        directions = np.sqrt(1 - setting.kin) * own + np.sqrt(setting.kin) * shared
        self.directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)

    def images(self, count: int, *key: str | int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(targets bool [n, L], vectors [n, d], brightness [n]) of n images."""
        rng = np.random.default_rng(stream_seed("coverage", self.setting.name, "images", *key))
        L = self.setting.labels
        if self.setting.uneven:
            share = 1 / np.arange(1, L + 1)
            share /= share.sum()
            targets = rng.random((count, L)) < self.setting.others * share
            targets[np.arange(count), rng.choice(L, size=count, p=share)] = True
        else:
            targets = rng.random((count, L)) < self.setting.others / L
            targets[np.arange(count), rng.integers(L, size=count)] = True
        strength = np.exp(0.4 * rng.normal(size=(count, L)))
        vectors = (targets * strength) @ self.directions
        vectors += self.setting.noise * rng.normal(size=vectors.shape)
        return targets, vectors, self.setting.brightness * rng.normal(size=count)

    def pool_size(self) -> int:
        """So many images that a label has about `pool` of them, on average over even labels."""
        s = self.setting
        return round(s.pool * s.labels / (1 + s.others * (s.labels - 1) / s.labels))

    def episodes(self, targets: np.ndarray, count: int, *key: str | int) -> np.ndarray:
        """int64 [count, L + 4 L]: rows of the pool, support then queries, by the protocol's law."""
        part = Part(
            tuple(f"label {i}" for i in range(targets.shape[1])),
            tuple(f"{i:07d}" for i in range(len(targets))),
            targets,
        )
        purpose = "/".join(str(one) for one in key)
        sampler = ONE_PER_LABEL.sampler(part, self.setting.name, f"coverage/{purpose}")
        return sampler.draw_rows(range(count))

    def scores(self, vectors: np.ndarray, brightness: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 [E, Q, L]."""
        support, query = rows[:, : self.setting.labels], rows[:, self.setting.labels :]
        s = vectors[support]
        s = s / np.linalg.norm(s, axis=2, keepdims=True)
        dots = np.einsum("eqd,eld->eql", vectors[query], s)
        return (dots + brightness[query][:, :, None]).astype(np.float32)

    def truth(self) -> tuple[float, float]:
        """Mean macro-AP over many episodes from a huge pool, and its standard error."""
        targets, vectors, brightness = self.images(TRUTH_POOL, "truth")
        rows = self.episodes(targets, TRUTH_EPISODES, "truth")
        values = []
        for block in np.array_split(rows, TRUTH_EPISODES // 500):
            scores = self.scores(vectors, brightness, block)
            y = targets[block[:, self.setting.labels :]]
            values.append(episode_metrics(scores, y, names=NAMES)["macro_ap"])
        value = np.concatenate(values)
        return float(value.mean()), float(value.std(ddof=1) / len(value) ** 0.5)
