"""Entries for the rows of published tables, state `reported`."""

from __future__ import annotations

from mlfsic_bench.analysis.claims import chance
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.leaderboard.entry import (
    Dates,
    Entry,
    MethodFacts,
    ProtocolRef,
    SplitRef,
    Tracks,
    slug,
)
from mlfsic_bench.leaderboard.entry_figures import Chance, Figure
from mlfsic_bench.leaderboard.kinds import Adaptation, ImageTrack, Pretraining, State, WordTrack
from mlfsic_bench.leaderboard.proof import Reported
from mlfsic_bench.results.published import Published, read_published

# What Yan et al. say of their rows: all but their own model take a fine-tuning step at test time
# (Methodology), their own and PLA (GloVe) are given GloVe vectors (Implementation Details and
# Experimental Results). What images the backbones were trained on is not said.
TABLES = ("yan-2022-table1", "yan-2022-table2")
OWN = "Ours"
WITH_WORDS = (OWN, "PLA (GloVe)")
WITHOUT_GRADIENT = (OWN,)
PROTOCOL = "one_per_label-v1"
EPISODES = 200


def entry_from_published(table: str, row: int) -> Entry:
    """The entry of one row of a published table.

    `table` is `yan-2022-table1` or `yan-2022-table2`, `row` counts from 0. Tracks say what the
    paper says. Chance is the lowest level there is and the one at 1.25 labels an image
    (docs/claims.md), because the paper's queries are not known. BenchError for another table or
    row.
    """
    if table not in TABLES:
        raise unknown_name("published table with rows for the board", table, TABLES)
    published = read_published(table)
    if not 0 <= row < len(published.rows):
        raise BenchError(
            f"{table} has no row {row}",
            expected=f"a number from 0 to {len(published.rows) - 1}",
            found=str(row),
            remedy="count rows from 0",
        )
    one, source = published.rows[row], published.source
    by_gradient = one.name not in WITHOUT_GRADIENT
    return Entry(
        id=slug(f"{table}-{one.name}"),
        name="Word-guided attention (Yan et al.)" if one.name == OWN else one.name,
        # those of a baseline are not the paper's authors
        authors=[each.strip() for each in source.authors.split(",")] if one.name == OWN else [],
        citation=f"{source.authors}: {source.title}. {source.venue} {source.year}",
        state=State.REPORTED,
        proof=Reported(
            kind="reported",
            work=f"{source.title}. {source.venue} {source.year}",
            year=source.year,
            table=published.table,
            page=None,
            section=published.section,
            row=one.name,
            copy_in=f"published/{table}.json",
        ),
        tracks=Tracks(
            pretraining=Pretraining.UNKNOWN,
            words=WordTrack.VECTORS if one.name in WITH_WORDS else WordTrack.NONE,
            adaptation=Adaptation.GRADIENT if by_gradient else Adaptation.NONE,
            images=ImageTrack.FULL,
        ),
        split=SplitRef(id=published.splits[0], hash=None, dataset=published.dataset),
        protocol=ProtocolRef(id=PROTOCOL, episodes=None, count=EPISODES, total=EPISODES),
        metrics_version=None,
        figures={str(metric): Figure(value=value) for metric, value in one.values.items()},
        chance=_chance(published),  # type: ignore[arg-type]
        training_seeds=None,
        backbone=one.backbone,
        card=MethodFacts(method=one.name, preset=None, parameters={}, trains=None),
        dates=Dates(made=str(source.year)),
        notes=[
            f"Printed for {published.dataset}; {published.protocol}. Which images and episodes "
            "these were is not known, nor how many training seeds."
        ],
    )


def published_entries() -> list[Entry]:
    """An entry for every row of the paper's main tables."""
    return [
        entry_from_published(table, row)
        for table in TABLES
        for row in range(len(read_published(table).rows))
    ]


def _chance(table: Published) -> dict[str, Chance]:
    if table.query is None:
        return {}
    levels = {f"{average}_ap": chance(table.query, average) for average in ("micro", "macro")}
    return {name: Chance(low=round(a, 6), high=round(b, 6)) for name, (a, b) in levels.items()}
