"""Checking entries: each is made again from its evidence, and must come out the same.

What differs is named by its key. Values may differ by rounding; a metric that came after the entry
was made may be absent from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.leaderboard.build import build_entry, file_of, folder_in
from mlfsic_bench.leaderboard.card import Card
from mlfsic_bench.leaderboard.entry import (
    Entry,
    IntervalKind,
    Reported,
    Scored,
    ScoresFile,
    State,
    check_files,
    entry_files,
    read_placed,
)
from mlfsic_bench.leaderboard.pack import make_targets
from mlfsic_bench.leaderboard.reported import reported_entries
from mlfsic_bench.metrics.registry import METRICS, METRICS_VERSION
from mlfsic_bench.paths import is_folder
from mlfsic_bench.results.result import Result, Targets, open_result
from mlfsic_bench.results.targets import SplitPlace

TOLERANCE = 2e-6  # points: entries are rounded to the sixth digit after the point
# What an entry says that no evidence can say.
BY_HAND = ("id", "name", "authors", "contact", "citation", "notes", "links")
MOST_SHOWN = 3


@dataclass(frozen=True)
class Checked:
    """One entry that was found right.

    Attributes
    ----------
    path: below the results folder.
    finding: what was checked.
    confirmed: whether all that the entry's state says was checked; not with stored targets.
    """

    path: str
    finding: str
    confirmed: bool = True


def check_all(
    target: Path | Sequence[Path], place: SplitPlace, *, stored: bool = False
) -> Iterator[Checked]:
    """Check the files of entries, or all entries of a results folder, one after the other.

    With `stored`, verified entries are compared with what the stored targets give, and intervals
    over images are not checked: the entries are consistent, not confirmed. Raises BenchError at
    the first entry that is not what its evidence gives, naming the key.
    """
    known: dict[str, Targets] = {}
    files = [target] if isinstance(target, Path) else target
    for path in entry_files(files[0]) if len(files) == 1 and is_folder(files[0]) else files:
        entry, results = read_placed(path), path.parent.parent.parent
        if isinstance(entry.proof, Reported):
            yield Checked(entry.path, check_reported(entry))
        else:
            of_stored = entry.state is State.STORED
            finding = _check_scored(entry, entry.proof, results, place, stored or of_stored, known)
            yield Checked(entry.path, finding, confirmed=of_stored or not stored)


def check_reported(entry: Entry) -> str:
    """Compare a reported entry with the published table it names; what was compared."""
    assert isinstance(entry.proof, Reported)
    if entry.proof.copy_in is None:
        return "reported; nothing to compute it from"
    source = entry.proof.copy_in, entry.proof.row
    for made in reported_entries():
        if isinstance(made.proof, Reported) and (made.proof.copy_in, made.proof.row) == source:
            own = {name: getattr(entry, name) for name in BY_HAND}
            if wrong := differ(entry, made.model_copy(update=own), "table"):
                raise _wrong(entry, wrong)
            return f"reported; {len(entry.figures)} values as in {entry.proof.copy_in}"
    raise _wrong(entry, [f"no published table has its source ({source[0]}, row {source[1]!r})"])


def _check_scored(
    entry: Entry,
    proof: Scored,
    results: Path,
    place: SplitPlace,
    stored: bool,
    known: dict[str, Targets],
) -> str:
    if entry.metrics_version != METRICS_VERSION:
        text = (
            f"metrics_version: {entry.metrics_version!r}; this program computes {METRICS_VERSION!r}"
        )
        raise _wrong(entry, [text])
    check_files(entry, results)
    seeds = [_open(file, results) for file in proof.files]
    again = [_open(file, results) for file in proof.reruns or ()]
    targets = make_targets(seeds[0], place, stored, known)
    _compare_targets([*seeds, *again], targets, entry)
    card = Card(
        **{name: getattr(entry, name) for name in BY_HAND},
        backbone=entry.backbone,
        pretraining=entry.tracks.pretraining,
        made=entry.dates.made,
        submitted=entry.dates.submitted,
    )
    named = zip((*seeds, *again), (*proof.files, *(proof.reruns or ())), strict=True)
    files = [_file(result, file, results) for result, file in named]
    made = build_entry(
        seeds,
        files[: len(seeds)],
        targets,
        card,
        reruns=[] if stored else again,
        rerun_files=[] if stored else files[len(seeds) :],
    )
    if wrong := differ(entry, made, "scores", values_only=stored and entry.verified):
        raise _wrong(entry, wrong)
    count = f"{len(seeds)} training seed{'s' if len(seeds) > 1 else ''}"
    finding = (
        f"{len(entry.figures)} values and {len(entry.per_label)} labels recomputed from {count}"
    )
    if again and not stored:
        finding += f", {len(again)} second runs agree"
    if stored:
        finding += "; targets STORED, not rebuilt from the split"
        if entry.state is not State.STORED:
            finding += (
                f", intervals over images not checked: {entry.state.value!r} is NOT confirmed"
            )
    return finding


def _open(file: ScoresFile, results: Path) -> Result:
    """The result that an entry names: its run's folder, or the scores file alone."""
    return open_result((results / file.record).parent if file.record else results / file.scores)


def _file(result: Result, named: ScoresFile, results: Path) -> ScoresFile:
    """What an entry says of a result's files; stored targets as it names them."""
    made = file_of(result, folder_in(result, results) or ".")
    return made.model_copy(
        update={"answers": named.answers, "answers_sha256": named.answers_sha256}
    )


def _compare_targets(results: Sequence[Result], targets: Targets, entry: Entry) -> None:
    for result in results:
        found = result.stored
        if found is not None and not (
            found.targets.shape == targets.targets.shape
            and bool((found.targets == targets.targets).all())
            and bool((found.query == targets.query).all())
        ):
            raise _wrong(entry, [f"{result.path}: not the targets of the split's episodes"])


def differ(entry: Entry, made: Entry, source: str, *, values_only: bool = False) -> list[str]:
    """A line for each key in which an entry is not the one made from its source.

    With `values_only` state and proof may differ, and intervals over images be absent.
    """
    claimed, found = _as_dict(entry), _as_dict(made)
    for name, metric in METRICS.items():
        if metric.column != "always" and name not in claimed["figures"]:
            found["figures"].pop(name, None)
    if values_only:
        for each in (claimed, found):
            each["state"] = each["proof"]["kind"] = each["proof"]["reruns"] = None
            for value in (*each["figures"].values(), *each["per_label"].values()):
                value["intervals"].pop(IntervalKind.IMAGES.value, None)
    return list(_differences(claimed, found, source))


def _as_dict(entry: Entry) -> dict[str, Any]:
    value = entry.model_dump(mode="json")
    value["per_label"] = {one["label"]: one for one in value["per_label"]}
    return value


def _differences(claimed: Any, found: Any, source: str, key: str = "") -> Iterator[str]:
    """A line for each key in which two JSON values differ, numbers by more than rounding."""
    if isinstance(claimed, dict) and isinstance(found, dict):
        for name in dict.fromkeys([*claimed, *found]):
            place = f"{key}.{name}".lstrip(".")
            yield from _differences(claimed.get(name), found.get(name), source, place)
    elif isinstance(claimed, list) and isinstance(found, list) and len(claimed) == len(found):
        for i, (one, other) in enumerate(zip(claimed, found, strict=True)):
            yield from _differences(one, other, source, f"{key}.{i}")
    elif isinstance(claimed, float | int) and isinstance(found, float | int):
        if abs(claimed - found) > TOLERANCE:
            yield f"{key}: entry {claimed:g}, {source} {found:g}"
    elif claimed != found:
        said = ["nothing" if one in (None, {}, []) else repr(one) for one in (claimed, found)]
        yield f"{key}: entry {said[0]}, {source} {said[1]}"


def _wrong(entry: Entry, lines: Sequence[str]) -> BenchError:
    more = f" (and {len(lines) - MOST_SHOWN} more)" if len(lines) > MOST_SHOWN else ""
    return BenchError(
        f"{entry.path} is not what its evidence gives",
        expected="an entry that says what its scores, records or source say",
        found="; ".join(lines[:MOST_SHOWN]) + more,
        remedy="pack it again with `mlfsic-bench submit pack`, or correct the entry",
    )
