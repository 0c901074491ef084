"""The `kggr` row: a RE-IMPLEMENTATION of knowledge-guided graph routing, with graphs of labels.

In the order of the method: its parameters, the graph of labels, the network that spreads features
and classifiers over it, and the training and tuning of both.
"""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from mlfsic_baselines.classifier import selection_key
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import linear, normalize

from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    MethodParams,
    Predictor,
    Support,
    TrainingPart,
)
from mlfsic_bench.methods.refusals import label_embeddings, loading_state, untrained
from mlfsic_bench.randomness import stream_seed, torch_generator
from mlfsic_bench.training.adam import Adam
from mlfsic_bench.training.loop import epoch_batches, train_episodic, val_macro_ap


class KGGRParams(MethodParams):
    """Parameters of KGGR; the sizes are smaller than the original's (preset `ssgrl`)."""

    d_joint: int = Field(256, ge=1, description="joint space of image place and label embedding")
    d_hidden: int = Field(256, ge=1, description="states of the graph over features")
    d_out: int = Field(256, ge=1, description="outputs, and states of the graph over classifiers")
    steps: int = Field(3, ge=1, description="T, rounds of messages in both graphs")
    word_scale: float = Field(
        10.0, gt=0, description="factor of the cosine in the softmax of word edges"
    )
    epochs: int = Field(20, ge=1, description="epochs of training on the base part")
    lr: float = Field(1e-3, gt=0, description="Adam's learning rate on the base part")
    batch: int = Field(16, ge=1, description="images in a step on the base part")
    select_every: int | None = Field(
        None, ge=1, description="epochs between evaluations on val; none: keep the last weights"
    )
    tune: Literal["classifiers", "graphs"] = Field(
        "classifiers",
        description="tuned per episode: new classifiers and their graph, or the other graph too",
    )
    tune_epochs: int = Field(40, ge=0, description="full-batch steps on each support set")
    head_lr: float = Field(1e-3, gt=0, description="learning rate of new vectors and biases")
    graph_lr: float = Field(1e-4, gt=0, description="that of the graphs, per episode")

    @model_validator(mode="after")
    def _consistent(self) -> KGGRParams:
        if self.tune_epochs == 0:
            self.without_effect("tune_epochs=0", "head_lr", "graph_lr")
        return self


def cooccurrence(targets: Tensor) -> Tensor:
    """float [L, L]: P(j | i), the share of the images of label i that show label j too.

    `targets` is [n, L] of 0 and 1, on base training images. The diagonal is 1; the row of a label
    without images is 0 elsewhere.

    >>> cooccurrence(torch.tensor([[1.0, 1], [1, 0], [0, 0]])).tolist()
    [[1.0, 0.5], [1.0, 1.0]]
    """
    Y = (targets > 0).to(targets.dtype)
    together = Y.T @ Y
    A = together / together.diagonal().clamp(min=1)[:, None]
    return A.fill_diagonal_(1)


def word_edges(words: Tensor, scale: float) -> Tensor:
    """float [N, N]: softmax over j != i of scale * cos(x_i, x_j); the diagonal is 0.

    `words` is [N, d_w], N >= 2; every row sums to 1.
    """
    x = normalize(words, dim=1)
    similarity = scale * (x @ x.T)
    return similarity.fill_diagonal_(-torch.inf).softmax(1)


def label_graph(base: Tensor, words: Tensor, scale: float) -> Tensor:
    """float [N, N]: the graph of base and novel labels together, base labels first.

    Edges between two base labels are `base` [B, B]; every edge that touches a novel label is that
    of `word_edges` over all N labels; the diagonal is 1, as in `base`.
    """
    A = word_edges(words, scale)
    A[: len(base), : len(base)] = base
    return A.fill_diagonal_(1)


def from_neighbours(rows: Tensor, words: Tensor, scale: float) -> Tensor:
    """float [N - B, d]: for each novel label the mean of `rows` [B, d] of the base labels.

    Weights are a softmax over base labels of scale * cos of the label embeddings `words` [N, d_w].
    """
    x = normalize(words, dim=1)
    B = len(rows)
    return (scale * (x[B:] @ x[:B].T)).softmax(1) @ rows


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
    """All that base training learns, with the base label embeddings and their co-occurrence.

    c channels, d_w dimensions of label embeddings, B base labels, L all labels of a graph.

        a_lp = q^T P tanh(U f_p * V x_l)     f_l = sum_p softmax_p(a_l)_p E f_p      decoupling
        o = features(f)  [L, d_out]          w = classifiers(v)  [L, d_out]          two graphs
        s_l = w_l^T o_l + b_l                                                        score

    f_p is the local feature at place p, x_l the label's embedding; v and b are learnt for base
    labels.
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


class KGGR(Method):
    """KGGR (re-implementation): Chen, Lin, Hui, Chen and Wu, TPAMI 2020. NOT the original.

    (Knowledge-Guided Multi-Label Few-Shot Learning for General Image Recognition.) No code of its
    few-shot part is public as far as we know; this follows descriptions of it and of the model it
    grew from (SSGRL, ICCV 2019). Its values are not those of the original: docs/methodology.md
    M33 says what is described and what was decided here.

    Semantic decoupling makes a feature of each label for each image; a gated graph network with
    T = 3 rounds spreads these over a graph of labels; a second one does the same to the labels'
    classifiers; the score is their product (`KGGRNetwork`). Edges between base labels are P(j | i)
    on base training images; an edge that touches a novel label is a softmax of the cosine of label
    vectors (`label_graph`). Base labels are trained with BCE. For an episode base and novel labels
    share one graph, and copies are tuned for 40 epochs on the support's labels.

    Tuned at test: vectors and biases of the new labels, the graph over classifiers, and with
    `tune=graphs` the graph over features. The decoupling, the base vectors and the backbone are
    not. A trainable backbone is trained on the base part only.
    """

    name = "kggr"
    Params = KGGRParams
    presets = {  # noqa: RUF012
        "ssgrl": {"d_joint": 1024, "d_hidden": 2048, "d_out": 2048, "lr": 1e-5, "batch": 4}
    }
    check_settings = {  # noqa: RUF012
        "d_joint": "12",
        "d_hidden": "10",
        "d_out": "8",
        "epochs": "2",
        "tune_epochs": "2",
    }
    needs_embeddings = True
    trains = True
    adapts_by_gradient = True
    printed = "KGGR (re-impl.)"
    citation = (
        "re-implementation of Chen et al., Knowledge-Guided Multi-Label Few-Shot Learning for "
        "General Image Recognition, TPAMI 2020"
    )
    bibtex = """\
@article{chen2022knowledge,
  title = {Knowledge-Guided Multi-Label Few-Shot Learning for General Image Recognition},
  author = {Chen, Tianshui and Lin, Liang and Chen, Riquan and Hui, Xiaolu and Wu, Hefeng},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume = {44}, number = {3}, pages = {1371--1384}, year = {2022}
}"""

    params: KGGRParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self.network: KGGRNetwork | None = None

    # -- base part ------------------------------------------------------------------------------

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train on the base labels; keep the last weights, or with `select_every` val's best."""
        p, source, n = self.params, base.images.source, len(base.images)
        words = label_embeddings(self.name, base.embeddings)
        network = KGGRNetwork(
            channels=source.channels,
            words=words,
            cooccurrence=cooccurrence(base.targets),
            d_joint=p.d_joint,
            d_hidden=p.d_hidden,
            d_out=p.d_out,
            seed=context.seed,
            labels=base.labels,
        ).to(source.device)
        self.network = network
        per_epoch = math.ceil(n / p.batch)
        batches: dict[int, list[list[int]]] = {}  # those of the current epoch

        def loss(i: int) -> Tensor:
            epoch, step = divmod(i, per_epoch)
            if epoch not in batches:
                batches.clear()
                seed = stream_seed("kggr", context.seed, epoch)
                batches[epoch] = epoch_batches(n, p.batch, seed)
            rows = batches[epoch][step]
            source.train(True)
            logits = network.scores(base.images.subset(rows).local(), p.steps)
            return bce(logits, base.targets[rows])

        def get_state() -> dict[str, Tensor]:
            return self.state() | {f"source.{k}": v for k, v in source.state().items()}

        def set_state(state: dict[str, Tensor]) -> None:
            self.load_state({k: v for k, v in state.items() if not k.startswith("source.")})
            source.load_state({k[7:]: v for k, v in state.items() if k.startswith("source.")})

        chosen = selection_key(val, p.select_every)

        def on_val() -> float:
            assert val is not None
            source.train(False)
            network.requires_grad_(False)  # adapting takes gradients of copies alone
            value = val_macro_ap(self.adapt_all, val)
            network.requires_grad_(True)
            return value

        trained = train_episodic(
            parameters=[*network.parameters(), *source.trainable_parameters()],
            loss=loss,
            learning_rate=lambda step: p.lr,
            steps=p.epochs * per_epoch,
            get_state=get_state,
            set_state=set_state,
            evaluate=on_val if chosen else None,
            evaluate_every=per_epoch * (p.select_every or 1),
            row_every=per_epoch,
            folder=context.folder,
            key=self._key(base, words, context.seed, chosen),
            log=context.log,
        )
        if trained.best is not None:
            set_state(trained.best)
            value = 100 * (trained.best_value or 0)
            context.log(f"kept step {trained.best_step}: macro-AP {value:.2f} on val")
        source.train(False)
        network.requires_grad_(False)
        context.log(f"kggr: base loss {trained.history[-1]['loss']:.4f} in the last epoch")

    def state(self) -> dict[str, Tensor]:
        """Weights, base label embeddings and co-occurrence; a trained backbone is the source's."""
        if self.network is None:
            return {}
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        p = self.params
        with loading_state(self.name):
            if self.network is None:
                self.network = KGGRNetwork(
                    channels=state["U"].shape[1],
                    words=state["words"],
                    cooccurrence=state["cooccurrence"],
                    d_joint=p.d_joint,
                    d_hidden=p.d_hidden,
                    d_out=p.d_out,
                    seed=0,
                ).requires_grad_(False)
            self.network.load_state_dict(state)

    # -- episodes -------------------------------------------------------------------------------

    def adapt(self, support: Support) -> Predictor:
        """Classifiers of the novel labels, tuned on copies; scores float32 [q, L]."""
        p, network = self.params, self._ready(support.images.source)
        novel = label_embeddings(self.name, support.embeddings)
        words = torch.cat([network.words, novel])  # base labels first
        A = label_graph(network.cooccurrence, words, p.word_scale)
        B = len(network.words)
        classifiers = _copy(network.classifiers)
        features = _copy(network.features) if p.tune == "graphs" else network.features
        start = torch.cat([network.v, network.bias[:, None]], 1)
        new = from_neighbours(start, words, p.word_scale)
        v, b = (part.clone().requires_grad_() for part in (new[:, :-1], new[:, -1]))
        tuned = [*classifiers.parameters(), *(features.parameters() if p.tune == "graphs" else ())]
        adam = Adam([{"params": [v, b], "lr": p.head_lr}, {"params": tuned, "lr": p.graph_lr}])
        with torch.no_grad():
            f = network.decouple_all(support.images.local(), words)
            fixed = None if p.tune == "graphs" else features(f, A, p.steps)[:, B:]
        for _ in range(p.tune_epochs):
            with torch.enable_grad():
                o = features(f, A, p.steps)[:, B:] if fixed is None else fixed
                w = classifiers(torch.cat([network.v, v]), A, p.steps)[B:]
                loss = bce(score(o, w, b), support.targets)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
        with torch.no_grad():
            w = classifiers(torch.cat([network.v, v]), A, p.steps)[B:]
        bias = b.detach()
        features.requires_grad_(False)

        @torch.no_grad()
        def predictor(query: Images) -> Tensor:
            f = network.decouple_all(query.local(), words)
            scores: Tensor = score(features(f, A, p.steps)[:, B:], w, bias)
            return scores

        return predictor

    def _ready(self, source: FeatureSource) -> KGGRNetwork:
        """The network on the source's device."""
        if self.network is None:
            raise untrained(self.name)
        return self.network.to(source.device)

    def _key(self, base: TrainingPart, words: Tensor, seed: int, chosen_on: object) -> str:
        """What the training depends on, as a hash: a checkpoint of another key is refused.

        A selection on val depends on what is done in an episode too.
        """
        later = {"tune", "tune_epochs", "head_lr", "graph_lr", "word_scale"}
        return hash_json(
            {
                "method": self.name,
                "params": self.params.model_dump(
                    mode="json", exclude=set() if chosen_on else later
                ),
                "chosen_on": chosen_on,
                "labels": base.labels,
                "ids": base.images.ids,
                "targets": hash_bytes(base.targets.cpu().numpy().tobytes()),
                "words": hash_bytes(words.cpu().numpy().tobytes()),
                "channels": base.images.source.channels,
                "seed": seed,
            }
        )


def _copy(graph: GatedGraph) -> GatedGraph:
    """A copy whose weights take gradients."""
    return copy.deepcopy(graph).requires_grad_(True)
