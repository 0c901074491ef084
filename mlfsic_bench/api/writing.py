"""Scores of any program, written as a scores file (docs/scores-format.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from mlfsic_bench.api.loading import LoadedSplit, check_episodes, loaded
from mlfsic_bench.episodes.protocol import EpisodeSet
from mlfsic_bench.errors import BenchError, described
from mlfsic_bench.evaluation.meta import BaseImages, EpisodesMeta, MethodMeta, ScoresMeta, SplitMeta
from mlfsic_bench.evaluation.recall import remember_split
from mlfsic_bench.evaluation.scores import Scores
from mlfsic_bench.evaluation.scores import write_scores as write_file
from mlfsic_bench.schema import one_error

if TYPE_CHECKING:
    from mlfsic_bench.splits.split import Split

PAGE = "docs/scores-format.md"


@dataclass(frozen=True)
class MethodCard:
    """What a scores file says of the method that made the scores.

    Attributes
    ----------
    name: the method's name in tables.
    trains: whether it learnt anything from the base images.
    uses_embeddings: whether it was given label embeddings.
    adapts_by_gradient: whether it takes gradient steps on the support images.
    transductive: whether the score of a query image depends on the others of its episode.
    seed: the training seed; files that differ in it alone are averaged.
    preset, parameters: how it was set; parameters are plain values by name.
    changed: the parameters that are not at the method's defaults.
    base_images: how many base images it was trained on, if not on all.
    printed, citation, bibtex: the name as papers print it, and the work it comes from.

    >>> MethodCard("my-method", trains=False).name
    'my-method'
    """

    name: str
    trains: bool
    uses_embeddings: bool = False
    adapts_by_gradient: bool = False
    transductive: bool = False
    seed: int = 0
    preset: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    base_images: int | None = None
    printed: str | None = None
    citation: str = ""
    bibtex: str = ""


def write_scores(
    path: str | Path,
    scores: npt.ArrayLike,
    *,
    split: Split,
    episodes: EpisodeSet,
    card: MethodCard,
    decisions: npt.ArrayLike | None = None,
) -> Path:
    """Write scores as a file that `load_results` and `mlfsic-bench score` read; its path.

    Parameters
    ----------
    path: the file, which ends in `.npz`.
    scores: [E, Q, L] finite numbers, raw, higher means more likely: of the first E episodes of the
        set, their queries in the order of `query_ids`, the labels in the order of the split.
    split, episodes: as `load_split` and `load_episodes` give them.
    card: what made the scores.
    decisions: bool [E, Q, L], the method's own; without them a score above 0 predicts its label.

    >>> import tempfile
    >>> import numpy as np
    >>> import mlfsic_bench as mb
    >>> split = mb.load_split("scenes-12-6-6-v1")
    >>> episodes = mb.load_episodes(split)
    >>> scores = np.random.default_rng(0).normal(size=(200, 24, 6))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = mb.write_scores(f"{folder}/mine.npz", scores, split=split, episodes=episodes,
    ...                            card=mb.MethodCard("guess", trains=False))
    ...     summary = mb.load_results(path).summary(["macro_ap"])
    >>> summary.index.tolist()
    ['guess']
    """
    if not isinstance(card, MethodCard):
        raise BenchError(
            "a scores file says which method made the scores",
            expected="card=mb.MethodCard('my-method', trains=False)",
            found=described(card),
            remedy="give a MethodCard",
        )
    own = loaded(split)
    check_episodes(episodes, own)
    array = _array("scores", scores, np.float32, own, episodes)
    chosen = None if decisions is None else _array("decisions", decisions, np.bool_, own, episodes)
    if chosen is not None and chosen.shape != array.shape:
        _refuse("decisions", f"decisions of shape {list(array.shape)}", f"{list(chosen.shape)}")
    write_file(Path(path), Scores(array, chosen, _meta(own, episodes, card, len(array))))
    if isinstance(own.plan.split, str):
        remember_split(own.opened.split_file(own.plan))  # so that the next step need not name it
    return Path(path)


def _array(
    name: str, values: npt.ArrayLike, kind: Any, split: LoadedSplit, episodes: EpisodeSet
) -> npt.NDArray[Any]:
    """The values as [E, Q, L] of that type, for the first E episodes."""
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu().numpy()
    try:
        masked = isinstance(values, np.ma.MaskedArray)
        if isinstance(values, (list, tuple)):  # of tensors or masked arrays, perhaps
            masked = any(isinstance(one, np.ma.MaskedArray) for one in values)
            values = [one.detach().cpu().numpy() if hasattr(one, "detach") else one
                      for one in values]  # fmt: skip
        given = np.asarray(values)
        if masked or given.dtype.kind not in "biuf":
            raise TypeError("no plain numbers")  # a mask or an imaginary part would be lost
        with np.errstate(over="ignore"):  # too large for float32: found to be infinite below
            array = np.ascontiguousarray(given, dtype=kind)
    except (TypeError, ValueError, RuntimeError):
        _refuse(name, "an array of numbers [episodes, queries, labels]", described(values))
    queries, labels = len(episodes.episodes[0].query), len(split.novel.labels)
    total = len(episodes.episodes)
    expected = f"[E, {queries}, {labels}] for the first E of {total} episodes"
    if array.ndim != 3 or array.shape[1:] != (queries, labels) or not 1 <= len(array) <= total:
        _refuse(name, expected, f"shape {list(array.shape)}")
    if kind is np.bool_ and not np.isin(given, (0, 1)).all():
        _refuse(name, "True and False, or 1 and 0", "other values")
    if not np.isfinite(array).all():
        _refuse(name, "finite numbers", f"{int((~np.isfinite(array)).sum())} that are not")
    return array


def _refuse(name: str, expected: str, found: str) -> NoReturn:
    raise BenchError(
        f"these {name} can't be written",
        expected=expected,
        found=found,
        remedy="score all queries of the episodes, in the order of episodes, query_ids and labels",
    )


@one_error("the description of these scores", page=PAGE, remedy="correct the MethodCard")
def _meta(split: LoadedSplit, episodes: EpisodeSet, card: MethodCard, count: int) -> ScoresMeta:
    of, cut = len(split.base.image_ids), card.base_images
    return ScoresMeta(
        split=SplitMeta.of(split),
        episodes=EpisodesMeta.of(episodes, count),
        labels=list(split.novel.labels),
        method=MethodMeta(
            name=card.name,
            preset=card.preset,
            parameters=dict(card.parameters),
            changed=list(card.changed),
            seed=card.seed,
            trains=card.trains,
            uses_words=card.uses_embeddings,
            adapts_by_gradient=card.adapts_by_gradient,
            transductive=card.transductive,
            citation=card.citation,
            printed=card.printed,
            bibtex=card.bibtex,
        ),
        base_images=None if cut is None else BaseImages(used=cut, of=of),
    )
