"""Linear fine-tuning of 200 episodes: the heads of a chunk of episodes together. The peer is what a
script would do for each episode: torch.nn.Linear, BCE-with-logits, autograd and torch.optim.Adam,
40 full-batch steps; also with fused=True. 16 images of 2048 channels, 16 labels (the paper's COCO
episodes). The start of the heads is made before the clock runs, for both. Seconds on the wall.

    python benchmarks/bench_linear.py [--device cpu] [--rounds 3] [--episodes 200]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from goals import report
from mlfsic_baselines.heads.linear import CHUNK, tune_heads
from timing import clock_of, medians
from torch import Tensor

from mlfsic_bench.randomness import torch_generator

IMAGES, CHANNELS, LABELS, STEPS, LR = 16, 2048, 16, 40, 1e-3


def make(device: torch.device, episodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled features [E, s, c + 1] with ones, targets [E, s, L], heads [E, L, c + 1]."""
    g = torch_generator("bench", "linear")
    X = torch.rand(episodes, IMAGES, CHANNELS + 1, generator=g).square()
    X[:, :, -1] = 1
    Y = (torch.rand(episodes, IMAGES, LABELS, generator=g) < 0.05).float()
    Y += torch.eye(IMAGES, LABELS)
    bound = CHANNELS**-0.5
    W = bound * (2 * torch.rand(episodes, LABELS, CHANNELS + 1, generator=g) - 1)
    return X.to(device), Y.clamp(max=1).to(device), W.to(device)


def one_by_one(X: Tensor, Y: Tensor, W: Tensor, fused: bool) -> Tensor:
    tuned = []
    for x, y, w in zip(X[:, :, :-1], Y, W, strict=True):
        head = torch.nn.Linear(CHANNELS, LABELS, device=x.device)
        with torch.no_grad():
            head.weight.copy_(w[:, :-1])
            head.bias.copy_(w[:, -1])
        adam = torch.optim.Adam(head.parameters(), lr=LR, fused=fused)
        for _ in range(STEPS):
            adam.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(head(x), y).backward()
            adam.step()
        tuned.append(torch.cat([head.weight, head.bias[:, None]], 1).detach())
    return torch.stack(tuned)


def in_chunks(X: Tensor, Y: Tensor, W: Tensor, chunk: int) -> Tensor:
    parts = zip(X.split(chunk), Y.split(chunk), W.split(chunk), strict=True)
    return torch.cat([tune_heads(x, y, w, STEPS, LR) for x, y, w in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=200)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    X, Y, W = make(device, arguments.episodes)
    plain, chunks = "one by one, Adam", f"chunks of {CHUNK}, the package's"
    work: dict[str, Callable[[], Tensor]] = {
        plain: lambda: one_by_one(X, Y, W, fused=False),
        "one by one, Adam(fused)": lambda: one_by_one(X, Y, W, fused=True),
        "all at once": lambda: in_chunks(X, Y, W, len(X)),
        chunks: lambda: in_chunks(X, Y, W, CHUNK),
    }
    exact = one_by_one(X, Y, W, fused=False)
    seconds = medians(work, arguments.rounds, clock_of(arguments.device))
    print(f"{len(X)} episodes, {device}, {torch.get_num_threads()} threads")
    print(f"weights move by {(exact - W).abs().mean():.4f} on average")
    for name, function in work.items():
        ratio = seconds[plain] / seconds[name]
        error = (function() - exact).abs().max()
        print(f"{name:30}{1e3 * seconds[name]:8.0f} ms  {ratio:5.1f}x  differs by {error:.1e}")
    detail = f"{1e3 * seconds[chunks]:.0f} of {1e3 * seconds[plain]:.0f} ms"
    report("linear", seconds[plain] / seconds[chunks], detail)


if __name__ == "__main__":
    main()
