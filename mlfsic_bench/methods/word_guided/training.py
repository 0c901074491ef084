"""Training the paper's model: on base episodes, and (Table 6) on the support of a test episode."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.methods.refusals import label_embeddings
from mlfsic_bench.methods.word_guided.model import cmw_loss, episode_loss, features
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.training.adam import Adam
from mlfsic_bench.training.loop import Trained, WarmupCosine, train_episodic, val_macro_ap

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.methods.contract import FitContext, Predictor, Support, TrainingPart
    from mlfsic_bench.methods.word_guided.model import WordGuidedAttention
    from mlfsic_bench.methods.word_guided.params import WordGuidedParams

Network = TypeVar("Network", bound="WordGuidedAttention")


def train(
    model: WordGuidedAttention,
    base: TrainingPart,
    val: TrainingPart | None,
    context: FitContext,
    *,
    key: str,
    adapt_all: Callable[[Sequence[Support]], Sequence[Predictor]],
    get_state: Callable[[], dict[str, Tensor]],
    set_state: Callable[[dict[str, Tensor]], None],
) -> Trained:
    """Train `model`, and the backbone where it is trainable, on base episodes, in place.

    Parameters
    ----------
    key: what the training depends on, see `training_key`.
    adapt_all: the method's, with which the val episodes are scored.
    get_state, set_state: read and restore the model and the backbone, for checkpoints.
    """
    p, source = model.params, base.images.source
    steps = p.epochs * p.steps_per_epoch

    def loss(i: int) -> Tensor:
        source.train(True)
        episode = base.episode(i)
        return episode_loss(model, episode, torch_generator("dropout", context.seed, i))

    def evaluate() -> float:
        assert val is not None
        source.train(False)
        return val_macro_ap(adapt_all, val)

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
        key=key,
        log=context.log,
    )
    source.train(False)
    return trained


def fine_tuned(model: Network, support: Support, embeddings: Tensor) -> Network:
    """A copy of the network after some full-batch steps of L_cmw on the support (Table 6).

    With fine_tune=all the backbone is tuned too, in place and in evaluation mode: the caller
    restores it. L_cmw reads A_visual, A_text and the features; it has no gradient for the rest.
    """
    model, p, source = copy.deepcopy(model), model.params, support.images.source
    tuned = [t for name, t in model.named_parameters() if name[2:] in ("visual", "text")]
    if p.fine_tune == "all":
        tuned += source.trainable_parameters()
        source.train(False)
    with torch.no_grad():
        f_glo = features(support.images, False)[1]
    optimiser = Adam(tuned, lr=p.fine_tune_lr)
    with torch.enable_grad():
        for _ in range(p.fine_tune_epochs):
            optimiser.zero_grad()
            if p.fine_tune == "all":
                f_glo = features(support.images, False)[1]
            cmw_loss(model, f_glo, support.targets, embeddings).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return model


def training_key(
    method: str, params: WordGuidedParams, base: TrainingPart, val: TrainingPart | None, seed: int
) -> str:
    """What the training depends on, as a hash: a checkpoint of another key is refused."""
    parts = [
        {
            "labels": part.labels,
            "ids": part.images.ids,
            "words": hash_bytes(label_embeddings(method, part.embeddings).cpu().numpy().tobytes()),
            "targets": hash_bytes(part.targets.cpu().numpy().tobytes()),
            "episodes": part.n_episodes,
        }
        for part in (base, val)
        if part is not None
    ]
    source = base.images.source
    return hash_json(
        {
            "method": method,
            "params": params.model_dump(
                mode="json", exclude={"select", "fine_tune_epochs", "fine_tune_lr", "fine_tune"}
            ),
            "parts": parts,
            "seed": seed,
            "channels": source.channels,
            "grid": list(source.grid),
        }
    )
