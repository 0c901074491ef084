"""Packing a submission: a card to start from, entries and their evidence, a results folder.

`pack` writes DIR/leaderboard/<split id>/<entry id>.json and, for scores that do not lie in DIR yet,
DIR/scores/<split id>/<entry id>/seed-<n>/ (the split's id without `-unofficial`). Made in
`results/` or copied there, it is a submission.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import ORDER, RECORD, SCORES
from mlfsic_bench.files import copy_file
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.leaderboard.build import (
    build_entry,
    default_name,
    entry_id,
    file_of,
    folder_in,
    stated,
)
from mlfsic_bench.leaderboard.card import KEYS, Card
from mlfsic_bench.leaderboard.entry import Entry, ScoresFile, read_entry, write_entry
from mlfsic_bench.paths import exists, is_file
from mlfsic_bench.results.captions import split_title
from mlfsic_bench.results.conditions import conditions_of, seed_groups
from mlfsic_bench.results.result import Result, Targets, open_result, stored_targets
from mlfsic_bench.results.targets import SplitPlace, rebuild_targets
from mlfsic_bench.splits.names import plain_id
from mlfsic_bench.text import for_terminal


@dataclass(frozen=True)
class Packed:
    """An entry that was written, and all files of its submission."""

    entry: Path
    files: tuple[Path, ...]


def pack(
    paths: Sequence[Path],
    out: Path,
    place: SplitPlace,
    *,
    card: Card | None = None,
    reruns: Sequence[Path] = (),
    stored: bool = False,
    known: dict[str, Targets] | None = None,
) -> list[Packed]:
    """Write the entries of these runs and scores files below `out`.

    Runs of one method that differ in the training seed alone become one entry.

    Parameters
    ----------
    paths: run folders and scores files.
    out: a results folder, or a new one.
    place: where split and episodes are found from which the targets are made.
    card: what the files do not say; only for a single entry.
    reruns: second runs, one for each seed; only for a single entry.
    stored: take the targets a run stored, where its images are not at hand; the state is then
        `scores stored`.
    known: targets that an earlier call rebuilt, by their split and episodes; kept for the next.

    Nothing is written before everything has been read, rebuilt and computed.
    """
    if not paths:
        raise BenchError(
            "there is nothing to pack",
            expected="run folders or scores files",
            found="none",
            remedy="name them, one for each training seed",
        )
    groups = _groups([open_result(path) for path in paths])
    if len(groups) > 1 and (card is not None or reruns):
        names = ", ".join(f"{g[0].method.name} on {g[0].meta.split.id}" for g in groups)
        raise BenchError(
            "a card and reruns belong to one entry",
            expected="runs of one method that differ in the training seed alone",
            found=f"{len(groups)} entries: {names}",
            remedy="pack each entry by itself",
        )
    again = [open_result(path) for path in reruns]
    known = {} if known is None else known
    packed = []
    for group in groups:
        _check_card(card or Card(), group)
        targets = make_targets(group[0], place, stored, known)
        packed.append(_prepare(group, again, targets, out, card or Card()))
    _check_ids([entry for entry, _ in packed], out)
    written = []
    for entry, copies in packed:
        for source, target in copies.items():
            if source != target:
                copy_file(source, target)
        path = write_entry(entry, out)
        written.append(Packed(path, (path, *copies.values())))
    return written


def make_targets(
    result: Result, place: SplitPlace, stored: bool, known: dict[str, Targets]
) -> Targets:
    """The targets of a result, rebuilt from split and episodes; `known` keeps them for the next.

    With `stored`, those that the run stored.
    """
    if stored:
        if result.stored is None:
            raise BenchError(
                f"{result.path} has no stored targets",
                expected="the folder of a run, which holds its targets",
                found="a scores file",
                remedy="leave --stored-targets out and name the data: --data-root",
            )
        return stored_targets(result.stored)
    meta = result.meta
    key = hash_json([meta.split.model_dump(mode="json"), meta.episodes.model_dump(mode="json")])
    if key not in known:
        subset = result.record.subset if result.record else None
        known[key] = rebuild_targets(meta, place, subset)
    return known[key]


def _groups(results: Sequence[Result]) -> list[list[Result]]:
    """Results that differ in the training seed alone, by rising seed."""
    groups: dict[str, list[Result]] = {}
    for group in seed_groups(results):
        for result in group:
            key = hash_json([result.settings, conditions_of(result)])
            groups.setdefault(key, []).append(result)
    return [sorted(group, key=lambda one: one.seed) for group in groups.values()]


def _check_card(card: Card, results: Sequence[Result]) -> None:
    """BenchError naming all that the card says otherwise than the records of the runs."""
    known = stated(results)
    pairs = [(name, getattr(card, name), getattr(known, name)) for name in vars(known)]
    wrong = [
        (name, *(str(one.value if isinstance(one, Enum) else one) for one in (given, said)))
        for name, given, said in pairs
        if None not in (given, said) and given != said
    ]
    if wrong:
        names = " and ".join(f"`{name}`" for name, _, _ in wrong)
        raise BenchError(
            f"the card gives another {names} than the run's record",
            expected="\n".join(f"{name}: {said}" for name, _, said in wrong),
            found="\n".join(f"{name}: {given}" for name, given, _ in wrong),
            remedy=f"leave {names} out of the card: it is for what no record says",
        )


def _prepare(
    group: Sequence[Result], again: Sequence[Result], targets: Targets, out: Path, card: Card
) -> tuple[Entry, dict[Path, Path]]:
    """The entry, and where its files are and go."""
    top = f"scores/{plain_id(group[0].meta.split.id)}/{entry_id(group[0], card)}"
    copies: dict[Path, Path] = {}

    def placed(result: Result, folder: str) -> ScoresFile:
        inside = folder_in(result, out) if result.record else None
        file = file_of(result, inside or folder)
        if result.record is None:
            copies[result.path] = out / file.scores
            return file
        for name in (SCORES, ORDER, result.record.targets_file, RECORD):
            if is_file(result.path / name):
                source = result.path / name
                copies[source] = source if inside else out / folder / name
        return file

    files = [placed(one, f"{top}/seed-{one.seed}") for one in group]
    seconds = [placed(one, f"{top}/rerun-{i}-seed-{one.seed}") for i, one in enumerate(again, 1)]
    entry = build_entry(group, files, targets, card, reruns=again, rerun_files=seconds)
    return entry, copies


def _check_ids(entries: Sequence[Entry], out: Path) -> None:
    """BenchError when two entries would get one file, or one of another method is there."""
    seen: set[str] = set()
    for entry in entries:
        there = read_entry(out / entry.path) if exists(out / entry.path) else entry
        if entry.path in seen or _method_of(there) != _method_of(entry):
            raise BenchError(
                f"another entry has the name {entry.path}",
                expected="an id that no other entry of the split has",
                found=f"{there.name} on {there.backbone}, made {there.dates.made}",
                remedy="give this one another `id` in a card: --card FILE",
            )
        seen.add(entry.path)


def _method_of(entry: Entry) -> object:
    return entry.card.method, entry.card.preset, entry.backbone, entry.split.hash


# The template of a card


def card_template(paths: Sequence[Path]) -> str:
    """A card for these results in YAML, to be edited: what they say is filled in.

    What a record says stands as a comment, since a card need not repeat it.
    """
    results = [open_result(path) for path in paths]
    first = results[0]
    known, episodes = stated(results), first.meta.episodes
    filled = {"name": default_name(first), "citation": first.method.citation or None}
    seeds = ", ".join(str(result.seed) for result in sorted(results, key=lambda one: one.seed))
    facts = {
        "method": first.method.name + (f" ({first.method.preset})" if first.method.preset else ""),
        "split": f"{split_title(first.meta.split.id)}, {first.meta.split.id}",
        "episodes": f"{episodes.count} of {episodes.total}, {episodes.drawn_by.title}",
        "training seeds": seeds,
        "backbone": known.backbone,
        "pretraining": known.pretraining.value if known.pretraining else None,
        "made": known.made,
    }
    lines = ["# Card of a submission to the leaderboard. Edit it, then:"]
    lines.append("#   mlfsic-bench submit pack RUN... --card card.yaml --out results")
    lines.append("# Known already, from the results:")
    lines += [f"#   {key}: {for_terminal(fact)}" for key, fact in facts.items() if fact]
    for key, (what, expected, example) in KEYS.items():
        if getattr(known, key, None) is not None:
            continue
        lines += ["", f"# {what}: {expected}"]
        needed = first.record is None and key in ("made", "backbone")
        if filled.get(key):
            lines.append(f"{key}: {json.dumps(for_terminal(str(filled[key])), ensure_ascii=False)}")
        elif needed:
            lines.append(f"{key}:  # needed, such as {example}")
        else:
            lines.append(f"# {key}: {example}")
    return "\n".join(lines) + "\n"
