"""Where an entry, its scores and its records say different things of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

from mlfsic_bench.evaluation.record import ANSWERS, SCORES, Record
from mlfsic_bench.evaluation.scores import Scores
from mlfsic_bench.leaderboard.entry import Entry
from mlfsic_bench.leaderboard.evidence import Evidence, image_track, stated
from mlfsic_bench.leaderboard.kinds import Adaptation, WordTrack
from mlfsic_bench.leaderboard.proof import ScoresFile
from mlfsic_bench.metrics.registry import METRICS_VERSION


def cards_differ(entry: Entry, one: Evidence) -> Iterator[str]:
    """Where entry, scores and record say different things of themselves."""
    meta, protocol, record = one.scores.meta, entry.protocol, one.record
    method = meta.method
    words = WordTrack.VECTORS if method.uses_words else WordTrack.NONE
    gradient = Adaptation.GRADIENT if method.adapts_by_gradient else Adaptation.NONE
    pairs: list[tuple[str, Any, Any]] = [
        ("split.id", entry.split.id, meta.split.id),
        ("split.hash", entry.split.hash, meta.split.hash),
        ("split.dataset", entry.split.dataset, meta.split.dataset),
        ("protocol.id", protocol.id, meta.episodes.protocol),
        ("protocol.episodes", protocol.episodes, meta.episodes.hash),
        ("protocol.count", protocol.count, meta.episodes.count),
        ("protocol.total", protocol.total, meta.episodes.total),
        ("protocol.shots", protocol.shots, meta.episodes.shots),
        ("tracks.words", entry.tracks.words.value, words.value),
        ("tracks.adaptation", entry.tracks.adaptation.value, gradient.value),
        ("tracks.images", entry.tracks.images.value, image_track(one).value),
        ("card.method", entry.card.method, method.name),
        ("card.preset", entry.card.preset, method.preset),
        ("card.parameters", entry.card.parameters, method.parameters),
        ("card.trains", entry.card.trains, method.trains),
        ("seed", one.file.seed, method.seed),
        ("run", one.file.run, meta.run),
    ]
    if record is not None:
        pairs += _record_pairs(one.file, record, one.scores)
    for key, claimed, found in pairs:
        if claimed != found:
            yield f"{key}: entry {claimed!r}, scores {found!r}"


def facts_differ(entry: Entry, seeds: Sequence[Evidence]) -> Iterator[str]:
    """Where an entry says other things than the records and this version's metrics."""
    known = stated(seeds)
    for key, claimed, found in (
        ("backbone", entry.backbone, known.backbone),
        ("tracks.pretraining", entry.tracks.pretraining, known.pretraining),
        ("dates.made", entry.dates.made, known.made),
    ):
        if found is not None and claimed != found:
            a, b = (one.value if isinstance(one, Enum) else one for one in (claimed, found))
            yield f"{key}: entry {a!r}, record {b!r}"
    if entry.metrics_version != METRICS_VERSION:
        yield (
            f"metrics_version: entry {entry.metrics_version!r}, which this version does not "
            f"compute; it computes {METRICS_VERSION!r}"
        )


def _record_pairs(file: ScoresFile, record: Record, scores: Scores) -> list[tuple[str, Any, Any]]:
    return [
        ("record.status", "success", record.status),
        ("record.key", file.run, record.key),
        ("record.audit", file.audit, record.audit_status),
        ("record.outputs", file.scores_sha256, record.outputs.get(SCORES)),
        ("record.outputs", file.answers_sha256, record.outputs.get(ANSWERS)),
        ("record.method", scores.meta.method, record.method),
        ("record.split", scores.meta.split, record.split),
        ("record.episodes", scores.meta.episodes, record.episodes),
    ]
