"""The networks of `laso`: set operations on pooled features, their pairs and losses, heads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import batch_norm, leaky_relu, mse_loss
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.scoring import dropout
from mlfsic_bench.randomness import splitmix64_array, stream_seeds

SLOPE = 0.2  # of every LeakyReLU of the original
NORM_EPS, NORM_MOMENTUM = 1e-5, 0.1

Operation = Literal["subtraction", "intersection", "union"]
ANALYTIC: dict[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    "subtraction": lambda a, b: (a - b).relu(),
    "intersection": torch.minimum,
    "union": torch.add,
}
ON_SETS: dict[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    "subtraction": lambda A, B: A * (1 - B),
    "intersection": torch.minimum,
    "union": torch.maximum,
}


def uniform(shape: tuple[int, ...], fan_in: int, generator: Generator) -> Tensor:
    """Uniform on [-1, 1) / sqrt(fan_in), as torch's Linear starts."""
    return (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(fan_in)


def _linear(c_in: int, c_out: int, generator: Generator, bias: bool = False) -> nn.Linear:
    # without a bias where batch normalisation follows, which would take it off again
    layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, c_in, c_out, bias=bias
    )
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.copy_(uniform(tuple(tensor.shape), c_in, generator))
    return layer


class Residual(nn.Module):
    """A set operation that corrects its analytic counterpart (the ResNet recipe of the code).

    concat(a, b) -> Linear, norm, LeakyReLU -> `layers` times [Linear, norm, + op(a, b), LeakyReLU]
    -> Linear, ReLU, all c wide; op is relu(a - b), min(a, b) or a + b.
    """

    def __init__(self, operation: Operation, c: int, layers: int, generator: Generator) -> None:
        super().__init__()
        self.analytic = ANALYTIC[operation]
        widths = [2 * c, *[c] * layers]
        self.linears = nn.ModuleList(_linear(width, c, generator) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm1d(c) for _ in widths)
        self.out = _linear(c, c, generator, bias=True)

    def forward(self, a: Tensor, b: Tensor, generator: Generator | None) -> Tensor:
        """[n, c] and [n, c] to [n, c]; nothing is dropped."""
        x, term = torch.cat([a, b], 1), self.analytic(a, b)
        for k, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            x = norm(linear(x))
            x = leaky_relu(x if k == 0 else x + term, SLOPE)
        made: Tensor = self.out(x)
        return made.relu()


class Generators(nn.Module):
    """The generator printed in the LaSO paper: no analytic term.

    concat(a, b) -> twice [Linear d, norm, LeakyReLU, dropout] -> Linear c -> Tanh (if `tanh`).
    d is c, and 4 c for the subtraction (2048 and 8192 in the code, whose c is 2048).
    """

    def __init__(
        self, operation: Operation, c: int, p: float, tanh: bool, generator: Generator
    ) -> None:
        super().__init__()
        self.p, self.tanh = p, tanh
        d = 4 * c if operation == "subtraction" else c
        self.linears = nn.ModuleList(_linear(width, d, generator) for width in (2 * c, d))
        self.norms = nn.ModuleList(nn.BatchNorm1d(d) for _ in range(2))
        self.out = _linear(d, c, generator, bias=True)

    def forward(self, a: Tensor, b: Tensor, generator: Generator | None) -> Tensor:
        """[n, c] and [n, c] to [n, c]; dropout is on with a generator."""
        x = torch.cat([a, b], 1)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = dropout(leaky_relu(norm(linear(x)), SLOPE), self.p, generator)
        made: Tensor = self.out(x)
        return made.tanh() if self.tanh else made


class SetOperations(nn.Module):
    """The three networks, made by `make(operation)`, and what the losses ask of them."""

    def __init__(self, make: Callable[[Operation], nn.Module]) -> None:
        super().__init__()
        self.subtraction, self.intersection = make("subtraction"), make("intersection")
        self.union = make("union")

    def loss(
        self,
        a: Tensor,
        b: Tensor,
        A: Tensor,
        B: Tensor,
        classify: Callable[[Tensor], Tensor],
        weights: tuple[float, float],
        generator: Generator | None,
    ) -> Tensor:
        """The sum of the original's losses on n pairs, for a fixed classifier.

        a, b: [n, c] features; A, B: [n, L] their label sets; classify: [m, c] to logits [m, L];
        weights: of the classification terms and of the mean squared errors.

        Both orders of an operation go through its network as one batch and share its statistics:
        nine outputs, each of both orders, are the original's eighteen.
        """
        S, inter, U = self.subtraction, self.intersection, self.union
        n = len(a)
        x, y = torch.cat([a, b]), torch.cat([b, a])
        X, Y = torch.cat([A, B]), torch.cat([B, A])
        sub, cut, join = S(x, y, generator), inter(x, y, generator), U(x, y, generator)
        # (a \ b) \ b, a \ (b n a), a \ (a n b), each followed by its mirror image
        other = cut.roll(n, 0)
        again = S(torch.cat([sub, x, x]), torch.cat([y, other, cut]), generator).chunk(3)
        # (a u b) u b, and a composed anew: (a \ (b n a)) u (a n b)
        join_again, composed = U(torch.cat([join, again[1]]), torch.cat([y, cut]), generator).chunk(
            2
        )
        cut_again = inter(cut, y, generator)

        sets = {name: operate(X, Y) for name, operate in ON_SETS.items()}
        claims = [
            (composed, X),
            *((out, sets["subtraction"]) for out in (sub, *again)),
            *((out, sets["intersection"]) for out in (cut, cut_again)),
            *((out, sets["union"]) for out in (join, join_again)),
        ]
        # the mean over two orders, twice: the sum that the original takes
        classes = 2 * sum(bce(classify(out), target) for out, target in claims)
        errors = 2 * (mse_loss(composed, x) + sum(mse_loss(out, sub) for out in again))
        symmetry = sum(mse_loss(*out.chunk(2)) for out in (cut, join))
        return weights[0] * classes + weights[1] * (errors + symmetry)


def draw_pairs(Y: npt.NDArray[np.bool_], pairs: int, seed: int) -> npt.NDArray[np.int64]:
    """Positions [pairs, 2] of two different images that share a label, in a drawn order.

    Y: bool [n, L]. The shared label goes round all labels that two images carry, so rare labels
    come as often as common ones; the two images are drawn from those that carry it.
    """
    pools = [np.flatnonzero(column) for column in Y.T]
    pools = [pool for pool in pools if len(pool) > 1]
    if not pools:
        raise BenchError(
            "laso finds no pair of base images that shares a label",
            expected="a base label that two images carry",
            found=f"{len(Y)} images and {Y.shape[1]} labels, none of them shared",
            remedy="use a base part with more images, or choose augment=none",
        )
    index = np.arange(pairs, dtype=np.uint64)
    seeds = stream_seeds(["laso/pairs", seed], range(3))
    first, second, order = (splitmix64_array(np.array([s], np.uint64), index) for s in seeds)
    sizes = np.array([len(pool) for pool in pools], np.uint64)
    starts = np.cumsum(sizes) - sizes
    label = np.arange(pairs) % len(pools)
    size = sizes[label]
    i = first % size
    j = (i + 1 + second % (size - 1)) % size
    flat, start = np.concatenate(pools), starts[label]
    found = np.stack([flat[start + i], flat[start + j]], 1)[np.argsort(order)]
    return found.astype(np.int64)


def start_head(
    c: int, layers: int, rows: Sequence[Generator], generator: Generator
) -> list[Tensor]:
    """A head before training: for each layer W [c, c], gamma [c], beta [c]; last V [L, c + 1].

    `rows` has a generator for each label, so that a label starts alike wherever it stands;
    gamma is normal about 1 with deviation 0.02.
    """
    head = []
    for _ in range(layers):
        W = uniform((c, c), c, generator)
        gamma = 1 + 0.02 * torch.randn(c, generator=generator)
        head += [W, gamma, torch.zeros(c)]
    return [*head, torch.stack([uniform((c + 1,), c, row) for row in rows])]


class _Product(torch.autograd.Function):
    """x W^T of each episode: x [E, n, c], W [E, c, c].

    Autograd's own gradient of W.mT lies transposed, and its copy takes longer than the product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor) -> Tensor:
        ctx.save_for_backward(x, W)
        return torch.bmm(x, W.mT)

    @staticmethod
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor | None, Tensor]:
        x, W = ctx.saved_tensors
        return torch.bmm(dz, W) if ctx.needs_input_grad[0] else None, torch.bmm(dz.mT, x)


class Heads:
    """E few-shot classifiers side by side, each of its own episode.

    `layers` times [Linear c, batch normalisation, LeakyReLU, dropout except after the last], then
    Linear to the labels; with no layers a linear classifier. A linear layer before a normalisation
    has no bias, which the normalisation would take off again.
    """

    def __init__(self, starts: Sequence[list[Tensor]], p: float) -> None:
        self.p = p
        self.weights = [torch.stack(column) for column in zip(*starts, strict=True)]
        self.layers = len(self.weights) // 3
        shape = self.weights[-1].shape
        like = self.weights[-1].new_zeros(shape[0], shape[2] - 1)
        self.statistics = [(like.clone(), like + 1) for _ in range(self.layers)]

    def logits(self, x: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
        """[E, n, c] to [E, n, L]. With generators, one an episode, it is a training step's."""
        for k in range(self.layers):
            z = _Product.apply(x, self.weights[3 * k])
            x = leaky_relu(self._normalised(z, k, generators is not None), SLOPE)
            if generators is not None and k < self.layers - 1:
                x = torch.stack([dropout(x[e], self.p, g) for e, g in enumerate(generators)])
        V = self.weights[-1]
        return torch.baddbmm(V[:, None, :, -1], x, V[..., :-1].mT)

    def _normalised(self, z: Tensor, k: int, training: bool) -> Tensor:
        """z [E, n, c] after the normalisation of layer k, each episode by itself.

        By the batch's statistics in training, which moves the running ones, else by the latter.
        """
        E, n, c = z.shape
        given = (*self.statistics[k], *self.weights[3 * k + 1 : 3 * k + 3])
        mean, var, gamma, beta = (tensor.view(E * c) for tensor in given)
        flat = z.transpose(0, 1).reshape(n, E * c)
        flat = batch_norm(flat, mean, var, gamma, beta, training, NORM_MOMENTUM, NORM_EPS)
        return flat.view(n, E, c).transpose(0, 1)

    def of(self, e: int) -> Heads:
        """The classifier of episode e alone."""
        alone = Heads([[w[e].detach() for w in self.weights]], self.p)
        alone.statistics = [(m[e : e + 1], v[e : e + 1]) for m, v in self.statistics]
        return alone
