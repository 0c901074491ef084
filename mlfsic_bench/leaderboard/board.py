"""The boards: entries that were made under the same conditions, side by side and ranked.

Entries with scores stand on one board when they share split (id and hash), protocol, episodes (hash
and number), metrics version and the track of images; those whose runs are not audited, and those
whose targets were not rebuilt, come last, unranked. Reported entries name no episodes; they stand
below the first full board of their split and protocol, unranked, or on a board of their own.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mlfsic_bench.episodes.protocol import kind_with_id
from mlfsic_bench.errors import BenchError
from mlfsic_bench.leaderboard.entry import (
    Chance,
    Entry,
    ImageTrack,
    IntervalKind,
    LabelValue,
    ProtocolRef,
    Value,
)
from mlfsic_bench.metrics.metric import Metric
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.captions import count_labels, split_title
from mlfsic_bench.splits.names import plain_id

NEAR = "≈"
NO_RUNS = "nobody has run this here"
BELOW, AT, ABOVE = "below chance", "at chance", "above chance"
RANKED_BY: Final = "macro_ap"
# The order of the values of a board; what is named in neither comes last.
AVERAGES, SHORTS = ("macro", "micro"), ("AP", "F1", "P", "R")
FULL, SUBSET = "0", "1"  # so that full boards come first
_NOVEL_LABELS = re.compile(r"[a-z0-9]+-\d+-\d+-(\d+)(?:-[a-z0-9]+)*-v\d+")  # of a split's id
Key = tuple[str, str, str, str, str, str, int]


@dataclass(frozen=True)
class BoardRow:
    """One entry on a board.

    Attributes
    ----------
    entry: the entry.
    rank: by macro-AP among the verified whose runs are audited or foreign, those that print the
        same value sharing one; None for all others.
    tied: whether another entry has its rank.
    near: whether its interval includes the value of the best row; False for the best itself.
    chance: how micro-AP and macro-AP stand to chance, where that is known.
    judged_by: the interval `chance` goes by, the one its board shows; None where it shows none.
    """

    entry: Entry
    rank: int | None
    tied: bool
    near: bool
    chance: dict[str, str]
    judged_by: IntervalKind | None

    @property
    def key(self) -> str:
        """`<split id>/<entry id>`, which no other entry has."""
        return f"{self.entry.split.id}/{self.entry.id}"

    @property
    def rank_text(self) -> str:
        """The rank with its marks; empty without one."""
        return "" if self.rank is None else f"{self.rank}{'=' * self.tied}{NEAR * self.near}"


@dataclass(frozen=True)
class Board:
    """Entries made under the same conditions (`rows`), and reported ones beside them.

    Attributes
    ----------
    first: an entry whose split, protocol, images and metrics version all of `rows` share.
    anchor: a name for links to it.
    tags: what stands beside `heading`, so that no two boards have the same title.
    interval: which interval its verified entries are shown with.
    """

    first: Entry
    rows: tuple[BoardRow, ...]
    reported: tuple[BoardRow, ...]
    interval: IntervalKind | None
    anchor: str = ""
    tags: tuple[str, ...] = ()

    @property
    def all_rows(self) -> tuple[BoardRow, ...]:
        """Scored ones, then reported ones."""
        return (*self.rows, *self.reported)

    @property
    def subset(self) -> bool:
        """Whether its rows were made on part of the split's images."""
        return self.first.tracks.images is ImageTrack.SUBSET

    @property
    def best(self) -> BoardRow | None:
        """The row of rank 1; None where nothing is ranked."""
        return next((row for row in self.rows if row.rank == 1), None)

    @property
    def heading(self) -> str:
        """What was tested, in words: `COCO 52/12/16 (open): 16 novel labels, 1-shot`."""
        protocol = self.first.protocol
        kind = kind_with_id(protocol.id)  # rows copied from a table may not say K
        k = protocol.shots or getattr(kind, "shots", None)
        shots = f"{k}-shot" if k else protocol.id
        found = _NOVEL_LABELS.fullmatch(plain_id(self.first.split.id))
        labels = labels_text(self.first).partition(" (")[0]
        labels = labels or (f"{found[1]} novel labels" if found else "novel labels")
        return f"{split_title(self.first.split.id)}: {labels}, {shots}"

    @property
    def title(self) -> str:
        """Heading and tags in one line."""
        return ", ".join((self.heading, *self.tags))


def build_boards(entries: Sequence[Entry]) -> list[Board]:
    """The boards of these entries: those with ranked rows first, then by split id.

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
    boards.sort(key=lambda b: (not b.rows, b.first.split.id, b.subset, b.first.protocol.id))
    return _with_names(boards)


def ordered_metrics() -> list[Metric]:
    """All metrics, the one that ranks first."""

    def place(metric: Metric) -> tuple[int, int]:
        return _index(AVERAGES, metric.average), _index(SHORTS, metric.short)

    return sorted(METRICS.values(), key=place)


def columns(boards: Sequence[Board]) -> list[Metric]:
    """The metrics that are columns: those every entry has, and new ones that some entry has."""
    values = {name for board in boards for row in board.all_rows for name in row.entry.figures}
    return [
        metric
        for metric in ordered_metrics()
        if metric.column == "always" or (metric.column == "known" and metric.name in values)
    ]


def against_chance(value: Value, chance: Chance, kind: IntervalKind | None) -> str:
    """Where an AP stands to chance: "below chance", "at chance" or "above chance".

    A reported value: below up to the lowest level there is, at up to the high one. A verified one
    has an exact level: it is above when its interval lies above, below when it lies below. The
    interval is the one of `kind`, which the board prints; the value alone counts without one.
    """
    shown = value.intervals.get(kind) if kind else None
    low, high = (shown.low, shown.high) if shown else (value.value, value.value)
    if high <= chance.low:
        return BELOW
    return AT if low <= chance.high else ABOVE


def labels_text(entry: Entry) -> str:
    """How many labels the values are over, where that is part of the split's; else empty."""
    labels = [one.label for one in entry.per_label]
    subset = entry.tracks.images is ImageTrack.SUBSET and bool(labels)
    text = count_labels(entry.split.id, labels, subset=subset, noun="novel labels")
    return text if " of " in text else ""


def kinds_of(values: Iterable[Value | LabelValue], *, every: bool = False) -> list[IntervalKind]:
    """The kinds of intervals that one of these values has, or that each of them has."""
    each, test = [value.intervals for value in values], all if every else any
    return [kind for kind in IntervalKind if each and test(kind in one for one in each)]


def protocol_title(protocol: ProtocolRef) -> str:
    """Id and choices: `k_per_label-v1, K = 5, Q = 4`."""
    chosen = (("K", protocol.shots), ("Q", protocol.queries))
    return ", ".join([protocol.id, *(f"{letter} = {n}" for letter, n in chosen if n)])


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
    ranking = [entry.figures[RANKED_BY] for entry in verified if RANKED_BY in entry.figures]
    interval = next(iter(kinds_of(ranking, every=True)), None)
    first = (verified or reported)[0]
    return Board(first, _rows(scored, interval), _rows(reported, interval), interval)


def _rows(entries: Sequence[Entry], kind: IntervalKind | None) -> tuple[BoardRow, ...]:
    """Ranked ones first, by macro-AP; entries without one last; equal ones by name and id."""
    ordered = sorted(entries, key=_order)
    ranked = [one for one in ordered if one.ranked and RANKED_BY in one.figures]
    printed = [f"{one.figures[RANKED_BY].value:.2f}" for one in ranked]
    rows = []
    for entry in ordered:
        rank, tied, near = None, False, False
        own = entry.figures.get(RANKED_BY)
        bounds = own.intervals.get(kind) if own and kind else None
        if own and entry in ranked:
            value = f"{own.value:.2f}"
            rank, tied = printed.index(value) + 1, printed.count(value) > 1
            best = ranked[0].figures[RANKED_BY].value
            near = bool(rank > 1 and bounds and bounds.low <= best <= bounds.high)
        chance = {
            str(name): against_chance(entry.figures[name], level, kind)
            for name, level in entry.chance.items()
            if name in entry.figures
        }
        judged_by = kind if entry.verified or (entry.has_scores and bounds) else None
        rows.append(BoardRow(entry, rank, tied, near, chance, judged_by))
    return tuple(rows)


def _order(entry: Entry) -> tuple[bool, bool, float, str, str]:
    value = entry.figures[RANKED_BY].value if RANKED_BY in entry.figures else -1.0
    return not entry.ranked, not entry.verified, -value, entry.name, entry.id


# What boards of equal titles add, the first of these by which they differ.
FURTHER: tuple[Callable[[Board], str], ...] = (
    lambda board: board.first.split.id,
    lambda board: protocol_title(board.first.protocol),
    lambda board: board.first.metrics_version or "",
    lambda board: f"split {(board.first.split.hash or '')[:8]}" if board.rows else "",
    lambda board: f"episodes {(board.first.protocol.episodes or '')[:8]}" if board.rows else "",
)


def _with_names(boards: list[Board]) -> list[Board]:
    """The boards with tags that set their titles apart, and anchors."""
    named = []
    for board in boards:
        count, total = board.first.protocol.count, board.first.protocol.total
        tags = [NO_RUNS] if not board.rows else []
        tags.append("part of the images" if board.subset else "all images")
        if count != total and board.rows:
            tags.append(f"first {count} of {total} episodes")
        named.append(replace(board, tags=tuple(tags)))
    for tell in FURTHER:
        clash = {title for title, n in Counter(board.title for board in named).items() if n > 1}
        told: dict[str, set[str]] = defaultdict(set)
        for board in named:
            told[board.title].add(tell(board))
        named = [
            replace(board, tags=(*board.tags, tell(board)))
            if board.title in clash and len(told[board.title]) > 1 and tell(board)
            else board
            for board in named
        ]
    names = []
    for board in named:
        episodes = board.first.protocol.episodes
        name = f"{board.first.split.id}-{board.first.tracks.images.value}"
        names.append(name + (f"-{episodes[:8]}" if episodes and board.rows else ""))
    return [
        replace(board, anchor=name if names.count(name) == 1 else f"{name}-{i}")
        for i, (board, name) in enumerate(zip(named, names, strict=True))
    ]


def _check_distinct(entries: Sequence[Entry]) -> None:
    for (split, own), count in Counter((one.split.id, one.id) for one in entries).items():
        if count > 1:
            raise BenchError(
                f"two entries of split {split} have the id {own!r}",
                expected="another id for every entry of a split",
                found=f"{own!r} {count} times",
                remedy="give one of them another id",
            )
