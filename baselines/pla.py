"""The `pla` row: an LSTM that names an image's labels one after another, in no fixed order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from mlfsic_baselines.classifier import selection_key, train_classifier, train_epochs
from mlfsic_baselines.pla_decoder import (
    ROWS,
    Alignment,
    Decoder,
    DropoutPer,
    Scores,
    alignment_loss,
    read_out,
)
from pydantic import Field, model_validator
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    MethodParams,
    Predictor,
    Support,
    TrainingPart,
)
from mlfsic_bench.randomness import stream_seed, torch_generator
from mlfsic_bench.training.adam import Adam
from mlfsic_bench.training.loop import epoch_batches, val_macro_ap

# what the weights after training on the base part do not depend on
_LATER = {"tune_epochs", "tune_lr", "rows_lr", "decisions", "scores"}


class PLAParams(MethodParams):
    """Parameters of PLA."""

    hidden: int = Field(512, ge=1, description="size of the LSTM's state")
    attention: int = Field(512, ge=1, description="size of the additive attention")
    embedding: int = Field(256, ge=1, description="size of label embeddings, with words=learned")
    words: Literal["learned", "glove"] = Field(
        "learned", description="label embeddings start at random, or (glove) as those of the run"
    )
    freeze_words: bool = Field(False, description="with words=glove: never train the embeddings")
    alignment: Alignment = Field("pla", description="predicted label, or minimal loss alignment")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout of local features, in training")
    dropout_per: DropoutPer = Field(
        "step", description="a new mask at each decoding step (original), or one (faster)"
    )
    encoder_epochs: int = Field(
        30, ge=0, description="epochs of BCE training of a trainable backbone, before the decoder"
    )
    epochs: int = Field(200, ge=0, description="epochs of training the decoder on the base part")
    lr: float = Field(1e-3, gt=0, description="learning rate of the decoder on the base part")
    backbone_lr: float = Field(1e-4, gt=0, description="that of a trainable backbone")
    batch: int = Field(64, ge=1, description="images in a step on the base part")
    select_every: int | None = Field(
        None,
        ge=1,
        description="epochs of the decoder between evaluations on val; none: keep the last",
    )
    tune_epochs: int = Field(40, ge=0, description="full-batch steps on each support set")
    tune_lr: float = Field(1e-3, gt=0, description="learning rate of the decoder, per episode")
    rows_lr: float = Field(1e-3, gt=0, description="that of the new labels' rows")
    scores: Scores = Field(
        "softmax",
        description="a label's score: its probability among all tokens, or (sigmoid) alone",
    )
    decisions: Literal["greedy", "threshold"] = Field(
        "greedy", description="predicted are the labels of the decoded sequence, or scores above 0"
    )

    @model_validator(mode="after")
    def _consistent(self) -> PLAParams:
        idle = "embedding" if self.words == "glove" else "freeze_words"
        self.without_effect(f"words={self.words}", idle)
        if self.dropout == 0:
            self.without_effect("dropout=0", "dropout_per")
        if self.tune_epochs == 0:
            self.without_effect("tune_epochs=0", "tune_lr", "rows_lr")
        return self


def train_encoder(base: TrainingPart, p: PLAParams, context: FitContext) -> None:
    """Stage 1, for a trainable backbone: BCE on pooled features, under a head thrown away after."""
    source = base.images.source
    c, L = source.channels, len(base.labels)
    if not source.trainable_parameters() or p.encoder_epochs == 0:
        context.log("pla: frozen backbone or no encoder_epochs: no BCE training of the backbone")
        return
    W = 2 * torch.rand(L, c + 1, generator=torch_generator("pla/encoder", context.seed)) - 1
    start = (W / math.sqrt(c)).to(source.device)
    lr, epochs = p.backbone_lr, p.encoder_epochs
    train_classifier(base, context, W=start, epochs=epochs, lr=lr, batch=p.batch)


def train_decoder(
    decoder: Decoder,
    base: TrainingPart,
    p: PLAParams,
    context: FitContext,
    evaluate: Callable[[], float] | None = None,
    chosen_on: object = None,
) -> None:
    """Stage 2, in place: the decoder, and the backbone where it is trainable, on the base part.

    With `evaluate`, the value on val of the decoder as it is, the best weights are kept and not the
    last; `chosen_on` says what that value depends on (`selection_key`).

    Adam, batches of at most p.batch images; the order of an epoch's images and its dropout are
    keyed by (context.seed, epoch). With a folder in the context a killed training resumes after its
    last checkpoint and takes the same steps.
    """
    source = base.images.source
    groups = [{"params": list(_trained(decoder, p).values()), "lr": p.lr}]
    if source.trainable_parameters():
        groups.append({"params": source.trainable_parameters(), "lr": p.backbone_lr})
    adam = Adam(groups)

    def epoch(number: int) -> float:
        return _epoch(decoder, base, p, adam, stream_seed("pla/epoch", context.seed, number))

    def get_state() -> dict[str, Any]:
        return {"decoder": decoder.state_dict(), "adam": adam.state_dict()}

    def set_state(state: dict[str, Any]) -> None:
        decoder.load_state_dict(state["decoder"])
        adam.load_state_dict(state["adam"])

    train_epochs(
        context,
        source,
        what="decoder",
        epochs=p.epochs,
        epoch=epoch,
        file="pla.pt",
        key=_key(base, p, context.seed, chosen_on),
        get_state=get_state,
        set_state=set_state,
        evaluate=evaluate,
        select_every=p.select_every,
    )


def tune_decoder(decoder: Decoder, support: Support, p: PLAParams) -> None:
    """In place: full-batch Adam on the support, the labels' rows with a learning rate of their own.

    The backbone is left alone, as in the original's last stage.
    """
    trained = _trained(decoder, p)
    groups = [
        {"params": [t for name, t in trained.items() if name not in ROWS], "lr": p.tune_lr},
        {"params": [t for name, t in trained.items() if name in ROWS], "lr": p.rows_lr},
    ]
    adam = Adam(groups, fused=True)
    with torch.no_grad():
        f_loc = support.images.local()
    generator = torch_generator("pla/tune", support.seed)
    for _ in range(p.tune_epochs):
        _step(decoder, f_loc, support.targets, p, adam, generator)


def most_labels(targets: Tensor) -> int:
    """The largest number of labels of an image, targets [n, L]."""
    return int(targets.sum(1).max()) if targets.numel() else 0


def _trained(decoder: Decoder, p: PLAParams) -> dict[str, torch.nn.Parameter]:
    frozen = "E" if p.words == "glove" and p.freeze_words else None
    return {name: tensor for name, tensor in decoder.named_parameters() if name != frozen}


def _step(
    decoder: Decoder,
    f_loc: Tensor,
    targets: Tensor,
    p: PLAParams,
    adam: Adam,
    generator: torch.Generator,
) -> float:
    """One step of Adam; the loss before it.

    An image's loss reads no step after its end token, so an image with n labels takes n + 1 steps.
    """
    n = targets.sum(1)
    order = n.argsort(descending=True, stable=True)
    targets = targets[order]
    running = [int((n >= t).sum()) for t in range(most_labels(targets) + 1)]
    with torch.enable_grad():
        dropping = {"p": p.dropout, "per": p.dropout_per, "generator": generator}
        logits: Tensor = decoder(f_loc[order], running, **dropping)
        if not logits.isfinite().all():
            raise BenchError(
                "training the decoder diverged",
                expected="finite logits",
                found="NaN or infinity",
                remedy="lower lr, or tune_lr and rows_lr, and verify the features",
            )
        loss: Tensor = alignment_loss(logits, targets, p.alignment)
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    adam.step()
    return loss.item()


def _epoch(decoder: Decoder, base: TrainingPart, p: PLAParams, adam: Adam, seed: int) -> float:
    """One pass over all images in the order keyed by `seed`; the mean of its batches' losses."""
    n = len(base.images)
    generator = torch_generator("pla/dropout", seed)
    total = 0.0
    for rows in epoch_batches(n, p.batch, seed):
        with torch.enable_grad():
            f_loc = base.images.subset(rows).local()
        total += _step(decoder, f_loc, base.targets[rows], p, adam, generator) * len(rows)
    return total / n


def _key(base: TrainingPart, p: PLAParams, seed: int, chosen_on: object) -> str:
    """What the training depends on, as a hash."""
    parts = {
        "params": p.model_dump(mode="json", exclude=set() if chosen_on else _LATER),
        "ids": list(base.images.ids),
        "labels": list(base.labels),
        "seed": seed,
        "chosen_on": chosen_on,
    }
    return hash_json(parts)


CHUNK = 64  # query images decoded together


class PLA(Method):
    """Yazici et al., Orderless Recurrent Models for Multi-label Classification, CVPR 2020.

    An LSTM with attention over local features (`Decoder`) outputs labels and then an end token.
    Its loss lets the labels stand in whatever order it predicts them (`order_labels`): predicted
    label alignment, or minimal loss alignment with `alignment=mla`.

    Training on the base part. (1) BCE training of the backbone; for frozen features skipped. (2)
    The decoder, with the backbone where it is trainable; Adam at a constant rate, in place of the
    original's cyclic rate and weight averaging. The last weights are kept, or with `select_every`
    those of the decoder with the best few-shot macro-AP on val.

    Per episode. The labels' embeddings and output rows are new, the rest comes from the base part;
    all of it is fine-tuned on a copy for 40 epochs on the whole support set at once, the backbone
    left alone. At most N + 1 tokens are decoded, N being the most labels any base or support image
    has.

    Scores are the largest probability a label has at a step up to and including the first end
    token, as log(p / (1 - p)); predicted are the labels of the greedy sequence (`read_out`). The
    preset `sigmoid` takes the largest logit instead and predicts where it is above 0.

    The preset `glove`, the paper's PLA (GloVe), starts from the run's label embeddings and
    trains them; `freeze_words` does not. Labels are taken in the order of their names and new rows
    are keyed by (seed, name), so no tie or draw depends on the order in which they come.
    """

    name = "pla"
    Params = PLAParams
    presets = {  # noqa: RUF012
        "glove": {"words": "glove"},
        "mla": {"alignment": "mla"},
        "sigmoid": {"scores": "sigmoid", "decisions": "threshold"},
    }
    check_settings = {  # noqa: RUF012
        "hidden": "16",
        "attention": "16",
        "embedding": "8",
        "epochs": "2",
        "tune_epochs": "2",
    }
    trains = True
    adapts_by_gradient = True
    printed = "PLA"
    citation = (
        "Yazici, Gonzalez-Garcia, Ramisa, Twardowski and van de Weijer, Orderless Recurrent Models "
        "for Multi-label Classification, CVPR 2020"
    )
    bibtex = """\
@inproceedings{yazici2020orderless,
  title = {Orderless Recurrent Models for Multi-label Classification},
  author = {Yazici, Vacit Oguz and Gonzalez-Garcia, Abel and Ramisa, Arnau and Twardowski,
    Bartlomiej and van de Weijer, Joost},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern
    Recognition (CVPR)},
  pages = {13440--13449}, year = {2020}
}"""

    params: PLAParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self._shared: dict[str, Tensor] = {}  # the decoder without the labels' rows
        self._most = 0  # labels of a base image
        if self.params.words == "glove":
            self.__dict__["needs_embeddings"] = True

    # -- base part ------------------------------------------------------------------------------

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train the backbone where it is trainable, then the decoder, on the base part."""
        p, source = self.params, base.images.source
        words = self._words(base.embeddings)
        d = p.embedding if words is None else words.shape[1]
        train_encoder(base, p, context)
        decoder = Decoder(source.channels, d, p.hidden, p.attention)
        decoder.draw(torch_generator("pla/decoder", context.seed))
        decoder.set_labels(base.labels, context.seed, words)
        self._most = most_labels(base.targets)

        def on_val() -> float:
            assert val is not None
            self._shared = decoder.shared()
            return val_macro_ap(self.adapt_all, val)

        chosen = selection_key(val, p.select_every)
        train_decoder(
            decoder.to(source.device), base, p, context, on_val if chosen else None, chosen
        )
        self._shared = decoder.shared()

    def state(self) -> dict[str, Tensor]:
        """The decoder without the base labels' rows, and `most_labels` of a base image."""
        if not self._shared:
            return {}
        return {**self._shared, "most_labels": torch.tensor(self._most)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self._shared = {name: tensor for name, tensor in state.items() if name != "most_labels"}
        self._most = int(state["most_labels"]) if state else 0

    # -- episodes -------------------------------------------------------------------------------

    def adapt(self, support: Support) -> Predictor:
        """A fine-tuned decoder for one episode, which also decides."""
        if not self._shared:
            raise BenchError(
                "pla has no decoder to start from",
                expected="fit or load_state before adapt",
                found="a method that has seen no base part",
                remedy="fit the method first",
            )
        order = sorted(range(len(support.labels)), key=lambda i: support.labels[i])
        words = self._words(support.embeddings)
        by_name = replace(
            support,
            targets=support.targets[:, order],
            labels=tuple(support.labels[i] for i in order),
            embeddings=None if words is None else words[order],
        )
        decoder = Decoder.from_shared(self._shared)
        self._check_words(by_name.embeddings, decoder)
        decoder.set_labels(by_name.labels, support.seed, by_name.embeddings)
        decoder.to(support.targets.device)
        tune_decoder(decoder, by_name, self.params)
        place = torch.tensor(order, device=support.targets.device).argsort()
        steps = max(self._most, most_labels(support.targets)) + 1
        p = self.params
        return PLAPredictor(decoder.requires_grad_(False), place, steps, p.scores, p.decisions)

    def _words(self, words: Tensor | None) -> Tensor | None:
        """The label embeddings to start from; None with words=learned."""
        if self.params.words == "learned":
            return None
        if words is None:
            raise BenchError(
                "pla with words=glove needs label embeddings",
                expected="a vector for each label",
                found="none",
                remedy="name a file of word vectors with --embeddings FILE, or use words=learned",
            )
        return words

    def _check_words(self, words: Tensor | None, decoder: Decoder) -> None:
        d = decoder.special.shape[1]
        if words is not None and words.shape[1] != d:
            raise BenchError(
                "the label embeddings are not those that pla was trained with",
                expected=f"vectors of dimension {d}",
                found=f"dimension {words.shape[1]}",
                remedy="use one file of label embeddings, or train again",
            )


@dataclass(frozen=True)
class PLAPredictor:
    """Decodes query images with the fine-tuned decoder of one episode.

    Attributes
    ----------
    place: int64 [L], where each label of the support stands among the decoder's.
    steps: tokens decoded at most.
    scores: `softmax` or `sigmoid`, see `read_out`.
    decisions: `greedy` or `threshold`.
    """

    decoder: Decoder
    place: Tensor
    steps: int
    scores: Scores
    decisions: str

    def __call__(self, query: Images) -> Tensor:
        """float32 [q, L]: log odds of the largest probability of each label."""
        return self.read_out(query)[0]

    def decide(self, query: Images) -> Tensor:
        """bool [q, L]: the labels of the greedy sequence, or (`threshold`) scores above 0."""
        scores, chosen = self.read_out(query)
        return chosen if self.decisions == "greedy" else scores > 0

    @torch.no_grad()
    def read_out(self, query: Images) -> tuple[Tensor, Tensor]:
        """(scores float32 [q, L], labels of the greedy sequence bool [q, L])."""
        parts = []
        for first in range(0, len(query), CHUNK):
            chunk = query.subset(range(first, min(first + CHUNK, len(query))))
            logits = self.decoder(chunk.local(), [len(chunk)] * self.steps)
            parts.append(read_out(logits, self.scores))
        scores, chosen = (torch.cat(column) for column in zip(*parts, strict=True))
        return scores[:, self.place], chosen[:, self.place]
