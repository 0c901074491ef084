"""The paper's model as a method: word-guided attention prototypes, trained on episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    MethodParams,
    Predictor,
    Support,
    TrainingPart,
)
from mlfsic_bench.methods.refusals import label_embeddings, loading_state, untrained, wrong_state
from mlfsic_bench.methods.word_guided.batched import Attended, prototypes_of_all, shares_labels
from mlfsic_bench.methods.word_guided.model import WordGuidedAttention, features, sorted_support
from mlfsic_bench.methods.word_guided.params import PRESETS, WordGuidedParams
from mlfsic_bench.methods.word_guided.training import fine_tuned, train, training_key
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.works import YAN_2022

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.features.sources import FeatureSource


class WordGuidedPredictor:
    """Scores of query images against the prototypes of one episode, equation (4)."""

    def __init__(self, model: WordGuidedAttention, prototypes: Tensor) -> None:
        self.model, self.prototypes = model, prototypes

    @torch.no_grad()
    def __call__(self, query: Images, /) -> Tensor:
        """Logits float32 [q, C]; a label is predicted where sigmoid(logit) > 0.5."""
        return self.model.score(self.model.f_hat(query.averaged()), self.prototypes)


class WordGuidedAttentionMethod(Method):
    """Few-shot multi-label image classification with label embeddings guiding attention.

    Yan et al., "Inferring Prototypes for Multi-Label Few-Shot Image Classification with Word
    Vector Guided Attention", AAAI 2022. Images and label embeddings share a joint space; the
    projected word of a label is the query of a multi-head attention over the local features of all
    support images that carry it, and what comes out is the label's prototype. Nothing is tuned at
    test time unless `fine_tune_epochs` asks for it; with `fine_tune=all` a trainable backbone is
    tuned too, with its batch normalisation in evaluation mode, and restored after scoring.
    """

    name: ClassVar[str] = "word-guided-attention"
    Params: ClassVar[type[MethodParams]] = WordGuidedParams
    presets: ClassVar[dict[str, dict[str, object]]] = PRESETS
    check_settings: ClassVar[dict[str, str]] = {
        "epochs": "2",
        "warmup_epochs": "1",
        "steps_per_epoch": "3",
        "select_every": "1",
        "d_j": "16",
        "d_mlp": "16",
        "n_a": "2",
    }
    needs_embeddings: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    printed: ClassVar[str] = "Yan et al. (2022)"
    citation: ClassVar[str] = (
        "Yan et al., Inferring Prototypes for Multi-Label Few-Shot Image Classification with Word "
        "Vector Guided Attention, AAAI 2022"
    )
    bibtex: ClassVar[str] = YAN_2022

    network: ClassVar[type[WordGuidedAttention]] = WordGuidedAttention

    params: WordGuidedParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self.model: WordGuidedAttention | None = None
        self._backbone: dict[str, Tensor] = {}
        self._restored: FeatureSource | None = None
        self._attended: Attended | None = None  # of earlier supports; no score depends on it
        if self.params.fine_tune_epochs:  # the leaderboard track depends on this parameter
            self.__dict__["adapts_by_gradient"] = True
        if self.params.episodes_per_step > 1:  # there is something to divide
            self.__dict__["fits_together"] = True

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train on base episodes; keep the weights with the best macro-AP on val."""
        p, source = self.params, base.images.source
        embeddings = label_embeddings(self.name, base.embeddings)
        generator = torch_generator("initialisation", context.seed)
        model = self.network(p, source.channels, embeddings.shape[1], generator)
        self.model = model.to(source.device).eval()
        self._restored = source

        def get_state() -> dict[str, Tensor]:
            self._backbone = source.state()
            return self.state()

        def set_state(state: dict[str, Tensor]) -> None:
            self.load_state(state)
            source.load_state(self._backbone)
            self._restored = source

        trained = train(
            model,
            base,
            val,
            context,
            key=training_key(self.name, p, base, val, context.seed),
            adapt_all=self.adapt_all,
            get_state=get_state,
            set_state=set_state,
        )
        if p.select == "best" and trained.best is not None:
            set_state(trained.best)
            context.log(
                f"kept step {trained.best_step}: macro-AP {100 * (trained.best_value or 0):.2f} "
                "on val"
            )
        else:
            get_state()
        self._attended = None

    def adapt(self, support: Support) -> Predictor:
        """Prototypes of the support's labels; no gradient step unless fine_tune_epochs is set."""
        model, source = self._ready(support.images.source), support.images.source
        embeddings = label_embeddings(self.name, support.embeddings)
        if self.params.fine_tune == "all":
            if not source.trainable_parameters():
                raise _nothing_more_to_tune()
            return self._tuning_all(model, support, embeddings)
        if self.params.fine_tune_epochs:
            model = fine_tuned(model, support, embeddings)
        return self._predictor(model, support, embeddings)

    def _predictor(
        self, model: WordGuidedAttention, support: Support, embeddings: Tensor
    ) -> WordGuidedPredictor:
        with torch.no_grad():
            images, targets = sorted_support(support)
            f_loc, f_glo = features(images, model.reads_local)
            prototypes = model.prototypes(f_loc, f_glo, targets, embeddings)
        return WordGuidedPredictor(model, prototypes)

    def _tuning_all(
        self, model: WordGuidedAttention, support: Support, embeddings: Tensor
    ) -> Predictor:
        """A predictor that tunes network and backbone when called, and restores the backbone.

        It tunes when called because the backbones of 200 episodes would not fit in memory.
        """
        source = support.images.source

        def predictor(query: Images) -> Tensor:
            before = {name: tensor.clone() for name, tensor in source.state().items()}
            try:
                tuned = fine_tuned(model, support, embeddings)
                return self._predictor(tuned, support, embeddings)(query)
            finally:
                source.load_state(before)

        return predictor

    def adapt_all(self, supports: Sequence[Support]) -> list[Predictor]:
        """As `adapt` for each; shares the work on images that several episodes drew."""
        if not supports or self.params.fine_tune_epochs:
            return [self.adapt(support) for support in supports]
        model = self._ready(supports[0].images.source)
        if not model.attends or not shares_labels(supports):
            return [self.adapt(support) for support in supports]
        label_embeddings(self.name, supports[0].embeddings)
        with torch.no_grad():
            if self._attended is None or not self._attended.fits(model, supports[0]):
                self._attended = Attended(model, supports[0])
            prototypes = prototypes_of_all(model, supports, self._attended)
        return [WordGuidedPredictor(model, p) for p in prototypes]

    def attention_scores(self, support: Support, label: int) -> Tensor:
        """Scores before the softmax, [m, heads, h, w], of the m support images with this label.

        In the order of the support. Figure 4 of the paper shows their sum over heads.
        """
        model = self._ready(support.images.source)
        if not model.reads_local:
            raise BenchError(
                f"prototype={self.params.prototype} attends to whole images, not to places",
                expected="prototype=attention or simple_local",
                found=f"prototype={self.params.prototype}",
                remedy="draw the attention of a run with prototype=attention",
            )
        carry = (support.targets[:, label] > 0).nonzero()[:, 0].tolist()
        with torch.no_grad():
            f_loc, f_glo = features(support.images.subset(carry), True)
            assert f_loc is not None
            embeddings = label_embeddings(self.name, support.embeddings)
            a = model.location_scores(f_loc, f_glo, embeddings[label])
        return a.view(len(carry), -1, *f_loc.shape[2:])

    def attention_weights(self, support: Support, label: int) -> Tensor:
        """The weights mu after the softmax, [m, heads, h, w]; see `attention_scores`.

        They sum to 1 per head over all images, or over each with aggregation=per_image.
        """
        a = self.attention_scores(support, label)
        if self.params.aggregation == "per_image":
            return a.flatten(2).softmax(2).view_as(a)
        flat = a.transpose(0, 1).flatten(1).softmax(1)
        return flat.view(a.shape[1], a.shape[0], *a.shape[2:]).transpose(0, 1)

    def state(self) -> dict[str, Tensor]:
        """The network under `model.`, a trained backbone under `backbone.`."""
        if self.model is None:
            return {}
        state = {f"model.{k}": v.detach().clone() for k, v in self.model.state_dict().items()}
        return state | {f"backbone.{k}": v for k, v in self._backbone.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; the shapes of the tensors say those of the network."""
        weights = {k[6:]: v for k, v in state.items() if k.startswith("model.")}
        if not {"A_visual", "A_text"} <= weights.keys():
            raise wrong_state(self.name, "no A_visual and A_text")
        n, d_w = weights["A_visual"].shape[1], weights["A_text"].shape[1]
        if self.model is None or _input_sizes(self.model) != (n, d_w):
            self.model = self.network(self.params, n, d_w).eval()
        with loading_state(self.name):
            self.model.load_state_dict(weights)
        self._backbone = {k[9:]: v for k, v in state.items() if k.startswith("backbone.")}
        self._restored = None

    def _ready(self, source: FeatureSource) -> WordGuidedAttention:
        """The network on the source's device, the source's backbone as it was after training."""
        if self.model is None:
            raise untrained(self.name)
        if source.channels != self.model.A_visual.shape[1]:
            raise BenchError(
                "the features have another number of channels than the trained ones",
                expected=f"{self.model.A_visual.shape[1]} channels",
                found=f"{source.channels} channels",
                remedy="use the backbone the method was trained with",
            )
        if self._backbone and self._restored is not source:
            source.load_state(self._backbone)
            source.train(False)
            self._restored = source
        return self.model.to(source.device)


def _nothing_more_to_tune() -> BenchError:
    return BenchError(
        "word-guided-attention with fine_tune=all needs a backbone that can be trained",
        expected="live features of a trainable backbone",
        found="frozen features, for which L_cmw reaches A_visual and A_text alone",
        remedy="use fine_tune=projections, or run with --features end-to-end",
    )


def _input_sizes(model: WordGuidedAttention) -> tuple[int, int]:
    return model.A_visual.shape[1], model.A_text.shape[1]
