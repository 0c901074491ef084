"""The decoder of `pla`: an LSTM with attention over local features, fed its own predictions.

With the loss that lets an image's labels stand in the order in which it predicts them: Yazici,
Gonzalez-Garcia, Ramisa, Twardowski and van de Weijer, Orderless Recurrent Models for Multi-label
Classification, CVPR 2020, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils import skip_init

from mlfsic_bench.methods.scoring import dropout
from mlfsic_bench.randomness import torch_generator

DropoutPer = Literal["step", "image"]
Scores = Literal["softmax", "sigmoid"]
ROWS = ("E", "W")  # the parameters that belong to the labels at hand


class Decoder(nn.Module):
    """What predicts one token after another: a label, or the end.

        e_p = v . relu(A_u u_p + A_h h)         a = softmax(e)         u_p: local feature at p
        h, c = LSTM([E_y ; sigmoid(G h) * sum_p a_p u_p], (h, c))      y: the last token predicted
        z = W h                                 y = argmax z

    All layers have biases but v, whose bias cancels in the softmax. h and c start as linear maps
    of the pooled features, y as the start token. The next token is always the decoder's own
    argmax, when it is trained as well: no teacher forcing.

    Parameters
    ----------
    c: channels. d: dimension of label embeddings. hidden, attention: sizes of h and of A_u u_p.

    Attributes
    ----------
    E, W: [L, d] embeddings and [L, hidden + 1] output rows (bias last) of the labels at hand.
    special: [2, d] embeddings of the end and the start token. end: [1, hidden + 1] output row.
    """

    def __init__(self, c: int, d: int, hidden: int, attention: int) -> None:
        super().__init__()
        self.A_u = _linear(c, attention)
        self.A_h = _linear(hidden, attention)
        self.v = nn.Parameter(torch.empty(attention))
        self.G = _linear(hidden, c)
        self.h_0 = _linear(c, hidden)
        self.c_0 = _linear(c, hidden)
        # skip_init: the layers' own initialisation would read the global generator
        self.cell: nn.LSTMCell = skip_init(nn.LSTMCell, d + c, hidden)  # type: ignore[no-untyped-call]
        self.special = nn.Parameter(torch.empty(2, d))
        self.end = nn.Parameter(torch.empty(1, hidden + 1))
        self.E = nn.Parameter(torch.empty(0, d))
        self.W = nn.Parameter(torch.empty(0, hidden + 1))

    @torch.no_grad()
    def draw(self, generator: Generator) -> None:
        """Start all but the labels' rows as torch's layers start.

        Embeddings are standard normal, the rest uniform on +-1/sqrt(inputs), or on
        +-1/sqrt(hidden) in the LSTM.
        """
        c, attention = self.A_u.in_features, self.A_u.out_features
        inputs = {"A_u": c, "h_0": c, "c_0": c, "v": attention}  # of the others: hidden
        for name, parameter in self.named_parameters():
            if name == "special":
                parameter.normal_(generator=generator)
            elif name not in ROWS:
                bound = 1 / math.sqrt(inputs.get(name.split(".")[0], self.cell.hidden_size))
                parameter.uniform_(-bound, bound, generator=generator)

    def set_labels(self, labels: Sequence[str], seed: int, words: Tensor | None) -> None:
        """Take new rows for these labels; those of a label are keyed by (seed, its name).

        words: float [L, d], the embeddings to start from; None to draw standard normal ones.
        """
        d, hidden = self.special.shape[1], self.cell.hidden_size
        embeddings, rows = [], []
        for label in labels:
            generator = torch_generator("pla/label", seed, label)
            embeddings.append(torch.randn(d, generator=generator))
            rows.append(2 * torch.rand(hidden + 1, generator=generator) - 1)
        E = torch.stack(embeddings) if words is None else words.detach().clone()
        self.E = nn.Parameter(E.to(self.special))
        self.W = nn.Parameter((torch.stack(rows) / math.sqrt(hidden)).to(self.special))

    def shared(self) -> dict[str, Tensor]:
        """All parameters but the labels' rows."""
        return {
            name: tensor.detach().clone()
            for name, tensor in self.named_parameters()
            if name not in ROWS
        }

    @classmethod
    def from_shared(cls, shared: dict[str, Tensor]) -> Decoder:
        """A decoder without labels, with these parameters."""
        attention, c = shared["A_u.weight"].shape
        decoder = cls(c, shared["special"].shape[1], shared["end"].shape[1] - 1, attention)
        decoder.load_state_dict(shared, strict=False)
        return decoder

    def forward(
        self,
        f_loc: Tensor,
        running: Sequence[int],
        *,
        p: float = 0.0,
        per: DropoutPer = "step",
        generator: Generator | None = None,
    ) -> Tensor:
        """Logits float [b, T, L + 1] of maps [b, c, h, w], the end token in the last column.

        running: for each of the T steps, how many images take it, the first of them; never rising.
        The logits of an image at a step that it does not take are 0. With a generator, dropout
        with probability p is on for the local features, with a new mask at each step or one for
        each image and pass.
        """
        b = len(f_loc)
        u = f_loc.flatten(2).transpose(1, 2)  # [b, h w, c]
        f_glo = u.mean(1)
        h, c = self.h_0(f_glo), self.c_0(f_glo)
        table = torch.cat([self.E, self.special])
        W = torch.cat([self.W, self.end])
        y = torch.full((b,), len(table) - 1, device=u.device)
        fresh = per == "step" and generator is not None and p > 0
        dropped = dropout(u, p, generator)
        keys = self.A_u(dropped)
        logits = []
        for t, k in enumerate(running):
            h, c, y = h[:k], c[:k], y[:k]
            if fresh and t:
                dropped = dropout(u[:k], p, generator)
                keys = self.A_u(dropped)
            a = ((keys[:k] + self.A_h(h)[:, None]).relu() @ self.v).softmax(1)
            context = self.G(h).sigmoid() * (a[:, None] @ dropped[:k])[:, 0]
            h, c = self.cell(torch.cat([table[y], context], 1), (h, c))
            z = h @ W[:, :-1].T + W[:, -1]
            logits.append(pad(z, (0, 0, 0, b - k)))
            y = z.argmax(1)
        return torch.stack(logits, 1)


def read_out(logits: Tensor, scores: Scores = "softmax") -> tuple[Tensor, Tensor]:
    """Scores and decisions from the logits of all steps.

    Parameters
    ----------
    logits: float [b, T, L + 1], the end token in the last column.
    scores: which probability of a label is meant, that of a softmax over all tokens of a step or
        the sigmoid of its own logit.

    Returns (scores float32 [b, L], decided bool [b, L]). The steps of an image that count are those
    up to and including the first whose argmax is the end token, or all. A label's score is
    log(p / (1 - p)), p being the largest probability it has at a step that counts (with `sigmoid`
    simply its largest logit); it is decided when it is the argmax of such a step. The original code
    decides so and has no scores (docs/methodology.md, M32).
    """
    z = logits.double()
    top = z.argmax(2, keepdim=True)
    is_end = top[:, :, 0] == z.shape[2] - 1
    late = (is_end.cumsum(1) - is_end.long() > 0)[:, :, None]
    odds = z
    if scores == "softmax":
        logp = z.log_softmax(2)
        # log(1 - p) from p is exact enough where p <= 1/2; the argmax, where p may be 1 in floating
        # point, takes the sum over the other tokens instead
        others = z.scatter(2, top, -math.inf).logsumexp(2, keepdim=True)
        odds = (logp - torch.log1p(-logp.exp())).scatter(2, top, z.gather(2, top) - others)
    best = odds.masked_fill(late, -math.inf)[:, :, :-1].amax(1)
    chosen = torch.zeros_like(z, dtype=torch.bool).scatter(2, top, True) & ~late
    return best.float(), chosen[:, :, :-1].any(1)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    return layer


Alignment = Literal["pla", "mla"]
IGNORED = -1


def order_labels(
    logp: npt.NDArray[np.floating], labels: npt.NDArray[np.int64], alignment: Alignment
) -> npt.NDArray[np.int64]:
    """The label that each of the first n steps has to predict, an ordering of `labels`.

    Parameters
    ----------
    logp: float [at least n, L + 1], log softmax of each step, the end token in the last column.
    labels: the n true labels of the image, distinct.
    alignment: `mla` is the ordering with the least -log p. `pla` first puts every true label that
        is predicted (the argmax of a step, the end token included) at one of the n steps at the
        first of these, and orders the others on the steps that remain, with the least -log p.

    A label first predicted after step n counts as not predicted. The original code searches all
    steps but moves labels within the first n, so there such a label stays wherever it happened to
    stand and is in no assignment either; here it takes part in the assignment (methodology, M32).
    """
    from scipy.optimize import linear_sum_assignment  # only here: listing methods stays quick

    n = len(labels)
    step_of: dict[int, int] = {}
    if alignment == "pla":
        for t, token in enumerate(logp[:n].argmax(1).tolist()):
            step_of.setdefault(token, t)
    kept = {int(label): step_of[label] for label in labels.tolist() if label in step_of}
    order = np.full(n, IGNORED, np.int64)
    for label, t in kept.items():
        order[t] = label
    steps = np.flatnonzero(order == IGNORED)
    others = np.array([label for label in labels.tolist() if label not in kept], np.int64)
    rows, columns = linear_sum_assignment(-logp[steps][:, others])
    order[steps[rows]] = others[columns]
    return order


def aligned(logits: Tensor, targets: Tensor, alignment: Alignment) -> Tensor:
    """The token that each step has to predict: an image's n labels, the end token, then nothing.

    Parameters
    ----------
    logits: float [b, T, L + 1], the end token last; T > n for every image.
    targets: float [b, L] of 0 and 1.

    Returns int64 [b, T] on the device of `logits`, IGNORED after the end token at step n.
    """
    logp = logits.detach().log_softmax(2).double().cpu().numpy()
    truth = targets.cpu().numpy() > 0
    b, T, end = logits.shape[0], logits.shape[1], logits.shape[2] - 1
    tokens = np.full((b, T), IGNORED, np.int64)
    for i in range(b):
        labels = np.flatnonzero(truth[i])
        tokens[i, : len(labels)] = order_labels(logp[i], labels, alignment)
        tokens[i, len(labels)] = end
    return torch.from_numpy(tokens).to(logits.device)


def alignment_loss(logits: Tensor, targets: Tensor, alignment: Alignment) -> Tensor:
    """Cross-entropy to the aligned tokens, the mean over all n + 1 steps of all images."""
    tokens = aligned(logits, targets, alignment)
    return cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=IGNORED)
