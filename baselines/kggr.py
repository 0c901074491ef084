"""The `kggr` row: a RE-IMPLEMENTATION of knowledge-guided graph routing, with graphs of labels."""

from __future__ import annotations

import copy
import math

import torch
from mlfsic_baselines.kggr_graph import cooccurrence, from_neighbours, label_graph
from mlfsic_baselines.kggr_model import GatedGraph, KGGRNetwork, score
from mlfsic_baselines.kggr_params import KGGRParams
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from mlfsic_bench.features.source import FeatureSource
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
from mlfsic_bench.methods.refusals import label_vectors, loading_state, untrained
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.training.batches import epoch_batches
from mlfsic_bench.training.loop import train_episodic


class KGGR(Method):
    """KGGR (re-implementation): Chen, Lin, Hui, Chen and Wu, TPAMI 2020. NOT the original.

    (Knowledge-Guided Multi-Label Few-Shot Learning for General Image Recognition.) No code of its
    few-shot part is public as far as we know; this follows descriptions of it and of the model it
    grew from (SSGRL, ICCV 2019). Its figures are not those of the original: docs/methodology.md
    M33 says what is described, what is ours.

    Semantic decoupling makes a feature of each label for each image; a gated graph network with
    T = 3 rounds spreads these over a graph of labels; a second one does the same to the labels'
    classifiers; the score is their product (`kggr_model`). Edges between base labels are P(j | i)
    on base training images; an edge that touches a novel label is a softmax of the cosine of label
    vectors (`kggr_graph`). Base labels are trained with BCE. For an episode base and novel labels
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
    needs_words = True
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
        """Train on the base labels; the last weights are kept, nothing is selected on val."""
        p, source, n = self.params, base.images.source, len(base.images)
        words = label_vectors(self.name, base.words)
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

        trained = train_episodic(
            parameters=[*network.parameters(), *source.trainable_parameters()],
            loss=loss,
            learning_rate=lambda step: p.lr,
            steps=p.epochs * per_epoch,
            get_state=get_state,
            set_state=set_state,
            row_every=per_epoch,
            folder=context.folder,
            key=self._key(base, words, context.seed),
            log=context.log,
        )
        source.train(False)
        network.requires_grad_(False)
        context.log(f"kggr: base loss {trained.history[-1]['loss']:.4f} in the last epoch")

    def state(self) -> dict[str, Tensor]:
        """Weights, base label vectors and co-occurrence; a trained backbone is the source's."""
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
        novel = label_vectors(self.name, support.words)
        words = torch.cat([network.words, novel])  # base labels first
        A = label_graph(network.cooccurrence, words, p.word_scale)
        B = len(network.words)
        classifiers = _copy(network.classifiers)
        features = _copy(network.features) if p.tune == "graphs" else network.features
        start = torch.cat([network.v, network.bias[:, None]], 1)
        new = from_neighbours(start, words, p.word_scale)
        v, b = (part.clone().requires_grad_() for part in (new[:, :-1], new[:, -1]))
        tuned = [*classifiers.parameters(), *(features.parameters() if p.tune == "graphs" else ())]
        adam = torch.optim.Adam(
            [{"params": [v, b], "lr": p.head_lr}, {"params": tuned, "lr": p.graph_lr}]
        )
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

    def _key(self, base: TrainingPart, words: Tensor, seed: int) -> str:
        """What the training depends on, as a hash: a checkpoint of another key is refused."""
        own = {"tune", "tune_epochs", "head_lr", "graph_lr", "word_scale"}
        return hash_json(
            {
                "method": self.name,
                "params": self.params.model_dump(mode="json", exclude=own),
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
