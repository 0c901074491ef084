"""Entries of published tables: their rows as printed, state `reported`."""

from __future__ import annotations

from mlfsic_bench.analysis.claims import chance
from mlfsic_bench.leaderboard.entry import (
    Adaptation,
    Chance,
    Dates,
    Embeddings,
    Entry,
    ImageTrack,
    Link,
    MethodFacts,
    Pretraining,
    ProtocolRef,
    Reported,
    SplitRef,
    State,
    Tracks,
    Value,
    slug,
)
from mlfsic_bench.results.published import Published, read_published

# What Yan et al. say of their rows: all but their own model take a fine-tuning step at test time
# (Methodology), their own and PLA (GloVe) are given GloVe vectors (Implementation Details and
# Experimental Results). What images the backbones were trained on is not said.
TABLES = ("yan-2022-table1", "yan-2022-table2")
YAN_METHOD = "word-guided-attention"
WITH_EMBEDDINGS = (YAN_METHOD, "PLA (GloVe)")
PAPER = "https://doi.org/10.1609/aaai.v36i3.20205"
PROTOCOL = "one_per_label-v1"
EPISODES = 200


def reported_entries() -> list[Entry]:
    """An entry for every row of the paper's main tables."""
    return [
        reported_entry(table, row)
        for table in TABLES
        for row in range(len(read_published(table).rows))
    ]


def reported_entry(table: str, row: int) -> Entry:
    """The entry of one row, counted from 0, of `yan-2022-table1` or `yan-2022-table2`.

    Tracks say what the paper says. Chance is the lowest level there is and the one at 1.25 labels
    an image (docs/claims.md), because the paper's queries are not known.
    """
    published = read_published(table)
    one, source = published.rows[row], published.source
    method = one.method or one.name
    theirs = method == YAN_METHOD
    return Entry(
        id=slug(f"{table}-{method}"),
        name=f"{one.name}, word-guided attention" if theirs else one.name,
        # those of a baseline are not the paper's authors
        authors=[each.strip() for each in source.authors.split(",")] if theirs else [],
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
            words=Embeddings.GIVEN if method in WITH_EMBEDDINGS else Embeddings.NONE,
            adaptation=Adaptation.NONE if theirs else Adaptation.GRADIENT,
            images=ImageTrack.FULL,
        ),
        split=SplitRef(id=published.splits[0], hash=None, dataset=published.dataset),
        protocol=ProtocolRef(id=PROTOCOL, episodes=None, count=EPISODES, total=EPISODES),
        metrics_version=None,
        figures={str(metric): Value(value=value) for metric, value in one.values.items()},
        chance=_chance(published),  # type: ignore[arg-type]
        training_seeds=None,
        backbone=one.backbone,
        card=MethodFacts(method=method, preset=None, parameters={}, trains=None),
        dates=Dates(made=str(source.year)),
        notes=[
            f"Printed for {published.dataset}; {published.protocol}. Which images and episodes "
            "these were is not known, nor how many training seeds."
        ],
        links=[Link(title="paper", url=PAPER)],
    )


def _chance(table: Published) -> dict[str, Chance]:
    if table.query is None:
        return {}
    levels = {f"{average}_ap": chance(table.query, average) for average in ("micro", "macro")}
    return {name: Chance(low=round(a, 6), high=round(b, 6)) for name, (a, b) in levels.items()}
