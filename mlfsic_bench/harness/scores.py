"""The Scores noun: raw float32 scores of every episode in one file that names what made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.arrays import read_arrays, write_arrays
from mlfsic_bench.hashing import canonical_json


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SplitCard(_Schema):
    """Which split: id, hash, the dataset and rule, and whether only part of its images was used."""

    id: str
    hash: str
    dataset: str
    rule: str
    subset: bool


class EpisodesCard(_Schema):
    """Which episodes: protocol, part, the set's hash and size, how many of it (the first) ran."""

    protocol: str
    part: str
    hash: str
    total: int
    count: int


class MethodCard(_Schema):
    """Which method: name, preset, parameters, training seed and the tracks it belongs to.

    `changed` names the parameters that are not at the method's defaults.
    """

    name: str
    preset: str | None
    parameters: dict[str, Any]
    changed: list[str]
    seed: int
    trains: bool
    uses_words: bool
    adapts_by_gradient: bool
    citation: str


class ScoresMeta(_Schema):
    """What a scores file says of itself."""

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench scores"] = "mlfsic-bench scores"
    run: str
    split: SplitCard
    episodes: EpisodesCard
    labels: list[str]
    method: MethodCard


class AnswersMeta(_Schema):
    """What an answers file says of itself."""

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench answers"] = "mlfsic-bench answers"
    split: SplitCard
    episodes: EpisodesCard
    labels: list[str]


@dataclass(frozen=True, eq=False)
class Scores:
    """Raw scores of one run.

    Attributes
    ----------
    scores: float32 [E, Q, L], finite; higher means more likely. Never after a sigmoid.
    decisions: bool [E, Q, L], the method's own decisions, or None (then: score > 0).
    meta: what made them.
    """

    scores: npt.NDArray[np.float32]
    decisions: npt.NDArray[np.bool_] | None
    meta: ScoresMeta


@dataclass(frozen=True, eq=False)
class Answers:
    """The far side of Scores, which no method ever sees.

    Attributes
    ----------
    targets: uint8 [E, Q, L] of 0 and 1, the targets of the query images.
    query: text [E, Q], the ids of the query images.
    meta: the split and the episodes they belong to.
    """

    targets: npt.NDArray[np.uint8]
    query: npt.NDArray[np.str_]
    meta: AnswersMeta


def write_scores(path: Path, scores: Scores) -> None:
    """Write a scores file atomically; equal scores give equal bytes."""
    _check_scores(path, scores)
    arrays: dict[str, npt.NDArray[Any]] = {
        "scores": scores.scores.astype("<f4", copy=False),
        "meta": _text(scores.meta),
    }
    if scores.decisions is not None:
        arrays["decisions"] = scores.decisions
    write_arrays(path, arrays)


def read_scores(path: Path) -> Scores:
    """The scores in `path`, checked: types, shapes, no NaN, members, schema; else BenchError."""
    arrays = read_arrays(
        path, kind="scores file", required=("scores", "meta"), optional=("decisions",)
    )
    meta = _meta(path, arrays["meta"], ScoresMeta)
    scores = Scores(arrays["scores"], arrays.get("decisions"), meta)
    _check_scores(path, scores)
    return scores


def write_answers(path: Path, answers: Answers) -> None:
    """Write an answers file atomically; equal answers give equal bytes."""
    _check_answers(path, answers)
    query = np.char.encode(answers.query, "utf-8")  # a quarter of the size of NumPy's own text
    write_arrays(path, {"targets": answers.targets, "query": query, "meta": _text(answers.meta)})


def read_answers(path: Path) -> Answers:
    """The answers in `path`, checked like `read_scores`."""
    arrays = read_arrays(path, kind="answers file", required=("targets", "query", "meta"))
    meta = _meta(path, arrays["meta"], AnswersMeta)
    query = arrays["query"]
    if query.dtype.kind != "S":
        raise _bad(path, "query ids as UTF-8 bytes [E, Q]", f"{query.dtype} {query.shape}")
    try:
        ids = np.char.decode(query, "utf-8")
    except UnicodeDecodeError as error:
        raise _bad(path, "query ids as UTF-8 bytes [E, Q]", str(error)) from error
    answers = Answers(arrays["targets"], ids, meta)
    _check_answers(path, answers)
    return answers


def _text(meta: _Schema) -> npt.NDArray[np.str_]:
    text = canonical_json(meta.model_dump(mode="json")).decode()
    return np.array(text, dtype=f"<U{len(text)}")


M = TypeVar("M", bound=_Schema)


def _meta(path: Path, text: npt.NDArray[Any], model: type[M]) -> M:
    if text.dtype.kind != "U" or text.shape != ():
        raise _bad(path, "one text called `meta`", f"{text.dtype} of shape {text.shape}")
    try:
        return model.model_validate_json(str(text[()]))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "meta"
        raise _bad(
            path, "a description with the documented keys", f"{place}: {first['msg']}"
        ) from (error)


def _check_scores(path: Path, scores: Scores) -> None:
    array, decisions, meta = scores.scores, scores.decisions, scores.meta
    if array.dtype != np.dtype("<f4") or array.ndim != 3:
        raise _bad(path, "float32 scores [E, Q, L]", f"{array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise _bad(path, "finite scores", f"{bad} scores that are NaN or infinite")
    _check_size(path, array.shape, meta)
    if decisions is not None and (decisions.dtype != np.bool_ or decisions.shape != array.shape):
        found = f"{decisions.dtype} of shape {decisions.shape}"
        raise _bad(path, f"bool decisions of shape {array.shape}", found)


def _check_answers(path: Path, answers: Answers) -> None:
    targets, query = answers.targets, answers.query
    if targets.dtype != np.uint8 or targets.ndim != 3 or (targets > 1).any():
        raise _bad(path, "uint8 targets [E, Q, L] of 0 and 1", f"{targets.dtype} {targets.shape}")
    if query.dtype.kind != "U" or query.shape != targets.shape[:2]:
        raise _bad(path, f"query ids of shape {targets.shape[:2]}", f"{query.dtype} {query.shape}")
    _check_size(path, targets.shape, answers.meta)


def _check_size(path: Path, shape: tuple[int, ...], meta: ScoresMeta | AnswersMeta) -> None:
    episodes, labels = meta.episodes, meta.labels
    if shape[0] != episodes.count or shape[2] != len(labels) or 0 in shape:
        raise _bad(
            path,
            f"{episodes.count} episodes and {len(labels)} labels, as its description says",
            f"an array of shape {shape}",
        )
    if not 0 < episodes.count <= episodes.total or len(set(labels)) != len(labels):
        raise _bad(
            path,
            "distinct labels, and at most as many episodes as the set has",
            f"{episodes.count} of {episodes.total} episodes, {len(set(labels))} distinct labels",
        )


def _bad(path: Path, expected: str, found: str) -> BenchError:
    return BenchError(
        f"{path} is not a valid file of scores or answers",
        expected=expected,
        found=found,
        remedy="write it with mlfsic-bench run, or correct what made it (docs/results-format.md)",
    )
