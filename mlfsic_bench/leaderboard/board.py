"""The boards: entries that compare, side by side; those that do not, apart.

Entries with scores stand on one board when they share split (id and hash), protocol, episodes (hash
and number), metrics version and the track of images; those whose runs are not audited, and those
whose targets were not rebuilt, come last, unranked. Reported entries name no episodes; they stand
below the first full board of their split and protocol, unranked, or on a board of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlfsic_bench.errors import BenchError
from mlfsic_bench.leaderboard.entry import Entry
from mlfsic_bench.leaderboard.entry_figures import Chance, Figure
from mlfsic_bench.leaderboard.kinds import ImageTrack, IntervalKind
from mlfsic_bench.leaderboard.proof import Reported
from mlfsic_bench.metrics.metric import Metric
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.captions import count_labels

# The order of the figures of a board; what is named in neither comes last.
AVERAGES, SHORTS = ("macro", "micro"), ("AP", "F1", "P", "R")
RANKED_BY = "macro_ap"
# Which interval a board shows: the first of these that all of its verified entries have.
PREFERENCE = (IntervalKind.IMAGES, IntervalKind.EPISODES, IntervalKind.SEEDS)
BELOW, AT, ABOVE = "below chance", "at chance", "above chance"
FULL, SUBSET = "0", "1"  # so that full boards come first
Key = tuple[str, str, str, str, str, str, int]


@dataclass(frozen=True)
class BoardRow:
    """One entry on a board.

    Attributes
    ----------
    entry: the entry.
    rank: by macro-AP among the verified whose runs are audited or foreign, equal figures sharing
        one; None for all others.
    chance: how micro-AP and macro-AP stand to chance, where that is known.
    judged_by: the interval `chance` goes by, the one its board shows; None where it shows none.
    """

    entry: Entry
    rank: int | None
    chance: dict[str, str]
    judged_by: IntervalKind | None

    @property
    def key(self) -> str:
        """`<split id>/<entry id>`, which no other entry has."""
        return f"{self.entry.split.id}/{self.entry.id}"


@dataclass(frozen=True)
class Board:
    """Entries that compare (`rows`) and reported ones beside them (`reported`).

    Attributes
    ----------
    anchor: a name for links to it.
    split_id, dataset, protocol, images, metrics_version, split_hash, episodes_hash, count, total:
        what its verified entries share; the last six are None on a board of reported entries only.
    interval: which interval its verified entries are shown with.
    chance: chance level of each AP metric, that of the verified entries where there are any.
    """

    anchor: str
    split_id: str
    dataset: str
    protocol: str
    images: ImageTrack
    metrics_version: str | None
    split_hash: str | None
    episodes_hash: str | None
    count: int | None
    total: int | None
    interval: IntervalKind | None
    chance: dict[str, Chance]
    rows: tuple[BoardRow, ...]
    reported: tuple[BoardRow, ...]


def build_boards(entries: Sequence[Entry]) -> list[Board]:
    """The boards of these entries, by split id, full before subset; rows by rank and macro-AP.

    Raises BenchError for two entries of one split with the same id.
    """
    _check_distinct(entries)
    groups: dict[Key, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[_key(entry)].append(entry)
    reported = {key: groups.pop(key) for key in list(groups) if not key[3]}
    boards = []
    for key in sorted(groups):
        beside = reported.pop((*key[:3], "", "", "", 0), []) if key[1] == FULL else []
        boards.append(_board(groups[key], beside))
    boards += [_board([], group) for group in reported.values()]
    boards.sort(key=lambda b: (b.split_id, b.images is not ImageTrack.FULL, b.protocol))
    return _with_anchors(boards)


def ordered_metrics() -> list[Metric]:
    """All metrics, the one that ranks first."""

    def place(metric: Metric) -> tuple[int, int]:
        return _index(AVERAGES, metric.average), _index(SHORTS, metric.short)

    return sorted(METRICS.values(), key=place)


def columns(boards: Sequence[Board]) -> list[Metric]:
    """The metrics that are columns: those every entry has, and new ones that some entry has."""
    rows = [row for board in boards for row in (*board.rows, *board.reported)]
    figures = {name for row in rows for name in row.entry.figures}
    return [
        metric
        for metric in ordered_metrics()
        if metric.column == "always" or (metric.column == "known" and metric.name in figures)
    ]


def against_chance(figure: Figure, chance: Chance, kind: IntervalKind | None) -> str:
    """Where an AP stands to chance: "below chance", "at chance" or "above chance".

    A reported figure: below up to the lowest level there is, at up to the high one. A verified one
    has an exact level: it is above when its interval lies above, below when it lies below. The
    interval is the one of `kind`, which the board prints; the figure alone counts without one.
    """
    shown = figure.intervals.get(kind) if kind else None
    low, high = (shown.low, shown.high) if shown else (figure.value, figure.value)
    if high <= chance.low:
        return BELOW
    return AT if low <= chance.high else ABOVE


def standing(board: Board) -> str:
    """What a board's rows share, in one line."""
    images = "all images" if board.images is ImageTrack.FULL else "part of the images"
    parts = [board.protocol, images]
    if board.metrics_version:
        parts.append(board.metrics_version)
    if board.count is not None and board.count != board.total:
        parts.append(f"first {board.count} of {board.total} episodes")
    return ", ".join(parts)


def labels_text(entry: Entry) -> str:
    """How many labels the figures are over, where that is part of the split's; else empty."""
    labels = [one.label for one in entry.per_label]
    subset = entry.tracks.images is ImageTrack.SUBSET and bool(labels)
    text = count_labels(entry.split.id, labels, subset=subset, noun="novel labels")
    return text if " of " in text else ""


def source_of(entry: Entry) -> str:
    """Where a reported figure stands, or what proves a verified one, in a few words."""
    proof = entry.proof
    if isinstance(proof, Reported):
        table = f"Table {proof.table}" if proof.table is not None else proof.section
        page = f", p. {proof.page}" if proof.page is not None else ""
        return f"{proof.work}, {table}{page}, row {proof.row}"
    hashes = ", ".join(file.scores_sha256[:12] for file in proof.files)
    return f"scores {hashes}"


def _index(order: tuple[str, ...], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _key(entry: Entry) -> Key:
    """Boards sort by it; reported entries leave all that their source does not give empty."""
    images = FULL if entry.tracks.images is ImageTrack.FULL else SUBSET
    head = (entry.split.id, images, entry.protocol.id)
    if not entry.has_scores:
        return (*head, "", "", "", 0)
    return (
        *head,
        str(entry.metrics_version),
        str(entry.split.hash),
        str(entry.protocol.episodes),
        -entry.protocol.count,
    )


def _board(scored: Sequence[Entry], reported: Sequence[Entry]) -> Board:
    verified = [entry for entry in scored if entry.verified] or scored
    first = (verified or reported)[0]
    kinds = [set(entry.figures[RANKED_BY].intervals) for entry in verified if _listed(entry)]
    shared = [kind for kind in PREFERENCE if kinds and all(kind in each for each in kinds)]
    interval = shared[0] if shared else None
    protocol = first.protocol
    return Board(
        anchor="",
        split_id=first.split.id,
        dataset=first.split.dataset,
        protocol=protocol.id,
        images=first.tracks.images,
        metrics_version=first.metrics_version if verified else None,
        split_hash=first.split.hash if verified else None,
        episodes_hash=protocol.episodes if verified else None,
        count=protocol.count if verified else None,
        total=protocol.total if verified else None,
        interval=interval,
        chance={str(name): level for name, level in first.chance.items()},
        rows=_rows(scored, interval),
        reported=_rows(reported, interval),
    )


def _rows(entries: Sequence[Entry], kind: IntervalKind | None) -> tuple[BoardRow, ...]:
    """Ranked ones first, by macro-AP; entries without one last; equal ones by name and id."""
    ordered = sorted(entries, key=_order)
    values = [_ranking(entry) for entry in ordered if entry.ranked]
    return tuple(
        BoardRow(
            entry,
            values.index(_ranking(entry)) + 1 if entry.ranked and _listed(entry) else None,
            {
                str(name): against_chance(entry.figures[name], level, kind)
                for name, level in entry.chance.items()
                if name in entry.figures
            },
            kind if entry.verified or _has_interval(entry, kind) else None,
        )
        for entry in ordered
    )


def _order(entry: Entry) -> tuple[bool, bool, float, str, str]:
    return not entry.ranked, not entry.verified, -_ranking(entry), entry.name, entry.id


def _listed(entry: Entry) -> bool:
    return RANKED_BY in entry.figures


def _has_interval(entry: Entry, kind: IntervalKind | None) -> bool:
    return entry.has_scores and _listed(entry) and kind in entry.figures[RANKED_BY].intervals


def _ranking(entry: Entry) -> float:
    return entry.figures[RANKED_BY].value if _listed(entry) else -1.0


def _with_anchors(boards: list[Board]) -> list[Board]:
    names = [
        f"{board.split_id}-{board.images.value}"
        + (f"-{board.episodes_hash[:8]}" if board.episodes_hash else "")
        for board in boards
    ]
    return [
        replace(board, anchor=name if names.count(name) == 1 else f"{name}-{i}")
        for i, (board, name) in enumerate(zip(boards, names, strict=True))
    ]


def _check_distinct(entries: Sequence[Entry]) -> None:
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        key = entry.split.id, entry.id
        if key in seen:
            raise BenchError(
                f"two entries of split {entry.split.id} have the id {entry.id!r}",
                expected="another id for every entry of a split",
                found=f"{entry.id!r} twice",
                remedy="give one of them another id",
            )
        seen.add(key)
