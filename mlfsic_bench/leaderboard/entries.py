"""Entries made from scores: of finished runs, one for each training seed, or of foreign files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TypeVar

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import ANSWERS, RECORD, SCORES, Record
from mlfsic_bench.evaluation.scores import ScoresMeta
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.leaderboard.entry import (
    Dates,
    Entry,
    MethodFacts,
    ProtocolRef,
    SplitRef,
    Tracks,
    slug,
)
from mlfsic_bench.leaderboard.evidence import (
    Evidence,
    backbone_of,
    check_one_method,
    image_track,
    stated,
)
from mlfsic_bench.leaderboard.figures import compute_figures
from mlfsic_bench.leaderboard.files import PAGE
from mlfsic_bench.leaderboard.kinds import Adaptation, Pretraining, State, WordTrack
from mlfsic_bench.leaderboard.proof import (
    RerunVerified,
    ScoresFile,
    ScoresStored,
    ScoresVerified,
    WithScores,
)
from mlfsic_bench.leaderboard.published_entries import entry_from_published, published_entries
from mlfsic_bench.leaderboard.reruns import reruns_differ
from mlfsic_bench.leaderboard.submission_card import SubmissionCard
from mlfsic_bench.metrics.registry import METRICS_VERSION
from mlfsic_bench.paths import resolved
from mlfsic_bench.results.runs import FinishedRun, read_run
from mlfsic_bench.results.targets import Truth, stored_truth
from mlfsic_bench.schema import one_error

__all__ = ["Evidence", "entry_from_published", "entry_from_run", "make_entry", "published_entries"]


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
    reruns: second runs, one of each of them, also below `results`; they make the entry's state
        `rerun verified`.
    card: names, authors and the like.
    truth: gives the targets of a run; the default takes those stored beside it, so that the state
        is `scores stored`; which images were the support is not in them, so there is no interval
        over images.

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
        reruns=[evidence_of_run(run, results) for run in again],
    )


@one_error("the evidence of an entry", page=PAGE, remedy="rename the run's folder")
def evidence_of_run(run: FinishedRun, results: Path) -> Evidence:
    """A run's files by their paths below `results`; BenchError for a run that lies elsewhere."""
    try:
        place = PurePosixPath(*resolved(run.folder).relative_to(resolved(results)).parts)
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
        record_sha256=hash_file(run.folder / RECORD),
        run=run.record.key,
        audit=run.record.audit_status,
    )
    return Evidence(run.scores, file, run.record)


@one_error("an entry of these scores", page=PAGE, remedy="say it in the card: --card FILE")
def make_entry(
    seeds: Sequence[Evidence],
    truth: Truth,
    card: SubmissionCard,
    *,
    reruns: Sequence[Evidence] = (),
) -> Entry:
    """The entry of these scores, every figure computed; BenchError if not one method's."""
    check_one_method(seeds)
    meta, record = seeds[0].scores.meta, seeds[0].record
    method, episodes = meta.method, meta.episodes
    computed = compute_figures([one.scores for one in seeds], truth)
    proof = _proof(seeds, reruns, truth)
    known = stated(seeds)
    made = _one_of("made", card.made, known.made)
    backbone = _one_of("backbone", card.backbone, known.backbone)
    pretraining = _one_of("pretraining", card.pretraining, known.pretraining)
    if not made or not backbone:
        raise BenchError(
            "scores without a record do not say all that an entry needs",
            expected="`made` (a day) and `backbone` in the card",
            found="no "
            + " and no ".join(n for n, v in (("made", made), ("backbone", backbone)) if not v),
            remedy="write them in the card: --card FILE",
        )
    records = [one.record for one in seeds if one.record]
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
            pretraining=pretraining or Pretraining.UNKNOWN,
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
            **episodes.drawn_by.choices,
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
    """The card's id, or one made of method, preset, backbone and shots."""
    if card.id:
        return card.id
    backbone = backbone_of(record) if record else card.backbone or ""
    chosen = meta.episodes.drawn_by.tag
    return slug(f"{meta.method.name}-{meta.method.preset or ''}-{backbone}-{chosen}")


def _proof(seeds: Sequence[Evidence], reruns: Sequence[Evidence], truth: Truth) -> WithScores:
    """What the figures rest on; BenchError for second runs that are none."""
    files = [one.file for one in seeds]
    if reruns:
        wrong = list(reruns_differ(seeds, reruns, truth))
        if truth.origin == "stored":
            wrong.insert(0, "the targets are stored ones, with which nothing is verified")
        if wrong:
            raise BenchError(
                "these are not second runs that verify the entry",
                expected="rebuilt targets, and for each training seed a run of the same key, with "
                "a record of its own and figures that agree",
                found="; ".join(wrong[:3]),
                remedy="name one second run of every seed, or leave --rerun out",
            )
        again = [one.file for one in reruns]
        return RerunVerified(kind="rerun verified", files=files, reruns=again)
    if truth.origin == "stored":
        return ScoresStored(kind="scores stored", files=files)
    return ScoresVerified(kind="scores verified", files=files)


T = TypeVar("T")


def _one_of(name: str, given: T | None, known: T | None) -> T | None:
    """What the records say, else the card; BenchError when the two differ."""
    if given is not None and known is not None and given != known:
        raise BenchError(
            f"the card gives another `{name}` than the run's record",
            expected=str(known.value if isinstance(known, Enum) else known),
            found=str(given.value if isinstance(given, Enum) else given),
            remedy=f"leave `{name}` out of the card: it is for what no record says",
        )
    return given if known is None else known
