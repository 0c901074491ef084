"""Entries made from scores: of finished runs, one for each training seed, or of foreign files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.plan import differences
from mlfsic_bench.harness.record import RECORD, Record
from mlfsic_bench.harness.resume import ANSWERS, SCORES
from mlfsic_bench.harness.scores import Scores, ScoresMeta
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.metrics.registry import METRICS_VERSION
from mlfsic_bench.report.entry import (
    Adaptation,
    Dates,
    Entry,
    ImageTrack,
    MethodFacts,
    Pretraining,
    ProtocolRef,
    RerunVerified,
    ScoresFile,
    ScoresVerified,
    SplitRef,
    State,
    Tracks,
    WordTrack,
    slug,
)
from mlfsic_bench.report.figures import compute_figures
from mlfsic_bench.report.published_entries import entry_from_published, published_entries
from mlfsic_bench.report.runs import FinishedRun, read_run
from mlfsic_bench.report.submission_card import SubmissionCard
from mlfsic_bench.report.truth import Truth, stored_truth

__all__ = ["Evidence", "entry_from_published", "entry_from_run", "make_entry", "published_entries"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """One training seed: its scores, where its files lie, its record where it is a run of ours."""

    scores: Scores
    file: ScoresFile
    record: Record | None


def entry_from_run(
    folders: Sequence[Path],
    results: Path,
    *,
    reruns: Sequence[Path] = (),
    card: SubmissionCard | None = None,
    truth: Callable[[FinishedRun], Truth] = stored_truth,
) -> Entry:
    """The entry of one method's runs, one for each training seed.

    Parameters
    ----------
    folders: run folders that lie below `results`; they differ in the training seed alone.
    results: the results folder, to which the entry's paths are relative.
    reruns: second runs of some or all of them, also below `results`; they make the entry's state
        `rerun verified`.
    card: names, authors and the like.
    truth: gives the targets of a run; the default takes those stored beside it, without which
        images were the support, and so without the interval over images.

    Raises BenchError for runs not finished, that lie elsewhere, or differ in more than the seed.
    """
    runs, again = [read_run(folder) for folder in folders], [read_run(f) for f in reruns]
    if not runs:
        raise BenchError(
            "an entry needs a run",
            expected="at least one folder that mlfsic-bench run wrote",
            found="none",
            remedy="name the runs' folders, one for each training seed",
        )
    return make_entry(
        [evidence_of_run(run, results) for run in runs],
        truth(runs[0]),
        card or SubmissionCard(),
        reruns=[evidence_of_run(run, results).file for run in again],
    )


def evidence_of_run(run: FinishedRun, results: Path) -> Evidence:
    """A run's files by their paths below `results`; BenchError for a run that lies elsewhere."""
    try:
        place = PurePosixPath(*run.folder.resolve().relative_to(results.resolve()).parts)
    except ValueError as error:
        raise BenchError(
            f"{run.folder} does not lie in the results folder",
            expected=f"a folder below {results}",
            found=str(run.folder),
            remedy="use `mlfsic-bench submit pack`, which copies it there",
        ) from error
    file = ScoresFile(
        seed=run.record.method.seed,
        scores=str(place / SCORES),
        scores_sha256=hash_file(run.folder / SCORES),
        answers=str(place / ANSWERS),
        answers_sha256=hash_file(run.folder / ANSWERS),
        record=str(place / RECORD),
        run=run.record.key,
    )
    return Evidence(run.scores, file, run.record)


def make_entry(
    seeds: Sequence[Evidence],
    truth: Truth,
    card: SubmissionCard,
    *,
    reruns: Sequence[ScoresFile] = (),
) -> Entry:
    """The entry of these scores, every figure computed; BenchError if not one method's."""
    check_one_method(seeds)
    meta, record = seeds[0].scores.meta, seeds[0].record
    method, episodes = meta.method, meta.episodes
    computed = compute_figures([one.scores for one in seeds], truth)
    files = [one.file for one in seeds]
    proof: ScoresVerified | RerunVerified
    if reruns:
        proof = RerunVerified(kind="rerun verified", files=files, reruns=list(reruns))
    else:
        proof = ScoresVerified(kind="scores verified", files=files)
    records = [one.record for one in seeds if one.record]
    made = card.made or max((r.ended or r.started for r in records), default="")[:10]
    backbone = card.backbone or (_backbone(record) if record else None)
    if not made or not backbone:
        raise BenchError(
            "scores without a record do not say all that an entry needs",
            expected="`made` (a day) and `backbone` in the card",
            found="no "
            + " and no ".join(n for n, v in (("made", made), ("backbone", backbone)) if not v),
            remedy="write them in the card: --card FILE",
        )
    notes = [note for one in records for note in one.notes]
    return Entry(
        id=default_id(meta, record, card),
        name=card.name or method.name + (f" ({method.preset})" if method.preset else ""),
        authors=card.authors,
        contact=card.contact,
        citation=card.citation or method.citation or "no citation given",
        state=State(proof.kind),
        proof=proof,
        tracks=Tracks(
            pretraining=card.pretraining
            or (_pretraining(record) if record else Pretraining.UNKNOWN),
            words=WordTrack.VECTORS if method.uses_words else WordTrack.NONE,
            adaptation=Adaptation.GRADIENT if method.adapts_by_gradient else Adaptation.NONE,
            images=image_track(seeds[0]),
        ),
        split=SplitRef(id=meta.split.id, hash=meta.split.hash, dataset=meta.split.dataset),
        protocol=ProtocolRef(
            id=episodes.protocol,
            episodes=episodes.hash,
            count=episodes.count,
            total=episodes.total,
            shots=episodes.shots,
        ),
        metrics_version=METRICS_VERSION,
        figures=computed.figures,
        per_label=computed.per_label,
        chance=computed.chance,  # type: ignore[arg-type]
        training_seeds=len(seeds),
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


def default_id(meta: ScoresMeta, record: Record | None, card: SubmissionCard) -> str:
    """The card's id, or one made of method, preset, backbone and a subset's or cut's mark."""
    if card.id:
        return card.id
    backbone = card.backbone or (_backbone(record) if record else "")
    cut = f"{record.base_images.used}-base-images" if record and record.base_images else ""
    shots = f"{meta.episodes.shots}-shot" if meta.episodes.shots else ""
    return slug(f"{meta.method.name}-{meta.method.preset or ''}-{backbone}-{shots}-{cut}")


def image_track(one: Evidence) -> ImageTrack:
    """Subset for part of the split's images, and for training on part of the base images."""
    cut = one.record is not None and one.record.base_images is not None
    return ImageTrack.SUBSET if one.scores.meta.split.subset or cut else ImageTrack.FULL


def check_one_method(seeds: Sequence[Evidence]) -> None:
    """BenchError unless the scores differ in the training seed, and in that alone."""
    first = seeds[0]
    for one in seeds[1:]:
        if first.record and one.record:
            a, b = (dict(each.record.identity, seed=0) for each in (first, one) if each.record)
        else:
            a, b = (
                each.scores.meta.model_dump(mode="json", exclude={"run": True, "method": {"seed"}})
                for each in (first, one)
            )
        if a != b:
            raise BenchError(
                f"{one.file.scores} and {first.file.scores} differ in more than the training seed",
                expected="scores of one method on the same episodes, equal but for the seed",
                found="; ".join(differences(a, b)),
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


def _backbone(record: Record) -> str:
    features = record.features
    if features is None:
        return "none"
    return features.backbone + (" (trained end to end)" if features.mode == "end-to-end" else "")


def _pretraining(record: Record) -> Pretraining:
    """Our own backbones of `scenes` have seen base images only, unless other weights were given."""
    features = record.features
    if features is None or features.weights == "none":
        return Pretraining.BASE
    if features.weights not in ("default", "imagenet"):
        return Pretraining.UNKNOWN
    own = all(name.startswith("scenes-") for name in features.backbone.split("+"))
    return Pretraining.BASE if own else Pretraining.EXTERNAL
