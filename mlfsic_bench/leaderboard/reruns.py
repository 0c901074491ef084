"""Second runs: what makes them second runs of an entry, and what has to agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlfsic_bench.evaluation.identity import meaning, run_key
from mlfsic_bench.evaluation.record import Record
from mlfsic_bench.leaderboard.evidence import Evidence
from mlfsic_bench.leaderboard.figures import compute_figures
from mlfsic_bench.results.targets import Truth

RERUN_TOLERANCE = 0.1  # points: runs of one key on other hardware differ in the last bits


def reruns_differ(
    seeds: Sequence[Evidence], again: Sequence[Evidence], truth: Truth
) -> Iterator[str]:
    """Why `again` are not second runs of `seeds` whose figures agree; nothing when they are.

    Each seed needs one: another folder, a record of its own of the same identity, started at
    another time or made elsewhere, an audit that it passed, and every metric within
    RERUN_TOLERANCE points. The scores may be the same to the last bit.
    """
    if any(one.record is None for one in (*seeds, *again)):
        yield "second runs need the records of both runs of every seed"
        return
    # Not by the stored key: one of the two may be of an earlier version, which made keys otherwise.
    firsts = {_named(one.record): one for one in seeds if one.record}
    keys = sorted(_named(one.record) for one in again if one.record)
    if keys != sorted(firsts):
        found = ", ".join(sorted(f"{one.file.seed}" for one in again))
        wanted = ", ".join(sorted(f"{one.file.seed}" for one in seeds))
        strange = [
            one.file.scores for one in again if one.record and _named(one.record) not in firsts
        ]
        yield (
            f"{strange[0]}: its run key is that of none of the entry's runs"
            if strange
            else f"second runs of seeds {found}, where each of seeds {wanted} needs one"
        )
        return
    for one in again:
        if one.record is not None:
            yield from _pair_differs(firsts[_named(one.record)], one, truth)
    for one in (*seeds, *again):
        if one.record is not None and one.record.audit_status != "passed":
            yield f"{one.file.scores}: its run has passed no audit"


def _named(record: Record) -> str:
    return run_key(meaning(record.identity))


def _pair_differs(first: Evidence, again: Evidence, truth: Truth) -> Iterator[str]:
    records = [one.record for one in (first, again) if one.record]
    made = [(record.started, record.provenance) for record in records]
    if (
        first.file.scores == again.file.scores
        or first.file.record_sha256 == again.file.record_sha256
        or made[0] == made[1]
    ):
        yield f"{again.file.scores}: the same run twice, not a second one"
    one, two = (compute_figures([each.scores], truth).figures for each in (first, again))
    for name, figure in one.items():
        if name not in two or abs(figure.value - two[name].value) > RERUN_TOLERANCE:
            other = two[name].value if name in two else "-"
            yield f"second run, {name}: {other} is not {figure.value} within {RERUN_TOLERANCE}"
