"""Ratios of the paper's model to its equations transcribed with loops, in one run.

python benchmarks/bench_model.py [--repeats 5] [--threads 0] [--device cpu]

The peer is written here once more for the default model only, with the loop over labels and the
loop over heads that the equations suggest and whole-matrix operations inside. Prints medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.methods.contract import Images, Support, TrainingEpisode
from mlfsic_bench.methods.word_guided.method import WordGuidedAttentionMethod
from mlfsic_bench.methods.word_guided.model import WordGuidedAttention, episode_loss
from mlfsic_bench.methods.word_guided.params import WordGuidedParams

CHANNELS, GRID, D_W, IMAGES = 2048, (7, 7), 300, 1127


class Maps(FeatureSource):
    """A feature source over random maps in memory; fp16 as in a store."""

    def __init__(self, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        self.channels, self.grid, self.dim, self.device = CHANNELS, GRID, CHANNELS, device
        u = torch.rand(IMAGES, CHANNELS, *GRID, generator=generator).sub_(0.5).relu_()
        self.maps, self.means = u.half().to(device), u.mean((2, 3)).to(device)

    def local(self, ids: Sequence[str]) -> Tensor:
        return self.maps[torch.tensor([int(i) for i in ids])].float()

    def pooled(self, ids: Sequence[str]) -> Tensor:
        return self.means[torch.tensor([int(i) for i in ids])]


def support_of(source: Maps, labels: int, seed: int, carry: float) -> Support:
    generator = torch.Generator().manual_seed(seed)
    ids = tuple(str(int(i)) for i in torch.randperm(IMAGES, generator=generator)[:labels])
    chance = torch.stack(  # an image has the same labels in every episode
        [torch.rand(labels, generator=torch.Generator().manual_seed(int(i))) for i in ids]
    )
    targets = (torch.eye(labels) + (chance < carry) > 0).float().to(source.device)
    embeddings = torch.randn(labels, D_W, generator=torch.Generator().manual_seed(5)).to(
        source.device
    )
    return Support(Images(ids, source), targets, tuple(map(str, range(labels))), embeddings, seed)


def loop_prototypes(m: WordGuidedAttention, support: Support) -> Tensor:
    u, w_hat, p = support.images.local().flatten(2), support.embeddings @ m.A_text.T, []
    for c in range(len(w_hat)):
        u_c = u[support.targets[:, c] > 0].transpose(1, 2).reshape(-1, CHANNELS)
        u_hat, heads = u_c @ m.A_visual.T, []
        for j in range(m.params.n_a):
            q, k, v = m.Q[j] @ w_hat[c], u_hat @ m.K[j].T, u_hat @ m.V[j].T
            heads.append(torch.softmax(k @ q / m.params.d_a**0.5, 0) @ v)
        p.append(F.linear(F.gelu(F.linear(torch.cat(heads), m.W_1, m.b_1)), m.W_2, m.b_2))
    return torch.stack(p)


def loop_loss(m: WordGuidedAttention, episode: TrainingEpisode) -> Tensor:
    def logits(images: Images, p: Tensor) -> Tensor:
        return m.params.lam * F.normalize(images.pooled() @ m.A_visual.T) @ F.normalize(p).T

    s, support = F.binary_cross_entropy_with_logits, episode.support
    cmw = s(logits(support.images, support.embeddings @ m.A_text.T), support.targets)
    return cmw + s(logits(episode.query, loop_prototypes(m, support)), episode.query_targets)


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def report(what: str, peer: float, ours: float, target: str = "") -> None:
    print(f"{what:<52} {1e3 * peer:9.1f} ms {1e3 * ours:9.1f} ms  {peer / ours:5.1f}x {target}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    source = Maps(torch.device(arguments.device))
    params = WordGuidedParams(dropout=0.0)
    method = WordGuidedAttentionMethod(params)
    method.model = model = WordGuidedAttention(params, CHANNELS, D_W).to(source.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
    print(f"{'':<52} {'loops':>12} {'ours':>12}")
    for labels, carry in ((52, 0.033), (16, 0.04)):
        support = support_of(source, labels, 1, carry)
        generator = torch.Generator().manual_seed(2)
        ids = torch.randint(IMAGES, (4 * labels,), generator=generator)
        targets = (torch.rand(4 * labels, labels, generator=generator) < 0.05).float()
        query = Images(tuple(str(int(i)) for i in ids), source)
        episode = TrainingEpisode(support, query, targets.to(source.device))

        def step(loss: Callable[[], Tensor]) -> None:
            optimiser.zero_grad(set_to_none=True)
            loss().backward()
            optimiser.step()

        def ours(episode: TrainingEpisode = episode) -> None:
            step(lambda: episode_loss(model, episode, None))

        def loops(episode: TrainingEpisode = episode) -> None:
            step(lambda: loop_loss(model, episode))

        peer = median_seconds(loops, arguments.repeats)
        pairs = int(support.targets.sum())
        what = f"training step, {labels} labels, {pairs} pairs"
        report(what, peer, median_seconds(ours, arguments.repeats), "(target 6x)")
        model.absorbed = False
        report("  the same, dense form", peer, median_seconds(ours, arguments.repeats))
        model.absorbed = True
    supports = [support_of(source, 16, 100 + e, 0.04) for e in range(200)]

    few = supports[:20]  # the loops are timed on these and scaled by ten

    def loop_few() -> list[Tensor]:
        with torch.no_grad():
            return [loop_prototypes(model, support) for support in few]

    scale, repeats = len(supports) / len(few), max(1, arguments.repeats // 3)
    peer = scale * median_seconds(loop_few, repeats)
    each = scale * median_seconds(lambda: [method.adapt(support) for support in few], repeats)
    report("prototypes of 200 episodes of 16, one by one", peer, each)
    together = median_seconds(lambda: method.adapt_all(supports), repeats)
    report("prototypes of 200 episodes of 16, all at once", peer, together, "(target 6x)")
    difference = max(
        float((a.prototypes - b).abs().max() / b.abs().max())  # type: ignore[attr-defined]
        for a, b in zip(method.adapt_all(supports), loop_few(), strict=False)
    )
    print(f"largest relative difference of a prototype from the loops': {difference:.1e}")


if __name__ == "__main__":
    main()
