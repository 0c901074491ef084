"""Training the decoder of `pla`: on the base part, and on the support of an episode."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from mlfsic_baselines.classifier import train_classifier
from mlfsic_baselines.epochs import train_epochs
from mlfsic_baselines.pla_alignment import Alignment, alignment_loss
from mlfsic_baselines.pla_decoder import ROWS, Decoder, DropoutPer
from pydantic import Field, model_validator
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.methods.contract import FitContext, MethodParams, Support, TrainingPart
from mlfsic_bench.randomness import stream_seed, torch_generator
from mlfsic_bench.training.batches import epoch_batches

# what the weights after training on the base part do not depend on
_LATER = {"tune_epochs", "tune_lr", "rows_lr", "decisions"}


class PLAParams(MethodParams):
    """Parameters of PLA."""

    hidden: int = Field(512, ge=1, description="size of the LSTM's state")
    attention: int = Field(512, ge=1, description="size of the additive attention")
    embedding: int = Field(256, ge=1, description="size of label embeddings, with words=learned")
    words: Literal["learned", "glove"] = Field(
        "learned", description="label embeddings start at random, or (glove) as label vectors"
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
    tune_epochs: int = Field(40, ge=0, description="full-batch steps on each support set")
    tune_lr: float = Field(1e-3, gt=0, description="learning rate of the decoder, per episode")
    rows_lr: float = Field(1e-3, gt=0, description="that of the new labels' rows")
    decisions: Literal["greedy", "threshold"] = Field(
        "greedy", description="predicted are the labels of the decoded sequence, or scores above 0"
    )

    @model_validator(mode="after")
    def _consistent(self) -> PLAParams:
        idle = "embedding" if self.words == "glove" else "freeze_words"
        self.without_effect(f"words={self.words}", idle)
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


def train_decoder(decoder: Decoder, base: TrainingPart, p: PLAParams, context: FitContext) -> None:
    """Stage 2, in place: the decoder, and the backbone where it is trainable, on the base part.

    Adam, batches of at most p.batch images; the order of an epoch's images and its dropout are
    keyed by (context.seed, epoch). With a folder in the context a killed training resumes after its
    last checkpoint and takes the same steps.
    """
    source = base.images.source
    groups = [{"params": list(_trained(decoder, p).values()), "lr": p.lr}]
    if source.trainable_parameters():
        groups.append({"params": source.trainable_parameters(), "lr": p.backbone_lr})
    adam = torch.optim.Adam(groups)

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
        key=_key(base, p, context.seed),
        get_state=get_state,
        set_state=set_state,
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
    adam = torch.optim.Adam(groups, fused=True)
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
    adam: torch.optim.Adam,
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


def _epoch(
    decoder: Decoder, base: TrainingPart, p: PLAParams, adam: torch.optim.Adam, seed: int
) -> float:
    """One pass over all images in the order keyed by `seed`; the mean of its batches' losses."""
    n = len(base.images)
    generator = torch_generator("pla/dropout", seed)
    total = 0.0
    for rows in epoch_batches(n, p.batch, seed):
        with torch.enable_grad():
            f_loc = base.images.subset(rows).local()
        total += _step(decoder, f_loc, base.targets[rows], p, adam, generator) * len(rows)
    return total / n


def _key(base: TrainingPart, p: PLAParams, seed: int) -> str:
    """What the training depends on, as a hash."""
    params = p.model_dump(mode="json", exclude=_LATER)
    ids, labels = list(base.images.ids), list(base.labels)
    return hash_json({"params": params, "ids": ids, "labels": labels, "seed": seed})
