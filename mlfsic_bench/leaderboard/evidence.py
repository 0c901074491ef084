"""What an entry rests on: scores and records that agree with each other, and what records say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import differences, meaning, run_key
from mlfsic_bench.evaluation.record import Record
from mlfsic_bench.evaluation.scores import Scores
from mlfsic_bench.leaderboard.kinds import ImageTrack, Pretraining
from mlfsic_bench.leaderboard.proof import ScoresFile

# The data sets whose base part has the 6,000 images that our networks of scenes learnt from.
LESSON = ("scenes-20k",)


@dataclass(frozen=True, eq=False)
class Evidence:
    """One training seed: its scores, where its files lie, its record where it is a run of ours."""

    scores: Scores
    file: ScoresFile
    record: Record | None


@dataclass(frozen=True)
class Stated:
    """What the records of an entry's runs say; None for what they do not."""

    made: str | None
    backbone: str | None
    pretraining: Pretraining | None


def stated(seeds: Sequence[Evidence]) -> Stated:
    """What the records of these seeds say, all None where there are no records."""
    records = [one.record for one in seeds if one.record]
    if not records:
        return Stated(None, None, None)
    pretraining = pretraining_of(records[0])
    return Stated(
        made=max(record.ended or record.started for record in records)[:10],
        backbone=backbone_of(records[0]),
        pretraining=None if pretraining is Pretraining.UNKNOWN else pretraining,
    )


def backbone_of(record: Record) -> str:
    """The backbone as the table shows it."""
    features = record.features
    if features is None:
        return "none"
    return features.backbone + (" (trained end to end)" if features.mode == "end-to-end" else "")


def pretraining_of(record: Record) -> Pretraining:
    """What the weights had seen; unknown for a file of weights.

    Our networks of scenes learnt from base images with their masks, of which only a larger split's
    base part has all (docs/methodology.md, M36).
    """
    features = record.features
    if features is None or features.weights == "none":
        return Pretraining.BASE
    if features.weights not in ("default", "imagenet"):
        return Pretraining.UNKNOWN
    own = all(name.startswith("scenes-") for name in features.backbone.split("+"))
    whole = record.split.dataset in LESSON and not record.split.subset
    return Pretraining.BASE if own and whole else Pretraining.EXTERNAL


def image_track(one: Evidence) -> ImageTrack:
    """Whether the scores were made on all images of the split."""
    return ImageTrack.SUBSET if one.scores.meta.split.subset else ImageTrack.FULL


def check_one_method(seeds: Sequence[Evidence]) -> None:
    """BenchError unless the scores can be one entry.

    They differ in the training seed, and in that alone; none was trained on part of the base
    images; all have a record that agrees with itself, or none has and none says it is of a run.
    """
    for one in seeds:
        _check_sound(one)
    first = seeds[0]
    for one in seeds[1:]:
        if first.record and one.record:
            a, b = (
                dict(meaning(each.record.identity), seed=0) for each in (first, one) if each.record
            )
        else:
            a, b = (
                each.scores.meta.model_dump(mode="json", exclude={"run": True, "method": {"seed"}})
                for each in (first, one)
            )
        lines = differences(a, b)
        if (first.record is None) != (one.record is None):
            lines = ["one is a run with its record, the other a scores file without"]
        if lines:
            raise BenchError(
                f"{one.file.scores} and {first.file.scores} differ in more than the training seed",
                expected="scores of one method on the same episodes, equal but for the seed",
                found="; ".join(lines),
                remedy="pack them as two entries",
            )
    numbers = [one.scores.meta.method.seed for one in seeds]
    if len(set(numbers)) != len(numbers):
        raise BenchError(
            "two of the scores have the same training seed",
            expected="another seed in every run",
            found=f"seeds {', '.join(map(str, numbers))}",
            remedy="name each seed once; a second run of one seed goes to --rerun",
        )


def contradictions(record: Record) -> Iterator[str]:
    """Where a record does not say the same of itself twice: its key, its identity, its cards."""
    identity = record.identity
    method, features = _mapping(identity, "method"), _mapping(identity, "features")
    card, episodes = record.features, _mapping(identity, "episodes")
    pairs: list[tuple[str, Any, Any]] = [
        ("split", identity.get("split"), record.split.hash),
        ("episodes.hash", episodes.get("hash"), record.episodes.hash),
        ("episodes.count", episodes.get("count"), record.episodes.count),
        (
            "base_images",
            identity.get("base_images"),
            record.base_images and record.base_images.used,
        ),
        ("method.name", method.get("name"), record.method.name),
        ("method.parameters", method.get("parameters"), record.method.parameters),
        ("seed", identity.get("seed"), record.method.seed),
        ("words", identity.get("words"), record.words and record.words.hash),
        ("features.mode", features.get("mode"), card and card.mode),
        ("features.backbone", features.get("backbone"), card and card.backbone),
        ("features.weights", features.get("weights"), card and card.weights_hash),
        ("features.transform", features.get("transform"), card and card.transform),
        ("features.precision", features.get("precision"), card and card.precision),
    ]
    if record.key != run_key(identity):
        yield f"record.key: {record.key[:12]}, its identity gives {run_key(identity)[:12]}"
    for name, a, b in pairs:
        if a != b:
            yield f"record.identity.{name}: {a!r}, elsewhere in the record {b!r}"


def _check_sound(one: Evidence) -> None:
    record, meta = one.record, one.scores.meta
    cut = meta.base_images or (record.base_images if record else None)
    if cut is not None:
        raise BenchError(
            f"{one.file.scores} was trained on part of the base images",
            expected="runs on all base images: others do not compare with them",
            found=f"{cut.used:,} of {cut.of:,} base images",
            remedy="show it as a point of a learning curve: mlfsic-bench curve",
        )
    if record is None and meta.run is not None:
        raise BenchError(
            f"{one.file.scores} is of a run whose record is not there",
            expected="the run's folder, whose record says what it was trained on",
            found=f"the scores of run {meta.run[:12]} alone",
            remedy="name the run's folder in the place of its scores file",
        )
    wrong = list(contradictions(record)) if record else []
    if wrong:
        raise BenchError(
            f"the record of {one.file.scores} contradicts itself",
            expected="a key that is the hash of the identity, and cards that agree with it",
            found="; ".join(wrong[:3]),
            remedy="restore the record, or run the same command again",
        )


def _mapping(identity: dict[str, Any], name: str) -> dict[str, Any]:
    value = identity.get(name)
    return value if isinstance(value, dict) else {}
