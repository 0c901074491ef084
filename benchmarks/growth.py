"""How time and memory grow with images, labels, episodes and shots (a part of `make bench-full`).

    python benchmarks/growth.py [--small]

Each size of a series is measured in a process of its own, forked from this one, on synthetic
inputs of the paper's shapes (maps of 7x7x2048, 300 numbers a label). What is timed is the code that
runs use. Time is CPU time, the smallest of some repetitions.

An episode of L labels has L K support images, L Q query images, and so L L Q scores. So a cost that
is linear in the data is quadratic in L. Each series says what its data is, and its exponent is the
slope of log time by log *data*, both above the smallest size: the cost of a start does not count.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mlfsic_baselines.heads.linear import tune_heads
from mlfsic_baselines.prototypes.protonet import ProtoNet

from mlfsic_bench.embeddings.label_embeddings import make_label_embeddings
from mlfsic_bench.episodes.feasibility import build_pools
from mlfsic_bench.episodes.per_label import EpisodeSampler, KPerLabel
from mlfsic_bench.evaluation.parts import PartView
from mlfsic_bench.evaluation.predict import evaluate
from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.methods.contract import Method, TrainingEpisode
from mlfsic_bench.methods.word_guided.method import WordGuidedAttentionMethod
from mlfsic_bench.methods.word_guided.model import WordGuidedAttention, episode_loss
from mlfsic_bench.methods.word_guided.params import WordGuidedParams
from mlfsic_bench.metrics.intervals import episode_images, image_interval
from mlfsic_bench.metrics.registry import episode_metrics, query_influence
from mlfsic_bench.splits.split import Part

LINEAR = 1.15  # largest exponent that is called linear: sorting is n log n, and times are noisy
MEMORY = 1536.0  # most MB, plus the batch
QUERIES = 4
CHANNELS, GRID, DIMENSION = 2048, (7, 7), 300
MAP_MB = 4 * CHANNELS * GRID[0] * GRID[1] / 1e6
DIFFERENT = 128  # images with maps of their own; more images have them again
Work = Callable[[], object]


@dataclass(frozen=True)
class Point:
    """One measurement: the size, how much data that is, CPU seconds, peak MB of the process."""

    size: int
    data: float
    seconds: float
    peak: float


@dataclass(frozen=True)
class Series:
    """A cost that is measured at several sizes.

    Attributes
    ----------
    what: the work. along: what the size is: images, labels, episodes, shots.
    sizes: from the smallest to the largest.
    prepare: size -> the work, ready to be timed; None where the points are measured elsewhere.
    data, unit: size -> how much data it is, and what that is; by default the size itself.
    batch: size -> MB that the images of a batch need whatever the code does.
    """

    what: str
    along: str
    sizes: tuple[int, ...] = ()
    prepare: Callable[[int], Work] | None = None
    data: Callable[[int], float] = float
    unit: str = ""
    batch: Callable[[int], float] = lambda size: 0.0


class Maps(FeatureSource):
    """Random maps in memory."""

    channels, grid, dim, device = CHANNELS, GRID, CHANNELS, torch.device("cpu")

    @cached_property
    def _maps(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(DIFFERENT, CHANNELS, *GRID, generator=generator).half()

    @cached_property
    def _means(self) -> torch.Tensor:
        return torch.rand(DIFFERENT, CHANNELS, generator=torch.Generator().manual_seed(1))

    def local(self, ids: Sequence[str]) -> torch.Tensor:
        return self._maps[_rows(ids)].float()

    def pooled(self, ids: Sequence[str]) -> torch.Tensor:
        return self._means[_rows(ids)]


def _rows(ids: Sequence[str]) -> torch.Tensor:
    return torch.tensor([int(name) % DIFFERENT for name in ids])


def make_part(images: int, labels: int) -> Part:
    """A part whose images show 2.8 labels on average."""
    rng = np.random.default_rng(0)
    targets = rng.random((images, labels)) < min(0.5, 2.8 / labels)
    targets[:, -1] |= ~targets.any(axis=1)
    names = tuple(f"label {i}" for i in range(labels))
    return Part(names, tuple(f"{i:07d}" for i in range(images)), targets)


def sampler_of(part: Part, shots: int = 1) -> EpisodeSampler:
    return KPerLabel.of(shots=shots, queries=QUERIES).sampler(part, "0" * 64, "novel")


def draw(images: int, labels: int, episodes: int, shots: int = 1) -> Work:
    """Sort a part into pools, and draw episodes from them."""
    part = make_part(images, labels)
    sampler = sampler_of(part, shots)  # keeps its pools, so they are made once more below
    return lambda: (build_pools(part.targets), sampler.draw(range(episodes)))


def predict(method: Method, labels: int, episodes: int, shots: int) -> Work:
    """Adapt to episodes and score their queries, as a run does."""
    part = make_part(max(4_000, 40 * labels), labels)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(labels, DIMENSION)).astype(np.float32)
    embeddings = make_label_embeddings(part.labels, vectors, "random")
    view = PartView(part, "novel", "0" * 64, 0, Maps(), embeddings)
    drawn = tuple(sampler_of(part, shots).draw(range(episodes)))

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            evaluate(method, view, drawn, Path(folder), "0" * 64, lambda text: None)

    return work


def word_guided() -> WordGuidedAttentionMethod:
    """The paper's model with weights as they start."""
    method = WordGuidedAttentionMethod(WordGuidedParams())
    method.model = WordGuidedAttention(method.params, CHANNELS, DIMENSION).eval()
    return method


def training_step(labels: int) -> Work:
    """A training step of the paper's model."""
    part = make_part(40 * labels + 1000, labels)
    vectors = np.random.default_rng(1).normal(size=(labels, DIMENSION)).astype(np.float32)
    embeddings = make_label_embeddings(part.labels, vectors, "random")
    view = PartView(part, "train/0", "0" * 64, 0, Maps(), embeddings)
    drawn = sampler_of(part).draw([0])[0]
    query = view.query(drawn)
    targets = torch.as_tensor(part.targets_of(query.ids)).float()
    episode = TrainingEpisode(view.support(0, drawn), query, targets)
    model = WordGuidedAttention(WordGuidedParams(dropout=0.0), CHANNELS, DIMENSION)
    return lambda: episode_loss(model, episode, None).backward()


def heads(labels: int, shots: int) -> Work:
    """Fine-tune the linear head of one episode, 40 steps."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, labels * shots, CHANNELS + 1, generator=generator)
    y = (torch.rand(1, labels * shots, labels, generator=generator) < 2.8 / labels).float()
    w = torch.zeros(1, labels, CHANNELS + 1)
    tune_heads(x, y, w, 1, 1e-3)  # the first call imports what the optimiser needs
    return lambda: tune_heads(x, y, w, 40, 1e-3)


def scores_of(labels: int, episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets [E, Q L, L]."""
    rng = np.random.default_rng(0)
    shape = (episodes, QUERIES * labels, labels)
    targets = rng.random(shape) < min(0.5, 2.8 / labels)
    targets[:, np.arange(shape[1]), np.arange(shape[1]) % labels] = True
    return (rng.normal(size=shape) + targets).astype(np.float32), targets


def metrics(labels: int, episodes: int) -> Work:
    s, y = scores_of(labels, episodes)
    return lambda: episode_metrics(s, y)


def intervals(labels: int, episodes: int) -> Work:
    """All metrics without each query image, and the interval over images of one of them."""
    s, y = scores_of(labels, episodes)
    part = make_part(max(4_000, 40 * labels), labels)
    drawn = sampler_of(part).draw(range(episodes))
    images = episode_images([e.query for e in drawn], [e.support for e in drawn])

    def work() -> None:
        influence = query_influence(s, y)["macro_ap"]
        image_interval(episode_metrics(s, y)["macro_ap"], influence, images)

    return work


def cells(labels: int, episodes: int = 1) -> float:
    """Scores of these episodes."""
    return float(episodes * QUERIES * labels * labels)


IMAGES, LABELS, EPISODES, SHOTS = (
    (2_000, 20_000, 200_000),
    (5, 16, 50, 160, 500),
    (20, 200, 2_000),
    (1, 2, 5, 20),
)
SERIES = (
    Series("draw 200 episodes of 16", "images", IMAGES, lambda n: draw(n, 16, 200)),
    Series("draw 20 episodes", "labels", LABELS, lambda n: draw(20_000, n, 20)),
    Series("metrics of 5 episodes", "labels", LABELS, lambda n: metrics(n, 5), cells, "scores"),
    Series("intervals of 5 episodes", "labels", LABELS, lambda n: intervals(n, 5), cells, "scores"),
    Series(
        *("predict, protonet, 5 episodes", "labels", LABELS),
        *(lambda n: predict(ProtoNet(), n, 5, 1), cells, "scores"),
    ),
    Series(
        *("training step of the paper's model", "labels", LABELS, training_step),
        *(float, "", lambda n: 2 * n * MAP_MB),
    ),
    Series(
        *("linear head of an episode", "labels", LABELS, lambda n: heads(n, 1)),
        *(lambda n: float(n * n), "support targets"),
    ),
    Series("draw episodes of 16", "episodes", EPISODES, lambda n: draw(40_000, 16, n)),
    Series("metrics of 16 labels", "episodes", EPISODES, lambda n: metrics(16, n)),
    Series("intervals of 16 labels", "episodes", EPISODES, lambda n: intervals(16, n)),
    Series(
        *("predict, protonet, 16 labels", "episodes", EPISODES),
        lambda n: predict(ProtoNet(), 16, n, 1),
    ),
    Series("draw 200 episodes of 16", "shots", SHOTS, lambda n: draw(40_000, 16, 200, n)),
    Series(
        *("predict, protonet, 20 episodes of 16", "shots", SHOTS),
        lambda n: predict(ProtoNet(), 16, 20, n),
    ),
    Series(
        *("predict, paper's model, 5 episodes of 16", "shots", SHOTS),
        *(lambda n: predict(word_guided(), 16, 5, n), float, "", lambda n: 2 * 5 * 16 * n * MAP_MB),
    ),
    Series("linear head of 16 labels", "shots", SHOTS, lambda n: heads(16, n)),
)


def measure(series: Series) -> list[Point]:
    """All sizes of a series, each in a child process."""
    points = []
    for size in series.sizes:
        seconds, peak = _in_child(series.prepare, size)
        points.append(Point(size, series.data(size), seconds, peak))
    return points


def _in_child(prepare: Callable[[int], Work], size: int) -> tuple[float, float]:
    """(CPU seconds of the work, peak MB of the process that did it)."""
    sys.stdout.flush()
    read, write = os.pipe()
    child = os.fork()  # torch has no threads yet in this process, so a child may compute
    if child == 0:
        try:
            torch.set_num_threads(1)
            work = prepare(size)
            times: list[float] = []
            while len(times) < 7 and sum(times) < 0.3:
                start = time.process_time()
                work()
                times.append(time.process_time() - start)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            os.write(write, json.dumps([min(times), peak]).encode())
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the size {size} failed: see above")
    seconds, peak = json.loads(said)
    return seconds, peak


def exponent(points: Sequence[Point]) -> float:
    """Slope of log seconds by log data, both above those of the smallest size; 0 for a constant.

    What differs from the smallest size by less than a tenth is noise: such sizes are left out, and
    the last two sizes have at least that difference.
    """
    first, last = points[0], points[-1]
    noise = max(0.001, first.seconds / 10)
    if last.seconds - first.seconds < 2.5 * noise:
        return 0.0
    risen = [p for p in points[1:] if p.seconds - first.seconds > noise]
    if len(risen) == 1:
        risen = [*points[-2:-1], last] if len(points) > 2 else risen
    x = [math.log(p.data - first.data) for p in risen]
    y = [math.log(max(p.seconds - first.seconds, noise)) for p in risen]
    if len(risen) == 1:  # nothing but two sizes: the slope from the smallest
        return math.log(last.seconds / first.seconds) / math.log(last.data / first.data)
    return float(np.polyfit(x, y, 1)[0])


def verdict(series: Series, points: Sequence[Point]) -> str:
    """One line: the growth, the peak, and whether both are within the goals."""
    slope = exponent(points)
    excess = max(p.peak - series.batch(p.size) for p in points)
    growth = "above linear" if slope > LINEAR else "linear or below" if slope else "constant"
    data = f" in {series.unit or series.along}"
    peak = max(p.peak for p in points)
    memory = "" if excess <= MEMORY else f", ABOVE {MEMORY:.0f} MB plus the batch"
    sizes = f"{points[0].size:,} to {points[-1].size:,} {series.along}"
    times = " / ".join(f"{p.seconds:.3g}" for p in points)
    return (
        f"{series.what:<42} {sizes:<27} {times} s: exponent {slope:.2f}{data}, {growth}; "
        f"peak {peak:,.0f} MB{memory}"
    )


def summary(lines: Sequence[str]) -> str:
    """How many of these verdicts are beyond a goal."""
    bad = sum("above linear" in line or "ABOVE" in line for line in lines)
    return f"{len(lines)} series, {bad} above linear or above {MEMORY:.0f} MB plus a batch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="only the two smallest sizes")
    small = parser.parse_args().small
    lines = []
    for series in SERIES:
        chosen = replace(series, sizes=series.sizes[:2]) if small else series
        lines.append(verdict(chosen, measure(chosen)))
        print(lines[-1], flush=True)
    print(summary(lines))


if __name__ == "__main__":
    main()
