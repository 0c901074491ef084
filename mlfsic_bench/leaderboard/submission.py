"""Packing a submission: entries and their evidence, laid out as a results folder.

`pack` writes DIR/leaderboard/<split id>/<entry id>.json and, for scores that do not lie in DIR yet,
DIR/scores/<split id>/<entry id>/seed-<n>/. Made in `results/` or copied there, it is a submission.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import meaning
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.leaderboard.entries import default_id, make_entry
from mlfsic_bench.leaderboard.entry import Entry
from mlfsic_bench.leaderboard.evidence import Evidence
from mlfsic_bench.leaderboard.files import entry_path, read_entry, write_entry
from mlfsic_bench.leaderboard.submission_card import SubmissionCard
from mlfsic_bench.leaderboard.submission_files import Copy, Source, copy_of, open_source
from mlfsic_bench.paths import exists
from mlfsic_bench.results.targets import SplitPlace, Truth, rebuild_truth, stored_truth


def pack(
    paths: Sequence[Path],
    out: Path,
    place: SplitPlace,
    *,
    card: SubmissionCard | None = None,
    reruns: Sequence[Path] = (),
    stored_answers: bool = False,
) -> list[Path]:
    """Write the entries of these runs and scores files below `out`; the entries' paths.

    Runs of one method that differ in the training seed alone become one entry.

    Parameters
    ----------
    paths: run folders and scores files.
    out: a results folder, or a new one.
    place: where the split is found whose targets the scores are held against.
    card: what the files do not say; only for a single entry.
    reruns: second runs, one for each seed; only for a single entry.
    stored_answers: take the targets a run stored, where the split can't be rebuilt here; the
        state is then `scores stored`.

    Nothing is written before everything has been read, rebuilt and computed.
    """
    groups = _groups([open_source(path) for path in paths])
    if len(groups) > 1 and (card is not None or reruns):
        names = ", ".join(f"{g[0].meta.method.name} on {g[0].meta.split.id}" for g in groups)
        raise BenchError(
            "a card and reruns belong to one entry",
            expected="runs of one method that differ in the training seed alone",
            found=f"{len(groups)} entries: {names}",
            remedy="pack each entry by itself",
        )
    again = [open_source(path) for path in reruns]
    truths: dict[str, Truth] = {}
    packed = []
    for group in groups:
        truth = truth_of(group[0], place, stored_answers, truths)
        packed.append(_prepare(group, again, truth, out, card or SubmissionCard()))
    _check_ids([entry for entry, _ in packed], out)
    for entry, copies in packed:
        for copy in copies:
            copy.write(out)
        write_entry(entry, out)
    return [out / entry_path(entry) for entry, _ in packed]


def truth_of(
    source: Source, place: SplitPlace, stored_answers: bool, known: dict[str, Truth]
) -> Truth:
    """The targets of a source, rebuilt from split and episodes; `known` keeps them for the next.

    With `stored_answers`, those in the run's folder.
    """
    meta, record = source.meta, source.record
    key = hash_json([meta.split.model_dump(mode="json"), meta.episodes.model_dump(mode="json")])
    if stored_answers:
        if source.run is None:
            raise BenchError(
                f"{source.path} has no stored answers",
                expected="a run folder, which holds answers.npz",
                found="a scores file",
                remedy="leave --stored-answers out and name the data: --data-root",
            )
        return stored_truth(source.run)
    if key not in known:
        subset = (record.subset if record else None) or {}
        known[key] = rebuild_truth(meta, place, subset)
    return known[key]


def _groups(sources: Sequence[Source]) -> list[list[Source]]:
    """Sources that differ in the training seed alone, in the order given."""
    if not sources:
        raise BenchError(
            "there is nothing to pack",
            expected="run folders or scores files",
            found="none",
            remedy="name them, one for each training seed",
        )
    groups: dict[str, list[Source]] = {}
    for source in sources:
        if source.record:
            trait: object = dict(meaning(source.record.identity), seed=0)
        else:
            trait = source.meta.model_dump(mode="json", exclude={"run": True, "method": {"seed"}})
        groups.setdefault(hash_json(trait), []).append(source)
    return [sorted(group, key=lambda one: one.meta.method.seed) for group in groups.values()]


def _prepare(
    group: Sequence[Source],
    again: Sequence[Source],
    truth: Truth,
    out: Path,
    card: SubmissionCard,
) -> tuple[Entry, list[Copy]]:
    name = default_id(group[0].meta, group[0].record, card)
    top = f"scores/{group[0].meta.split.id}/{name}"
    copies = [copy_of(one, truth, out, f"{top}/seed-{one.meta.method.seed}") for one in group]
    seconds = [
        copy_of(one, truth, out, f"{top}/rerun-{i}-seed-{one.meta.method.seed}")
        for i, one in enumerate(again, 1)
    ]
    evidence, reruns = (
        [Evidence(copy.source.scores, copy.file, copy.source.record) for copy in each]
        for each in (copies, seconds)
    )
    entry = make_entry(evidence, truth, card, reruns=reruns)
    return entry, [*copies, *seconds]


def _check_ids(entries: Sequence[Entry], out: Path) -> None:
    """BenchError when two entries would get one file, or one of another method is there."""
    seen: set[str] = set()
    for entry in entries:
        path = entry_path(entry)
        there = read_entry(out / path) if exists(out / path) else entry
        if path in seen or _trait(there) != _trait(entry):
            raise BenchError(
                f"another entry has the name {path}",
                expected="an id that no other entry of the split has",
                found=f"{there.name} on {there.backbone}, made {there.dates.made}",
                remedy="give this one another `id` in a card: --card FILE",
            )
        seen.add(path)


def _trait(entry: Entry) -> object:
    return entry.card.method, entry.card.preset, entry.backbone, entry.split.hash
