"""Checking entries: every figure is computed again from the scores and must be the entry's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.record import RECORD, Record, read_record
from mlfsic_bench.harness.resume import ANSWERS, SCORES
from mlfsic_bench.harness.scores import Scores, read_answers, read_scores
from mlfsic_bench.metrics.registry import METRICS_VERSION
from mlfsic_bench.report.entry import (
    Adaptation,
    Entry,
    Figure,
    IntervalKind,
    LabelFigure,
    Reported,
    RerunVerified,
    ScoresFile,
    ScoresStored,
    WithScores,
    WordTrack,
)
from mlfsic_bench.report.entry_evidence import Evidence, check_one_method, image_track, stated
from mlfsic_bench.report.entry_files import entry_files, evidence, read_placed
from mlfsic_bench.report.entry_reruns import reruns_differ
from mlfsic_bench.report.figures import Figures, compute_figures
from mlfsic_bench.report.leaderboard import COLUMNS
from mlfsic_bench.report.published_entries import published_entries
from mlfsic_bench.report.runs import FinishedRun
from mlfsic_bench.report.submission import Source, truth_of
from mlfsic_bench.report.truth import SplitPlace, Truth

TOLERANCE = 2e-6  # points: entries are rounded to the sixth digit after the point


@dataclass(frozen=True)
class Checked:
    """One entry that was found right.

    Attributes
    ----------
    path: below the results folder.
    finding: what was checked.
    confirmed: whether all that the entry's state says was checked; not with `stored_answers`.
    """

    path: str
    finding: str
    confirmed: bool = True


def check_all(
    target: Path, place: SplitPlace, *, stored_answers: bool = False
) -> Iterator[Checked]:
    """Check an entry's file, or all entries of a results folder, one after the other.

    With `stored_answers` the figures of verified entries are held against the targets that lie with
    them, and intervals over images are not checked: the entries are consistent, not confirmed.
    Raises BenchError at the first entry that is not what its evidence gives, naming the figure.
    """
    truths: dict[str, Truth] = {}
    for path in entry_files(target) if target.is_dir() else [target]:
        entry, results = read_placed(path), path.parent.parent.parent
        name = path.relative_to(results).as_posix()
        if isinstance(entry.proof, Reported):
            yield Checked(name, check_reported(entry, name))
        else:
            stored = isinstance(entry.proof, ScoresStored)
            finding = _check_scores(
                entry, entry.proof, results, place, stored_answers or stored, truths, name
            )
            yield Checked(name, finding, confirmed=stored or not stored_answers)


def check_reported(entry: Entry, name: str) -> str:
    """Hold a reported entry against the published table it names; what was compared."""
    assert isinstance(entry.proof, Reported)
    if entry.proof.copy_in is None:
        return "reported; nothing to compute it from"
    same = [
        other
        for other in _published()
        if isinstance(other.proof, Reported)
        and (other.proof.copy_in, other.proof.row) == (entry.proof.copy_in, entry.proof.row)
    ]
    if not same:
        found = f"{entry.proof.copy_in}, row {entry.proof.row!r}"
        raise _mismatch(name, [f"no published table has its source ({found})"])
    given, printed = (e.model_dump(mode="json", exclude={"figures"}) for e in (entry, same[0]))
    wrong = [
        f"{key}: entry {given[key]!r}, source {printed[key]!r}"
        for key in ("proof", "tracks", "protocol", "chance", "split")
        if given[key] != printed[key]
    ]
    wrong += list(_figures_differ(entry.figures, same[0].figures, "figures"))
    if wrong:
        raise _mismatch(name, wrong)
    return f"reported; {len(entry.figures)} figures as in {entry.proof.copy_in}"


@cache
def _published() -> tuple[Entry, ...]:
    return tuple(published_entries())


def _check_scores(
    entry: Entry,
    proof: WithScores,
    results: Path,
    place: SplitPlace,
    stored_answers: bool,
    truths: dict[str, Truth],
    name: str,
) -> str:
    seeds = [_open(file, results) for file in proof.files]
    again = [_open(f, results) for f in proof.reruns] if isinstance(proof, RerunVerified) else []
    check_one_method([one for one, _ in seeds])
    for one, _ in again:
        check_one_method([one])
    for one, _ in (*seeds, *again):
        wrong = list(_cards_differ(entry, one))
        if wrong:
            raise _mismatch(f"{name}: {one.file.scores}", wrong)
    wrong = list(_facts_differ(entry, [one for one, _ in seeds]))
    if wrong:
        raise _mismatch(name, wrong)
    truth = truth_of(seeds[0][1], place, stored_answers, truths)
    wrong = list(_answers_differ([one for one, _ in (*seeds, *again)], truth, results))
    computed = compute_figures([one.scores for one, _ in seeds], truth)
    wrong += list(_all_differ(entry, computed, without_images=truth.support is None))
    if isinstance(proof, RerunVerified):
        pairs = [one for one, _ in seeds], [one for one, _ in again]
        wrong += list(reruns_differ(*pairs, truth))
    if wrong:
        raise _mismatch(name, wrong)
    seed_text = f"{len(seeds)} training seed{'s' if len(seeds) > 1 else ''}"
    finding = f"{len(entry.figures)} figures and {len(entry.per_label)} labels recomputed"
    second = f", {len(again)} second runs agree" if again else ""
    caution = "" if truth.origin == "rebuilt" else "; targets STORED, not rebuilt from the split"
    if caution and not isinstance(proof, ScoresStored):
        caution += f", intervals over images not checked: {entry.state.value!r} is NOT confirmed"
    return f"{finding} from {seed_text}{second}{caution}"


def _open(file: ScoresFile, results: Path) -> tuple[Evidence, Source]:
    path = evidence(results, file.scores, file.scores_sha256)
    answers_path = evidence(results, file.answers, file.answers_sha256)
    scores, answers, record = read_scores(path), read_answers(answers_path), None
    if file.record is not None and file.record_sha256 is not None:
        place = evidence(results, file.record, file.record_sha256)
        if place.name != RECORD:
            raise _mismatch(file.record, [f"a record is called {RECORD}"])
        record = read_record(place.parent)
    run = FinishedRun(path.parent, record, scores, answers) if record else None
    return Evidence(scores, file, record), Source(path, scores, run)


def _cards_differ(entry: Entry, one: Evidence) -> Iterator[str]:
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


def _facts_differ(entry: Entry, seeds: Sequence[Evidence]) -> Iterator[str]:
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
        ("record.outputs", file.scores_sha256, record.outputs.get(SCORES)),
        ("record.outputs", file.answers_sha256, record.outputs.get(ANSWERS)),
        ("record.method", scores.meta.method, record.method),
        ("record.split", scores.meta.split, record.split),
        ("record.episodes", scores.meta.episodes, record.episodes),
    ]


def _answers_differ(seeds: Sequence[Evidence], truth: Truth, results: Path) -> Iterator[str]:
    for one in seeds:
        answers = read_answers(results / one.file.answers)
        same = answers.targets.shape == truth.targets.shape and bool(
            (answers.targets == truth.targets).all() and (answers.query == truth.query).all()
        )
        if not same:
            yield f"{one.file.answers}: not the targets of the split's episodes"


def _all_differ(entry: Entry, computed: Figures, *, without_images: bool) -> Iterator[str]:
    skip = {IntervalKind.IMAGES} if without_images else set()
    # A metric that came after the entry was made may be absent, those of the table may not.
    asked = {*entry.figures, *(name for name, _ in COLUMNS)}
    figures = {name: figure for name, figure in computed.figures.items() if name in asked}
    yield from _figures_differ(entry.figures, figures, "figures", skip)
    yield from _figures_differ(
        {one.label: one for one in entry.per_label},
        {one.label: one for one in computed.per_label},
        "per_label",
        skip,
    )
    claimed = {str(name): (level.low, level.high) for name, level in entry.chance.items()}
    found = {name: (level.low, level.high) for name, level in computed.chance.items()}
    for name in sorted({*claimed, *found}):
        yield from _far(f"chance.{name}", claimed.get(name), found.get(name))


def _figures_differ(
    claimed: Mapping[str, Figure | LabelFigure],
    found: Mapping[str, Figure | LabelFigure],
    where: str,
    skip: set[IntervalKind] = frozenset(),  # type: ignore[assignment]
) -> Iterator[str]:
    for name in dict.fromkeys([*claimed, *found]):
        a, b = claimed.get(name), found.get(name)
        yield from _far(f"{where}.{name}", (_value(a),) if a else None, (_value(b),) if b else None)
        for kind in [kind for kind in IntervalKind if a and b and kind not in skip]:
            yield from _far(
                f"{where}.{name}, interval over {kind.value}", _ends(a, kind), _ends(b, kind)
            )


def _far(
    where: str, claimed: tuple[float, ...] | None, found: tuple[float, ...] | None
) -> Iterator[str]:
    if claimed is None or found is None:
        if claimed != found:
            yield f"{where}: entry {_show(claimed)}, scores give {_show(found)}"
    elif any(abs(a - b) > TOLERANCE for a, b in zip(claimed, found, strict=True)):
        yield f"{where}: entry {_show(claimed)}, scores give {_show(found)}"


def _ends(figure: Figure | LabelFigure | None, kind: IntervalKind) -> tuple[float, float] | None:
    bounds = figure.intervals.get(kind) if figure else None
    return (bounds.low, bounds.high) if bounds else None


def _value(figure: Figure | LabelFigure) -> float:
    return figure.value if isinstance(figure, Figure) else figure.ap


def _show(values: tuple[float, ...] | None) -> str:
    return "nothing" if values is None else " to ".join(f"{value:g}" for value in values)


def _mismatch(name: str, wrong: Sequence[str]) -> BenchError:
    more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
    return BenchError(
        f"{name} is not what its evidence gives",
        expected="an entry that agrees with its scores, record or source in everything",
        found="; ".join(wrong[:3]) + more,
        remedy="pack it again with `mlfsic-bench submit pack`, or correct the entry",
    )
