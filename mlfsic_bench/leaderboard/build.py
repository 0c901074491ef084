"""An entry made from what it rests on: the results of runs, or foreign scores.

`pack` makes an entry with it, and `check` makes it again and compares the two; nothing that follows
from the evidence is read from anywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import differences, meaning, run_key
from mlfsic_bench.evaluation.plan import UNVERSIONED
from mlfsic_bench.evaluation.record import ORDER, RECORD, SCORES, Record
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.leaderboard.card import Card
from mlfsic_bench.leaderboard.entry import (
    PAGE,
    Adaptation,
    Chance,
    Dates,
    Embeddings,
    Entry,
    ImageTrack,
    Interval,
    IntervalKind,
    Intervals,
    LabelValue,
    MethodFacts,
    Pretraining,
    ProtocolRef,
    Scored,
    ScoresFile,
    SplitRef,
    State,
    Tracks,
    Value,
    slug,
)
from mlfsic_bench.metrics.average_precision import label_ap
from mlfsic_bench.metrics.intervals import EpisodeImages, episode_images, image_interval, t_interval
from mlfsic_bench.metrics.registry import METRICS, METRICS_VERSION, chance_levels, query_influence
from mlfsic_bench.paths import resolved
from mlfsic_bench.results.conditions import check_comparable
from mlfsic_bench.results.references import printed_name
from mlfsic_bench.results.result import Result, Targets
from mlfsic_bench.schema import one_error

DIGITS = 6  # after the point, in per cent; sums differ between machines in the 13th
RERUN_TOLERANCE = 0.1  # points: runs of one key on other hardware differ in the last bits
# The data sets whose base part has the 6,000 images that the networks of scenes were trained on.
HOLD_SCENES_TRAINING = ("scenes-20k",)
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stated:
    """What the records of an entry's runs say; None for what they do not."""

    made: str | None = None
    backbone: str | None = None
    pretraining: Pretraining | None = None


# Entries of scores


@one_error("an entry of these scores", page=PAGE, remedy="say it in the card: --card FILE")
def build_entry(
    results: Sequence[Result],
    files: Sequence[ScoresFile],
    targets: Targets,
    card: Card,
    *,
    reruns: Sequence[Result] = (),
    rerun_files: Sequence[ScoresFile] = (),
) -> Entry:
    """The entry of one method's results, one for each training seed, every value computed.

    Parameters
    ----------
    results, files: the scores of each seed, and where they lie.
    targets: of their episodes; stored ones make the state `scores stored`.
    card: what the evidence does not say: names, authors, links.
    reruns, rerun_files: second runs, one for each seed; they make the state `rerun verified`.

    Raises BenchError for results that are not one method's or of a class without a file, and second
    runs that are none.
    """
    check_one_method(results)
    _refuse_unversioned(results)
    _refuse_trials(results)
    first = results[0]
    method, episodes, split = first.method, first.meta.episodes, first.meta.split
    known = stated(results)
    made, backbone = known.made or card.made, known.backbone or card.backbone
    if not made or not backbone:
        raise BenchError(
            "scores without a record do not say all that an entry needs",
            expected="`made` (a day) and `backbone` in the card",
            found="no "
            + " and no ".join(n for n, v in (("made", made), ("backbone", backbone)) if not v),
            remedy="write them in the card: --card FILE; `mlfsic-bench submit card` makes one",
        )
    if reruns:
        check_reruns(results, reruns, targets)
    kind = "scores stored" if targets.origin == "stored" else "scores verified"
    proof = Scored(
        kind="rerun verified" if reruns else kind,  # type: ignore[arg-type]
        files=list(files),
        reruns=list(rerun_files) or None,
    )
    values, per_label = compute_values(results, targets)
    notes = [note for result in results if result.record for note in result.record.notes]
    return Entry(
        id=entry_id(first, card),
        name=card.name or default_name(first),
        authors=card.authors,
        contact=card.contact,
        citation=card.citation or method.citation or "no citation given",
        state=State(proof.kind),
        proof=proof,
        tracks=Tracks(
            pretraining=known.pretraining or card.pretraining or Pretraining.UNKNOWN,
            words=Embeddings.GIVEN if method.uses_words else Embeddings.NONE,
            adaptation=Adaptation.GRADIENT if method.adapts_by_gradient else Adaptation.NONE,
            transductive=method.transductive,
            images=ImageTrack.SUBSET if split.subset else ImageTrack.FULL,
        ),
        split=SplitRef(**split.model_dump(exclude={"rule", "subset"})),
        protocol=ProtocolRef(
            id=episodes.protocol,
            episodes=episodes.hash,
            count=episodes.count,
            total=episodes.total,
            **episodes.drawn_by.choices,
        ),
        metrics_version=METRICS_VERSION,
        figures=values,
        per_label=per_label,
        chance=chance_of(targets.targets),  # type: ignore[arg-type]
        training_seeds=len(results),
        backbone=backbone,
        card=MethodFacts(
            method=method.name,
            preset=method.preset,
            parameters=method.parameters,
            trains=method.trains,
        ),
        dates=Dates(made=made, submitted=card.submitted),
        notes=[*dict.fromkeys([*notes, *card.notes])],
        links=card.links,
    )


def _refuse_trials(results: Sequence[Result]) -> None:
    for result in results:
        if result.meta.episodes.part != "novel":
            raise BenchError(
                f"{result.path} is a trial on the {result.meta.episodes.part} episodes",
                expected="scores of the novel episodes",
                found=f"part {result.meta.episodes.part}",
                remedy="run again without --part",
            )


def _refuse_unversioned(results: Sequence[Result]) -> None:
    for result in results:
        if result.version == UNVERSIONED:
            raise BenchError(
                f"the run in {result.path} is unversioned, so it can't enter the leaderboard",
                expected="a method in a file, or a registered one: others can run that again",
                found=f"the class {result.method.name!r} without a file, such as one of a notebook",
                remedy="write the class to a file of its own and run it as FILE.py:CLASS",
            )


def entry_id(result: Result, card: Card) -> str:
    """The card's id, or one made of method, preset, backbone and shots."""
    backbone = stated([result]).backbone or card.backbone or ""
    chosen = result.meta.episodes.drawn_by.tag
    return card.id or slug(f"{result.method.name}-{result.method.preset or ''}-{backbone}-{chosen}")


def default_name(result: Result) -> str:
    """The method's name as papers print it, and its preset."""
    preset = result.method.preset
    return printed_name(result) + (f" ({preset})" if preset else "")


@one_error("the files of an entry", page=PAGE, remedy="rename the run's folder or its split")
def file_of(result: Result, folder: str) -> ScoresFile:
    """How an entry names the files of a result whose scores lie in `folder` of the results."""
    record, top = result.record, "" if folder == "." else f"{folder}/"
    own = ORDER if result.scores.only_order else SCORES
    return ScoresFile(
        seed=result.seed,
        scores=f"{top}{own if record else result.path.name}",
        scores_sha256=result.sha256,
        record=f"{top}{RECORD}" if record else None,
        record_sha256=hash_file(result.path / RECORD) if record else None,
        run=record.key if record else None,
        audit=record.audit_status if record else None,
    )


def folder_in(result: Result, results: Path) -> str | None:
    """The folder of a result's scores below the results folder; None where it lies elsewhere."""
    own = resolved(result.path if result.record else result.path.parent)
    if not own.is_relative_to(resolved(results)):
        return None
    return own.relative_to(resolved(results)).as_posix()


def stated(results: Sequence[Result]) -> Stated:
    """What the records of these results say; nothing where there are no records."""
    records = [result.record for result in results if result.record]
    if not records:
        return Stated()
    features = records[0].features
    backbone = "none"
    if features is not None:
        trained = " (trained end to end)" if features.mode == "end-to-end" else ""
        backbone = features.title + trained
    pretraining = pretraining_of(records[0])
    return Stated(
        made=max(record.ended or record.started for record in records)[:10],
        backbone=backbone,
        pretraining=None if pretraining is Pretraining.UNKNOWN else pretraining,
    )


def pretraining_of(record: Record) -> Pretraining:
    """What the weights had seen; unknown for a file of weights.

    The networks of scenes learnt from base images with their masks, of which only a larger split's
    base part has all (docs/methodology.md, M36).
    """
    features = record.features
    if features is None or features.weights == "none":
        return Pretraining.BASE
    if features.weights not in ("default", "imagenet"):
        return Pretraining.UNKNOWN
    own = all(name.startswith("scenes-") for name in features.backbone.split("+"))
    whole = record.split.dataset in HOLD_SCENES_TRAINING and not record.split.subset
    return Pretraining.BASE if own and whole else Pretraining.EXTERNAL


# What results must be, to be one entry


def check_one_method(results: Sequence[Result]) -> None:
    """BenchError unless the results can be one entry.

    They differ in the training seed, and in that alone; none was trained on part of the base
    images; all have a record that agrees with itself, or none has and none says it is of a run.
    """
    for result in results:
        _check_sound(result)
    seeds = [result.seed for result in results]
    if len(set(seeds)) != len(seeds):
        raise BenchError(
            "two of the scores have the same training seed",
            expected="another seed in every run",
            found=f"seeds {', '.join(map(str, seeds))}",
            remedy="name each seed once; a second run of one seed goes to --rerun",
        )
    check_comparable(results)
    first = results[0]
    for other in results[1:]:
        if other.settings != first.settings:
            both = first.record and other.record
            pair = [
                dict(meaning(one.record.identity), seed=0) if both and one.record else one.described
                for one in (first, other)
            ]
            mixed = "one is a run with its record, the other a scores file without"
            alike = (first.record is None) == (other.record is None)
            raise BenchError(
                f"{other.path} and {first.path} differ in more than the training seed",
                expected="scores of one method on the same episodes, equal but for the seed",
                found="; ".join(differences(*pair)) if alike else mixed,
                remedy="pack them as two entries",
            )


def _check_sound(result: Result) -> None:
    record, cut = result.record, result.base_images
    if cut is not None:
        raise BenchError(
            f"{result.path} was trained on part of the base images",
            expected="runs on all base images; others are not comparable with them",
            found=cut.text,
            remedy="show it as a point of a learning curve: mlfsic-bench curve",
        )
    if record is None and result.meta.run is not None:
        raise BenchError(
            f"{result.path} is of a run whose record is not there",
            expected="the run's folder, whose record says what it was trained on",
            found=f"the scores of run {result.meta.run[:12]} alone",
            remedy="name the run's folder in the place of its scores file",
        )
    wrong = contradictions(record) if record else []
    if wrong:
        raise BenchError(
            f"the record of {result.path} contradicts itself",
            expected="a key that is the hash of the identity, and an identity that says the same",
            found="; ".join(wrong[:3]),
            remedy="restore the record, or run the same command again",
        )


def contradictions(record: Record) -> list[str]:
    """Where a record says something else than its identity, of which its key is the hash."""
    features, own = record.features, record.identity
    of_features = dict.fromkeys(("mode", "backbone", "transform", "precision", "weights"))
    if features:
        of_features = features.model_dump(include=set(of_features) - {"weights"})
        of_features["weights"] = features.weights_hash
        of_features |= {"vector": features.vector, "rounded": features.rounded}
        changes = features.training.changes if features.training else {}
        of_features |= dict.fromkeys(("tf32", "batch_norm", "augment")) | changes
    said: dict[str, Any] = {
        "split": record.split.hash,
        "episodes": {"hash": record.episodes.hash, "count": record.episodes.count},
        "base_images": record.base_images and record.base_images.used,
        "base_labels": record.base_images and record.base_images.labels,
        "method": {
            **record.method.model_dump(include={"name", "parameters"}),
            "transductive": record.method.transductive or None,
        },
        "seed": record.method.seed,
        "words": record.words and record.words.hash,
        "features": of_features,
    }
    found = {name: own.get(name) for name in said}
    for name, value in said.items():
        if isinstance(value, dict):
            part = own.get(name)
            found[name] = {key: part.get(key) for key in value} if isinstance(part, dict) else {}
    key = run_key(own)
    lines = [] if key == record.key else [f"key: {record.key[:12]}, its identity gives {key[:12]}"]
    return lines + [f"identity.{line}" for line in differences(found, said)]


def check_reruns(results: Sequence[Result], reruns: Sequence[Result], targets: Targets) -> None:
    """BenchError unless `reruns` are second runs of `results` whose values agree.

    Each seed needs one: another folder, a record of its own of the same identity, started at
    another time or made elsewhere, an audit that it passed, and every metric within
    RERUN_TOLERANCE points. The scores may be the same to the last bit.
    """
    for again in reruns:
        _check_sound(again)
    # Not by the stored key: one of the two may be of an earlier version, which made keys otherwise.
    firsts = {(result.settings, result.seed): result for result in results}
    strange = [again for again in reruns if (again.settings, again.seed) not in firsts]
    found, wanted = (sorted(one.seed for one in each) for each in (reruns, results))
    wrong = []
    if targets.origin == "stored":
        wrong.append("the targets are stored ones, with which nothing is verified")
    if any(result.record is None for result in (*results, *reruns)):
        wrong.append("second runs need the records of both runs of every seed")
    elif strange:
        wrong.append(f"{strange[0].path}: its run key is that of none of the entry's runs")
    elif found != wanted:
        seeds = [", ".join(map(str, each)) for each in (found, wanted)]
        wrong.append(f"second runs of seeds {seeds[0]}, where each of seeds {seeds[1]} needs one")
    else:
        for again in reruns:
            wrong += _pair_differs(firsts[again.settings, again.seed], again, targets)
        wrong += [
            f"{one.path}: its run has passed no audit"
            for one in (*results, *reruns)
            if one.record and one.record.audit_status != "passed"
        ]
    if wrong:
        raise BenchError(
            "these are not second runs that verify the entry",
            expected="rebuilt targets, and for each training seed a run of the same key, with "
            "a record of its own and values that agree",
            found="; ".join(wrong[:3]),
            remedy="name one second run of every seed, or leave --rerun out",
        )


def _pair_differs(first: Result, again: Result, targets: Targets) -> list[str]:
    lines = []
    made = [(one.record.started, one.record.provenance) for one in (first, again) if one.record]
    if resolved(first.path) == resolved(again.path) or made[0] == made[1]:
        lines.append(f"{again.path}: the same run twice, not a second one")
    one, two = (compute_values([each], targets)[0] for each in (first, again))
    for name, value in one.items():
        other = two[name].value if name in two else float("nan")
        if not abs(value.value - other) <= RERUN_TOLERANCE:
            lines.append(f"second run, {name}: {other} is not {value.value} ± {RERUN_TOLERANCE}")
    return lines


# Values


def compute_values(
    results: Sequence[Result], targets: Targets
) -> tuple[dict[str, Value], list[LabelValue]]:
    """The value of every metric and the AP of every label, in per cent, with intervals.

    Several training seeds are one entry: an episode's value is its mean over the seeds, and the
    interval over training seeds is a Student-t interval of the seeds' means. The interval over
    images is left out where the support images are not known: it would cover query images only.
    """
    images = None
    if targets.support is not None:
        images = episode_images(targets.query, targets.support, targets.drawn_for)
    each = [result.values(tuple(METRICS), targets) for result in results]
    influence = [result.influence(tuple(METRICS), targets) if images else {} for result in results]
    values = {}
    for name in METRICS:
        value, intervals = _mean(
            [one[name] for one in each], [i.get(name) for i in influence], images
        )
        if value is not None:
            values[name] = Value(value=value, intervals=intervals)
    known = np.asarray(targets.targets, np.uint8)
    ap = [label_ap(result.scores.scores, known) for result in results]  # [E, L] each
    per_label = []
    for i, label in enumerate(results[0].meta.labels):
        column, effects = slice(i, i + 1), []
        for result in results:
            scores = result.scores.scores[:, :, column]
            effects.append(
                query_influence(scores, known[:, :, column], None, ("macro_ap",))["macro_ap"]
                if images
                else None
            )
        value, intervals = _mean([one[:, i] for one in ap], effects, images)
        if value is not None:
            per_label.append(LabelValue(label=label, ap=value, intervals=intervals))
    return values, per_label


def chance_of(targets: npt.NDArray[np.bool_]) -> dict[str, Chance]:
    """Expected micro-AP and macro-AP of a random ranking of these queries, [E, Q, L]."""
    levels = zip(("micro_ap", "macro_ap"), chance_levels(targets), strict=True)
    known = {name: per_cent(level) for name, level in levels if not np.isnan(level)}
    return {name: Chance(low=level, high=level) for name, level in known.items()}


def per_cent(value: float) -> float:
    """A fraction in per cent, rounded to DIGITS."""
    return round(100.0 * float(value), DIGITS) + 0.0  # + 0.0 makes -0.0 positive


def _mean(
    each: Sequence[Float64], influence: Sequence[Float64 | None], images: EpisodeImages | None
) -> tuple[float | None, Intervals]:
    """Mean and intervals of float64 [E] values of each seed, NaN where undefined.

    `influence` [E, Q] of each seed; None where images are not known.
    """
    # Undefined episodes are those without positives, which are the same for every seed.
    values = np.stack(each)
    over_seeds = values.mean(axis=0)
    mean, half = t_interval(over_seeds)
    if np.isnan(mean):
        return None, {}
    intervals: Intervals = {}
    effects = [one for one in influence if one is not None]
    if images is not None and effects:
        width = image_interval(over_seeds, np.mean(effects, axis=0), images).half_width
        _put(intervals, IntervalKind.IMAGES, mean, width)
    _put(intervals, IntervalKind.EPISODES, mean, half)
    if len(values) > 1:
        between, half = t_interval(values[:, ~np.isnan(values[0])].mean(axis=1))
        _put(intervals, IntervalKind.SEEDS, between, half)
    return per_cent(mean), intervals


def _put(intervals: Intervals, kind: IntervalKind, mean: float, half: float) -> None:
    if not np.isnan(half):
        intervals[kind] = Interval(low=per_cent(mean - half), high=per_cent(mean + half))
