"""Linear fine-tuning of 200 episodes: all heads in chunks against one by one, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/bench_linear.py [--device cpu] [--rounds 5]

The peer is what a script would do for each episode: torch.nn.Linear, BCE-with-logits, autograd and
torch.optim.Adam, 40 full-batch steps; also with fused=True. 16 images of 2048 channels, 16 labels
(the paper's COCO episodes). The start of the heads is drawn before the clock runs, for both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from mlfsic_baselines.heads.linear import CHUNK, tune_heads
from torch import Tensor

from mlfsic_bench.randomness import torch_generator

EPISODES, IMAGES, CHANNELS, LABELS, STEPS, LR = 200, 16, 2048, 16, 40, 1e-3


def make(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled features [E, s, c + 1] with ones, targets [E, s, L], heads [E, L, c + 1]."""
    g = torch_generator("bench", "linear")
    X = torch.rand(EPISODES, IMAGES, CHANNELS + 1, generator=g).square()
    X[:, :, -1] = 1
    Y = (torch.rand(EPISODES, IMAGES, LABELS, generator=g) < 0.05).float()
    Y += torch.eye(IMAGES, LABELS)
    bound = CHANNELS**-0.5
    W = bound * (2 * torch.rand(EPISODES, LABELS, CHANNELS + 1, generator=g) - 1)
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
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    X, Y, W = make(device)
    candidates: dict[str, Callable[[], Tensor]] = {
        "one by one, Adam": lambda: one_by_one(X, Y, W, fused=False),
        "one by one, Adam(fused)": lambda: one_by_one(X, Y, W, fused=True),
        "all at once": lambda: in_chunks(X, Y, W, EPISODES),
        f"chunks of {CHUNK} (ours)": lambda: in_chunks(X, Y, W, CHUNK),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    results: dict[str, Tensor] = {}
    for _ in range(arguments.rounds):  # interleaved, so that other load falls on all alike
        for name, function in candidates.items():
            start = time.perf_counter()
            results[name] = function()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    peer = statistics.median(times["one by one, Adam"])
    exact = results["one by one, Adam"]
    print(f"{EPISODES} episodes, {device}, {torch.get_num_threads()} threads")
    print(f"weights move by {(exact - W).abs().mean():.4f} on average")
    for name, values in times.items():
        median = statistics.median(values)
        error = (results[name] - exact).abs().max()
        print(f"{name:26} {1e3 * median:8.0f} ms  {peer / median:5.1f}x  differs by {error:.1e}")


if __name__ == "__main__":
    main()
