"""The contract of a method: `fit` once, `adapt` per episode, a predictor that scores queries.

    class MyMethod(Method):
        name = "my-method"

        def adapt(self, support):
            prototypes = ...                       # from support.images and support.targets
            return lambda query: query.pooled() @ prototypes.T     # [q, L], higher = more likely

A method never sees the labels of query images, metrics, or how features were made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mlfsic_bench.features.sources import FeatureSource


@dataclass(frozen=True)
class Images:
    """Images as a method sees them: ids, and the source of their features."""

    ids: tuple[str, ...]
    source: FeatureSource

    def __len__(self) -> int:
        return len(self.ids)

    def local(self) -> Tensor:
        """float32 [n, c, h, w]: local feature maps."""
        return self.source.local(self.ids)

    def pooled(self) -> Tensor:
        """float32 [n, d]: the backbone's global vectors (`source.vector` says what they are)."""
        return self.source.pooled(self.ids)

    def averaged(self) -> Tensor:
        """float32 [n, c]: averages of the local feature maps, whatever the global vector is."""
        return self.source.averaged(self.ids)

    def subset(self, index: Sequence[int]) -> Images:
        """The images at these positions, in this order."""
        return Images(tuple(self.ids[i] for i in index), self.source)


@dataclass(frozen=True)
class Support:
    """What a method may learn new labels from.

    Attributes
    ----------
    images: s support images.
    targets: float32 [s, L] of 0 and 1 on the source's device; an image keeps all its labels.
    labels: L label names.
    embeddings: float32 [L, d_w] label embeddings on the source's device; None for a method that
        does not declare that it uses them, and in a run that has none.
    seed: 64-bit seed for anything drawn while adapting, keyed by split, episode and training seed.
    """

    images: Images
    targets: Tensor
    labels: tuple[str, ...]
    embeddings: Tensor | None
    seed: int


@dataclass(frozen=True)
class TrainingEpisode:
    """A support set with the queries and their targets (float32 [q, L]), to train or select on."""

    support: Support
    query: Images
    query_targets: Tensor


@dataclass(frozen=True)
class TrainingPart:
    """The base or the val part, as given to `fit`.

    Attributes
    ----------
    images: all n images of the part.
    targets: float32 [n, L] of 0 and 1 on the source's device.
    labels: L label names.
    embeddings: float32 [L, d_w] or None.
    episode: `episode(i)` is training episode i (base: an endless stream, any i >= 0; val: the
        fixed selection episodes, 0 <= i < n_episodes). The same i gives the same episode.
    n_episodes: number of fixed episodes, or None for an endless stream.
    """

    images: Images
    targets: Tensor
    labels: tuple[str, ...]
    embeddings: Tensor | None
    episode: Callable[[int], TrainingEpisode]
    n_episodes: int | None = None


@dataclass(frozen=True)
class FitContext:
    """What surrounds a `fit`.

    Attributes
    ----------
    seed: 64-bit seed; the only permitted root of randomness in `fit`.
    folder: where checkpoints may be kept so that a killed fit resumes; None to keep none.
    log: called with one line of progress text.
    """

    seed: int
    folder: Path | None = None
    log: Callable[[str], None] = field(default=lambda line: None)


class MethodParams(BaseModel):
    """A method's parameters; subclass it, give every field a default and a description.

    Unknown names and infinite numbers are refused. `--set name=value` on the command line sets a
    field. A field is a bool, int, float, str, Enum or None, one of some values (`Literal`), or a
    list or tuple of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def without_effect(self, under: str, *names: str) -> None:
        """ValueError when one of these parameters, idle `under` others, is not at its default.

        For a validator of the class: a value that changes nothing would be recorded as if it did.
        """
        idle = [n for n in names if getattr(self, n) != type(self).model_fields[n].default]
        if idle:
            values = ", ".join(f"{name}={getattr(self, name)}" for name in idle)
            raise ValueError(f"{values} would have no effect with {under}")


class Predictor(Protocol):
    """What `adapt` returns: any callable from query images to scores.

    It may also have a method `decide(query) -> bool [q, L]` with decisions of its own; without
    one, a label is predicted where its score is above 0, that is sigmoid(score) > 0.5.
    """

    def __call__(self, query: Images, /) -> Tensor:
        """float [q, L]: one finite real number per query image and label, higher = more likely.

        The score of an image may not depend on the other images of the query, unless the class says
        `transductive`, and never on their order.
        """


class Method(ABC):
    """A system under test. One file, one class; see `baselines/` for examples.

    Class attributes
    ----------------
    name: the method's name on the command line and in tables.
    version: raised by one when the method's scores change with the same parameters, a default or a
        preset; the golden gate in the tests guards it for the methods of this project.
    Params: its MethodParams subclass.
    presets: named sets of parameters, e.g. {"paper": {...}}.
    check_settings: parameters under which `mlfsic-bench methods check` runs the contract tests, as
        `--set` would give them; for methods whose default training takes more than seconds.
    needs_embeddings: is given label embeddings, and refuses to run without.
    uses_embeddings: is given label embeddings where the run has some (`needs_embeddings` says so by
        itself).
    needs_text_side: its label embeddings live in the space of the backbone's global vectors; where
        none are named, the backbone's text side makes them.
    trains: whether `fit` learns anything (False: the run skips features of base and val images);
        what it learns is what `state` returns.
    adapts_by_gradient: whether `adapt` or the predictor takes gradient steps (a leaderboard track).
    transductive: whether the score of a query image may depend on the other query images of its
        episode, never on their labels or order. The predictor is then given the whole query at
        once, and every table marks the row.
    fits_together: whether several processes (torchrun) train it together: each calls `fit`, whose
        only work of note is `train_episodic`. Else one of them fits it alone. May depend on the
        parameters.
    printed: the method's name as papers print it, such as `ProtoNet`; without it, `name`.
    citation: the work the method comes from, in one line.
    bibtex: the BibTeX entries of that work, as `mlfsic-bench cite` prints them.

    What is not declared is not given: embeddings are None, and gradients can't be taken in `adapt`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Params: ClassVar[type[MethodParams]] = MethodParams
    presets: ClassVar[dict[str, dict[str, object]]] = {}
    check_settings: ClassVar[dict[str, str]] = {}
    needs_embeddings: ClassVar[bool] = False
    uses_embeddings: ClassVar[bool] = False
    needs_text_side: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    adapts_by_gradient: ClassVar[bool] = False
    transductive: ClassVar[bool] = False
    fits_together: ClassVar[bool] = False
    printed: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""

    def __init__(self, params: MethodParams | None = None) -> None:
        self.params = params if params is not None else self.Params()

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Learn from the base part, select on the val part; called once. Default: nothing."""
        return None

    @abstractmethod
    def adapt(self, support: Support) -> Predictor:
        """A predictor for the support's labels. Must not change the method itself."""

    def adapt_all(self, supports: Sequence[Support]) -> list[Predictor]:
        """Predictors for many episodes; override only to be faster, never to differ."""
        return [self.adapt(support) for support in supports]

    def state(self) -> dict[str, torch.Tensor]:
        """Everything `fit` learnt, as named tensors; what a run saves. Default: nothing."""
        return {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state` returned, in a fresh instance with the same parameters."""
        return None
