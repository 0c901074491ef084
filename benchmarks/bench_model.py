"""A training step of the paper's model at 52 and at 16 labels, on maps of 7x7x2048. The peer is the
same equations with the loop over labels and the loop over heads that they suggest, and
whole-matrix operations inside, for the default model only. Seconds on the wall.

    python benchmarks/bench_model.py [--repeats 3] [--device cpu]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import torch
from goals import report
from timing import clock_of, medians
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.methods.contract import Images, Support, TrainingEpisode
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    source = Maps(torch.device(arguments.device))
    params = WordGuidedParams(dropout=0.0)
    model = WordGuidedAttention(params, CHANNELS, D_W).to(source.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
    print(f"{source.device}, {torch.get_num_threads()} threads")
    for labels, carry in ((52, 0.033), (16, 0.04)):
        support = support_of(source, labels, 1, carry)
        generator = torch.Generator().manual_seed(2)
        ids = torch.randint(IMAGES, (4 * labels,), generator=generator)
        targets = (torch.rand(4 * labels, labels, generator=generator) < 0.05).float()
        query = Images(tuple(str(int(i)) for i in ids), source)
        episode = TrainingEpisode(support, query, targets.to(source.device))

        def step(loss: Callable[[], Tensor]) -> float:
            optimiser.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            optimiser.step()
            return float(value.detach())

        def package(episode: TrainingEpisode = episode, absorbed: bool = True) -> float:
            model.absorbed = absorbed
            return step(lambda: episode_loss(model, episode, None))

        def loops(episode: TrainingEpisode = episode) -> float:
            return step(lambda: loop_loss(model, episode))

        work = {"loops": loops, "dense form": lambda: package(absorbed=False), "package": package}
        seconds = medians(work, arguments.repeats, clock_of(arguments.device))
        peer, mine = seconds["loops"], seconds["package"]
        print(f"{labels} labels, {int(support.targets.sum())} pairs of a support image and a label")
        for name, value in seconds.items():
            print(f"  {name:<12}{1e3 * value:9.1f} ms  {peer / value:5.1f}x")
        detail = f"{1e3 * mine:.0f} of {1e3 * peer:.0f} ms"
        report(f"step-{labels}", peer / mine, detail)


if __name__ == "__main__":
    main()
