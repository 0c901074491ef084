"""The paper's model as a method: word-guided attention prototypes, trained on episodes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Labeller,
    Method,
    MethodParams,
    Support,
    TrainingPart,
)
from mlfsic_bench.methods.word_guided_loss import (
    cmw_loss,
    episode_loss,
    features,
    sorted_support,
)
from mlfsic_bench.methods.word_guided_model import WordGuidedAttention
from mlfsic_bench.methods.word_guided_params import PRESETS, WordGuidedParams
from mlfsic_bench.methods.word_guided_table import prototypes_of_all, shares_labels
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.training.loop import train_episodic
from mlfsic_bench.training.schedule import WarmupCosine
from mlfsic_bench.training.selection import val_macro_ap

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.features.source import FeatureSource


class WordGuidedLabeller:
    """Scores of query images against the prototypes of one episode, equation (4)."""

    def __init__(self, model: WordGuidedAttention, prototypes: Tensor) -> None:
        self.model, self.prototypes = model, prototypes

    @torch.no_grad()
    def __call__(self, query: Images, /) -> Tensor:
        """Logits float32 [q, C]; a label is predicted where sigmoid(logit) > 0.5."""
        return self.model.score(self.model.f_hat(query.pooled()), self.prototypes)


class WordGuidedAttentionMethod(Method):
    """Few-shot multi-label image classification with label words guiding attention.

    Yan et al., "Inferring Prototypes for Multi-Label Few-Shot Image Classification with Word
    Vector Guided Attention", AAAI 2022. Images and label vectors share a joint space; the
    projected word of a label is the query of a multi-head attention over the local features of all
    support images that carry it, and what comes out is the label's prototype. Nothing is tuned at
    test time unless `fine_tune_epochs` asks for it.
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
    needs_words: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "Yan et al., Inferring Prototypes for Multi-Label Few-Shot Image Classification with Word "
        "Vector Guided Attention, AAAI 2022"
    )

    params: WordGuidedParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self.model: WordGuidedAttention | None = None
        self._backbone: dict[str, Tensor] = {}
        self._restored: FeatureSource | None = None
        if self.params.fine_tune_epochs:  # the leaderboard track depends on this parameter
            self.__dict__["adapts_by_gradient"] = True

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train on base episodes; keep the weights with the best macro-AP on val."""
        p, source = self.params, base.images.source
        words = _words(base.words)
        generator = torch_generator("initialisation", context.seed)
        model = WordGuidedAttention(p, source.channels, words.shape[1], generator)
        self.model = model.to(source.device).eval()
        self._restored = source

        def loss(i: int) -> Tensor:
            source.train(True)
            episode = base.episode(i)
            return episode_loss(model, episode, torch_generator("dropout", context.seed, i))

        def get_state() -> dict[str, Tensor]:
            self._backbone = source.state()
            return self.state()

        def set_state(state: dict[str, Tensor]) -> None:
            self.load_state(state)
            source.load_state(self._backbone)
            self._restored = source

        def evaluate() -> float:
            assert val is not None
            source.train(False)
            return val_macro_ap(self.adapt_all, val)

        steps = p.epochs * p.steps_per_epoch
        trained = train_episodic(
            parameters=[*model.parameters(), *source.trainable_parameters()],
            loss=loss,
            learning_rate=WarmupCosine(
                base=p.lr,
                steps=steps,
                warmup=p.warmup * p.steps_per_epoch,
                start=p.warmup_lr,
                final=p.final_lr,
            ),
            steps=steps,
            get_state=get_state,
            set_state=set_state,
            evaluate=None if val is None else evaluate,
            evaluate_every=p.select_every * p.steps_per_epoch,
            row_every=p.steps_per_epoch,
            episodes_per_step=p.episodes_per_step,
            folder=context.folder,
            key=self._key(base, val, context.seed),
            log=context.log,
        )
        source.train(False)
        if p.select == "best" and trained.best is not None:
            set_state(trained.best)
            context.log(
                f"kept step {trained.best_step}: macro-AP {100 * (trained.best_value or 0):.2f} "
                "on val"
            )
        else:
            get_state()

    def adapt(self, support: Support) -> Labeller:
        """Prototypes of the support's labels; no gradient step unless fine_tune_epochs is set."""
        model = self._ready(support.images.source)
        words = _words(support.words)
        if self.params.fine_tune_epochs:
            model = self._fine_tuned(model, support, words)
        with torch.no_grad():
            images, targets = sorted_support(support)
            f_loc, f_glo = features(images, model.reads_local)
            prototypes = model.prototypes(f_loc, f_glo, targets, words)
        return WordGuidedLabeller(model, prototypes)

    def adapt_all(self, supports: Sequence[Support]) -> list[Labeller]:
        """As `adapt` for each; shares the work on images that several episodes drew."""
        if not supports or self.params.fine_tune_epochs:
            return [self.adapt(support) for support in supports]
        model = self._ready(supports[0].images.source)
        if not model.attends or not shares_labels(supports):
            return [self.adapt(support) for support in supports]
        _words(supports[0].words)
        with torch.no_grad():
            return [WordGuidedLabeller(model, p) for p in prototypes_of_all(model, supports)]

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
            a = model.location_scores(f_loc, f_glo, _words(support.words)[label])
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
            raise _wrong_state("no A_visual and A_text")
        n, d_w = weights["A_visual"].shape[1], weights["A_text"].shape[1]
        if self.model is None or _input_sizes(self.model) != (n, d_w):
            self.model = WordGuidedAttention(self.params, n, d_w).eval()
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            raise _wrong_state(" ".join(str(error).split())[:300]) from error
        self._backbone = {k[9:]: v for k, v in state.items() if k.startswith("backbone.")}
        self._restored = None

    def _ready(self, source: FeatureSource) -> WordGuidedAttention:
        """The network on the source's device, the source's backbone as it was after training."""
        if self.model is None:
            raise BenchError(
                "word-guided-attention has not been trained",
                expected="fit or load_state before adapt",
                found="a method without weights",
                remedy="call fit with a base part, or load the state of a finished run",
            )
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

    def _fine_tuned(
        self, model: WordGuidedAttention, support: Support, words: Tensor
    ) -> WordGuidedAttention:
        """A copy of the network after some full-batch steps of L_cmw on the support (Table 6)."""
        model = copy.deepcopy(model)
        with torch.no_grad():
            f_glo = features(support.images, False)[1]
        tuned = [t for name, t in model.named_parameters() if name[2:] in ("visual", "text")]
        optimiser = torch.optim.Adam(tuned, lr=self.params.fine_tune_lr)
        with torch.enable_grad():
            for _ in range(self.params.fine_tune_epochs):
                optimiser.zero_grad(set_to_none=True)
                cmw_loss(model, f_glo, support.targets, words).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return model

    def _key(self, base: TrainingPart, val: TrainingPart | None, seed: int) -> str:
        """What the training depends on, as a hash: a checkpoint of another key is refused."""
        parts = [
            {
                "labels": part.labels,
                "ids": part.images.ids,
                "words": hash_bytes(_words(part.words).cpu().numpy().tobytes()),
                "targets": hash_bytes(part.targets.cpu().numpy().tobytes()),
                "episodes": part.n_episodes,
            }
            for part in (base, val)
            if part is not None
        ]
        source = base.images.source
        return hash_json(
            {
                "method": self.name,
                "params": self.params.model_dump(
                    mode="json", exclude={"select", "fine_tune_epochs", "fine_tune_lr"}
                ),
                "parts": parts,
                "seed": seed,
                "channels": source.channels,
                "grid": list(source.grid),
            }
        )


def _input_sizes(model: WordGuidedAttention) -> tuple[int, int]:
    return model.A_visual.shape[1], model.A_text.shape[1]


def _words(words: Tensor | None) -> Tensor:
    if words is None:
        raise BenchError(
            "word-guided-attention needs label vectors",
            expected="a vector for each label",
            found="none",
            remedy="name a file of word vectors with --words FILE",
        )
    return words


def _wrong_state(found: str) -> BenchError:
    return BenchError(
        "the saved state does not fit word-guided-attention with these parameters",
        expected="the state of a run with the same parameters",
        found=found,
        remedy="load it with the parameters it was trained with",
    )
