"""Checking entries: every figure is computed again from the scores and must be the entry's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import RECORD, read_record
from mlfsic_bench.evaluation.scores import read_answers, read_scores
from mlfsic_bench.leaderboard.entry import Entry
from mlfsic_bench.leaderboard.evidence import Evidence, check_one_method
from mlfsic_bench.leaderboard.figures import compute_figures
from mlfsic_bench.leaderboard.files import entry_files, evidence, read_placed
from mlfsic_bench.leaderboard.proof import (
    Reported,
    RerunVerified,
    ScoresFile,
    ScoresStored,
    WithScores,
)
from mlfsic_bench.leaderboard.published_entries import published_entries
from mlfsic_bench.leaderboard.reruns import reruns_differ
from mlfsic_bench.leaderboard.submission import truth_of
from mlfsic_bench.leaderboard.submission_facts import cards_differ, facts_differ
from mlfsic_bench.leaderboard.submission_figures import all_differ, figures_differ
from mlfsic_bench.leaderboard.submission_files import Source
from mlfsic_bench.paths import is_folder
from mlfsic_bench.results.runs import FinishedRun
from mlfsic_bench.results.targets import SplitPlace, Truth


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
    for path in entry_files(target) if is_folder(target) else [target]:
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
    wrong += list(figures_differ(entry.figures, same[0].figures, "figures"))
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
        wrong = list(cards_differ(entry, one))
        if wrong:
            raise _mismatch(f"{name}: {one.file.scores}", wrong)
    wrong = list(facts_differ(entry, [one for one, _ in seeds]))
    if wrong:
        raise _mismatch(name, wrong)
    truth = truth_of(seeds[0][1], place, stored_answers, truths)
    wrong = list(_answers_differ([one for one, _ in (*seeds, *again)], truth, results))
    computed = compute_figures([one.scores for one, _ in seeds], truth)
    wrong += list(all_differ(entry, computed, without_images=truth.support is None))
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


def _answers_differ(seeds: Sequence[Evidence], truth: Truth, results: Path) -> Iterator[str]:
    for one in seeds:
        answers = read_answers(results / one.file.answers)
        same = answers.targets.shape == truth.targets.shape and bool(
            (answers.targets == truth.targets).all() and (answers.query == truth.query).all()
        )
        if not same:
            yield f"{one.file.answers}: not the targets of the split's episodes"


def _mismatch(name: str, wrong: Sequence[str]) -> BenchError:
    more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
    return BenchError(
        f"{name} is not what its evidence gives",
        expected="an entry that agrees with its scores, record or source in everything",
        found="; ".join(wrong[:3]) + more,
        remedy="pack it again with `mlfsic-bench submit pack`, or correct the entry",
    )
