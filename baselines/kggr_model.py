"""The network of `kggr`: semantic decoupling, a gated graph over features, one over classifiers.

A re-implementation from descriptions of KGGR and of SSGRL, from which it grew; not the original.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from mlfsic_bench.randomness import torch_generator

CHUNK = 4_000_000  # numbers in the largest intermediate when no gradients are wanted: 16 MB


class GatedGraph(nn.Module):
    """A gated graph neural network over nodes with states h [..., N, d].

        a_i = [sum_j A_ij h_j ; sum_j A_ji h_j]                        messages, [2d]
        z = sigmoid(W_z a + U_z h + b_z)    r = sigmoid(W_r a + U_r h + b_r)
        c = tanh(W_c a + U_c (r * h) + b_c)         h <- (1 - z) * h + z * c

    (Li et al., Gated Graph Sequence Neural Networks, ICLR 2016.) The output joins the last state
    with the first: o = tanh(O [h_T ; h_0] + b_O), or without tanh where `squash` is False.
    """

    def __init__(self, d: int, d_out: int, generator: Generator, squash: bool = True) -> None:
        super().__init__()
        self.squash = squash
        self.W = _weights(generator, 3 * d, 2 * d)  # rows: z, r, c
        self.U = _weights(generator, 2 * d, d)  # rows: z, r
        self.U_c = _weights(generator, d, d)
        self.b = nn.Parameter(torch.zeros(3 * d))
        self.O = _weights(generator, d_out, 2 * d)
        self.b_O = nn.Parameter(torch.zeros(d_out))

    def step(self, h: Tensor, A: Tensor) -> Tensor:
        """One round of messages: the next states, float [..., N, d]."""
        a = torch.cat([A @ h, A.T @ h], -1)
        x_z, x_r, x_c = linear(a, self.W, self.b).chunk(3, -1)
        u_z, u_r = linear(h, self.U).chunk(2, -1)
        z, r = torch.sigmoid(x_z + u_z), torch.sigmoid(x_r + u_r)
        c = torch.tanh(x_c + linear(r * h, self.U_c))
        return (1 - z) * h + z * c

    def forward(self, h_0: Tensor, A: Tensor, steps: int) -> Tensor:
        """Outputs float [..., N, d_out] after `steps` rounds from h_0 [..., N, d] on A [N, N]."""
        h = h_0
        for _ in range(steps):
            h = self.step(h, A)
        o = linear(torch.cat([h, h_0], -1), self.O, self.b_O)
        return torch.tanh(o) if self.squash else o


class KGGRNetwork(nn.Module):
    """All that base training learns, with the base label vectors and their co-occurrence.

    c channels, d_w dimensions of label vectors, B base labels, L all labels of a graph.

        a_lp = q^T P tanh(U f_p * V x_l)     f_l = sum_p softmax_p(a_l)_p E f_p      decoupling
        o = features(f)  [L, d_out]          w = classifiers(v)  [L, d_out]          two graphs
        s_l = w_l^T o_l + b_l                                                        score

    f_p is the local feature at place p, x_l the label vector; v and b are learnt for base labels.
    """

    def __init__(
        self,
        *,
        channels: int,
        words: Tensor,
        cooccurrence: Tensor,
        d_joint: int,
        d_hidden: int,
        d_out: int,
        seed: int,
        labels: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        g = torch_generator("kggr/weights", seed)
        self.U = _weights(g, d_joint, channels)
        self.V = _weights(g, d_joint, words.shape[1])
        self.P = _weights(g, d_joint, d_joint)
        self.q = nn.Parameter(_weights(g, 1, d_joint)[0].detach())
        self.E = _weights(g, d_hidden, channels)
        self.features = GatedGraph(d_hidden, d_out, g)
        self.classifiers = GatedGraph(d_out, d_out, g, squash=False)
        names = labels if labels is not None else tuple(str(i) for i in range(len(words)))
        # keyed by the name: a label starts alike wherever it stands among the others
        rows = [_normal(torch_generator("kggr/label", seed, name), d_out) for name in names]
        self.v = nn.Parameter(torch.stack(rows))
        self.bias = nn.Parameter(torch.zeros(len(words)))
        self.words: Tensor
        self.cooccurrence: Tensor
        self.register_buffer("words", words.clone())
        self.register_buffer("cooccurrence", cooccurrence.clone())

    def attention(self, f_loc: Tensor, words: Tensor) -> Tensor:
        """float [n, L, h * w]: weights over places; they sum to 1 for each image and label.

        f_loc: [n, c, h, w]; words: [L, d_w].
        """
        u = f_loc.flatten(2).transpose(1, 2) @ self.U.T  # [n, p, d_joint]
        v = words @ self.V.T  # [L, d_joint]
        joint = torch.tanh(u[:, None] * v[None, :, None])  # [n, L, p, d_joint]
        # P and q follow each other: one vector for both; their biases would cancel in the softmax
        return (joint @ (self.q @ self.P)).softmax(2)

    def decouple(self, f_loc: Tensor, words: Tensor) -> Tensor:
        """float [n, L, d_hidden]: one feature for each image and label."""
        places = f_loc.flatten(2).transpose(1, 2) @ self.E.T  # E first: it is linear, and smaller
        return self.attention(f_loc, words) @ places

    @torch.no_grad()
    def decouple_all(self, f_loc: Tensor, words: Tensor) -> Tensor:
        """`decouple` without gradients, a few images at a time so that memory stays small."""
        size = len(words) * f_loc.shape[2] * f_loc.shape[3] * len(self.q)
        step = max(1, CHUNK // size)
        return torch.cat([self.decouple(part, words) for part in torch.split(f_loc, step)])

    def scores(self, f_loc: Tensor, steps: int) -> Tensor:
        """Logits float [n, B] of base labels."""
        A = self.cooccurrence
        o = self.features(self.decouple(f_loc, self.words), A, steps)
        return score(o, self.classifiers(self.v, A, steps), self.bias)


def score(o: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Logits float [n, L]: w_l^T o_nl + b_l, from o [n, L, d], w [L, d], b [L]."""
    return torch.einsum("nld,ld->nl", o, w) + b


def _weights(generator: Generator, rows: int, columns: int) -> nn.Parameter:
    """float32 [rows, columns], uniform within 1/sqrt(columns), as torch's Linear starts."""
    u = torch.rand(rows, columns, generator=generator)
    return nn.Parameter((2 * u - 1) / math.sqrt(columns))


def _normal(generator: Generator, d: int) -> Tensor:
    return torch.randn(d, generator=generator) / math.sqrt(d)
