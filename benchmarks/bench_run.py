"""What a run waits for beside its own work: the store, the inputs of a next method, images again.

- `store-open`: opening a store of 123,287 images, CPU of this process.
- `next-method`: in a process that has made a run, CPU of the run of another method less that of its
  fitting, scoring and audit.
- `evaluation`: word-guided attention on 200 episodes of 16 labels, in the harness's chunks, beside
  one pass in which all episodes are adapted together, so that each image is looked at once.

All data are made here, in a temporary folder. Usage: python benchmarks/bench_run.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: CPU, not threads waiting

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from goals import report
from official import write_store

ROUNDS = 3
IMAGES, LABELS, EPISODES = 1900, 16, 200  # unique images of COCO's novel episodes, as was measured
CHANNELS, GRID, WORDS = 1280, (7, 7), 300


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def store_open(folder: Path) -> None:
    from mlfsic_bench.features.store.store import FeatureStore

    write_store(folder / "store")
    rows = len(FeatureStore(folder / "store"))
    seconds = statistics.median(cpu(lambda: FeatureStore(folder / "store")) for _ in range(ROUNDS))
    report("store-open", 1000 * seconds, f"{rows:,} images")


def next_method(folder: Path) -> None:
    from mlfsic_bench.evaluation import runner
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.evaluation.resources import ResourceCache

    own = {"seconds": 0.0}

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            start = time.process_time()
            try:
                return function(*args)
            finally:
                own["seconds"] += time.process_time() - start

        return call

    def run(method: str, number: int, opened: ResourceCache) -> None:
        plan = RunPlan(
            method,
            "scenes-12-6-6-v1",
            "scenes-small",
            episodes=20,
            device="cpu",
            cache=folder / "cache",
            out=folder / f"run-{method}-{number}",
        )
        runner.run_method(plan, opened=opened)

    with contextlib.ExitStack() as patches:
        for name in ("evaluate", "fitted_method", "audit_run"):
            wrapped = timed(getattr(runner, name))
            patches.enter_context(mock.patch.object(runner, name, wrapped))
        values, whole = [], []
        for number in range(ROUNDS):
            opened = ResourceCache()
            run("protonet", number, opened)
            own["seconds"] = 0.0
            whole.append(cpu(lambda k=number, o=opened: run("ridge", k, o)))  # type: ignore[misc]
            values.append(whole[-1] - own["seconds"])
    detail = f"{statistics.median(whole):.2f} s in all"
    report("next-method", statistics.median(values), detail)


def evaluation(folder: Path) -> None:
    import torch

    from mlfsic_bench.embeddings.label_embeddings import make_label_embeddings
    from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
    from mlfsic_bench.evaluation import predict
    from mlfsic_bench.evaluation.parts import PartView
    from mlfsic_bench.features.sources import StoredFeatures
    from mlfsic_bench.features.store.manifest import Manifest
    from mlfsic_bench.features.store.store import FeatureStore
    from mlfsic_bench.features.store.writer import StoreWriter
    from mlfsic_bench.methods.limited import LimitedFeatures
    from mlfsic_bench.methods.registry import make_method
    from mlfsic_bench.methods.word_guided.method import WordGuidedAttentionMethod
    from mlfsic_bench.splits.split import Part

    rng = np.random.default_rng(0)
    ids = tuple(f"i{k:05d}" for k in range(IMAGES))
    with StoreWriter(folder / "novel", Manifest("d", "b", "0" * 64, "t", CHANNELS, GRID)) as writer:
        for start in range(0, IMAGES, 100):
            maps = rng.random((100, GRID[0] * GRID[1], CHANNELS), dtype=np.float32)
            writer.add(ids[start : start + 100], ["unknown"] * 100, maps, maps.mean(axis=1))
    targets = np.zeros((IMAGES, LABELS), dtype=bool)
    targets[np.arange(IMAGES), np.arange(IMAGES) % LABELS] = True
    targets |= rng.random(targets.shape) < 0.06  # nearly two labels an image, as in COCO
    labels = tuple(f"label {k}" for k in range(LABELS))
    part = Part(labels, ids, targets)
    episodes = tuple(ONE_PER_LABEL.sampler(part, "0" * 64, "novel").draw(range(EPISODES)))
    words = make_label_embeddings(labels, rng.standard_normal((LABELS, WORDS)), "synthetic")
    source = LimitedFeatures(StoredFeatures(FeatureStore(folder / "novel")))
    view = PartView(part, "novel", "0" * 64, 0, source, words)
    fitted = make_method("word-guided-attention", {}, None)
    assert isinstance(fitted, WordGuidedAttentionMethod)
    generator = torch.Generator().manual_seed(0)
    state = fitted.network(fitted.params, CHANNELS, WORDS, generator).state_dict()

    def scores(chunk: int, number: int) -> None:
        method = make_method("word-guided-attention", {}, None)
        method.load_state({f"model.{name}": one for name, one in state.items()})
        parts = folder / f"parts-{chunk}-{number}"
        parts.mkdir()
        with mock.patch.object(predict, "CHUNK", chunk):
            predict.evaluate(method, view, episodes, parts, "key", lambda line: None)

    source.local(ids[:300])  # the files are in memory
    times: dict[int, list[float]] = {predict.CHUNK: [], EPISODES: []}
    scores(EPISODES, -1)
    for number in range(ROUNDS):
        for chunk, found in times.items():
            found.append(cpu(lambda c=chunk, n=number: scores(c, n)))  # type: ignore[misc]
    chunks, once = (statistics.median(found) for found in times.values())
    unique = len({one for e in episodes for one in (*e.support, *e.query)})
    detail = f"{chunks:.2f} s of {once:.2f} s, {unique:,} unique images"
    report("evaluation", chunks / once, detail)


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    for measured in (store_open, next_method, evaluation):
        with temporary() as place:
            measured(place)
