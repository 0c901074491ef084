"""The `pla` row: an LSTM that names an image's labels one after another, in no fixed order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from mlfsic_baselines.pla_decoder import Decoder, read_out
from mlfsic_baselines.pla_training import (
    PLAParams,
    most_labels,
    train_decoder,
    train_encoder,
    tune_decoder,
)
from torch import Tensor

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
from mlfsic_bench.randomness import torch_generator

CHUNK = 64  # query images decoded together


class PLA(Method):
    """Yazici et al., Orderless Recurrent Models for Multi-label Classification, CVPR 2020.

    An LSTM with attention over local features (`Decoder`) outputs labels and then an end token.
    Its loss lets the labels stand in whatever order it predicts them (`order_labels`): predicted
    label alignment, or minimal loss alignment with `alignment=mla`.

    Training on the base part. (1) BCE training of the backbone; for frozen features skipped. (2)
    The decoder, with the backbone where it is trainable; Adam at a constant rate, in place of the
    original's cyclic rate and weight averaging. No selection on the val part.

    Per episode. The labels' embeddings and output rows are new, the rest comes from the base part;
    all of it is fine-tuned on a copy for 40 epochs on the whole support set at once, the backbone
    left alone. At most N + 1 tokens are decoded, N being the most labels any base or support image
    has.

    Scores are the largest probability a label has at a step up to and including the first end
    token, as log(p / (1 - p)); predicted are the labels of the greedy sequence (`read_out`).

    The preset `glove`, the paper's PLA (GloVe), starts the label embeddings as label vectors and
    trains them; `freeze_words` does not. Labels are taken in the order of their names and new rows
    are keyed by (seed, name), so no tie or draw depends on the order in which they come.
    """

    name = "pla"
    Params = PLAParams
    presets = {"glove": {"words": "glove"}, "mla": {"alignment": "mla"}}  # noqa: RUF012
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
            self.__dict__["needs_words"] = True

    # -- base part ------------------------------------------------------------------------------

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train the backbone where it is trainable, then the decoder, on the base part."""
        p, source = self.params, base.images.source
        words = self._words(base.words)
        d = p.embedding if words is None else words.shape[1]
        train_encoder(base, p, context)
        decoder = Decoder(source.channels, d, p.hidden, p.attention)
        decoder.draw(torch_generator("pla/decoder", context.seed))
        decoder.set_labels(base.labels, context.seed, words)
        train_decoder(decoder.to(source.device), base, p, context)
        self._shared, self._most = decoder.shared(), most_labels(base.targets)

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
        words = self._words(support.words)
        by_name = replace(
            support,
            targets=support.targets[:, order],
            labels=tuple(support.labels[i] for i in order),
            words=None if words is None else words[order],
        )
        decoder = Decoder.from_shared(self._shared)
        self._check_words(by_name.words, decoder)
        decoder.set_labels(by_name.labels, support.seed, by_name.words)
        decoder.to(support.targets.device)
        tune_decoder(decoder, by_name, self.params)
        place = torch.tensor(order, device=support.targets.device).argsort()
        steps = max(self._most, most_labels(support.targets)) + 1
        return PLAPredictor(decoder.requires_grad_(False), place, steps, self.params.decisions)

    def _words(self, words: Tensor | None) -> Tensor | None:
        """The label vectors to start from; None with words=learned."""
        if self.params.words == "learned":
            return None
        if words is None:
            raise BenchError(
                "pla with words=glove needs label vectors",
                expected="a vector for each label",
                found="none",
                remedy="name a file of word vectors with --words FILE, or use words=learned",
            )
        return words

    def _check_words(self, words: Tensor | None, decoder: Decoder) -> None:
        d = decoder.special.shape[1]
        if words is not None and words.shape[1] != d:
            raise BenchError(
                "the label vectors are not those that pla was trained with",
                expected=f"vectors of dimension {d}",
                found=f"dimension {words.shape[1]}",
                remedy="use one file of word vectors, or train anew",
            )


@dataclass(frozen=True)
class PLAPredictor:
    """Decodes query images with the fine-tuned decoder of one episode.

    Attributes
    ----------
    place: int64 [L], where each label of the support stands among the decoder's.
    steps: tokens decoded at most.
    decisions: `greedy` or `threshold`.
    """

    decoder: Decoder
    place: Tensor
    steps: int
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
            parts.append(read_out(logits))
        scores, chosen = (torch.cat(column) for column in zip(*parts, strict=True))
        return scores[:, self.place], chosen[:, self.place]
