"""The boards: entries that were made under the same conditions, side by side and ranked.

Entries with scores stand on one board when they share split (id and hash), protocol, episodes (hash
and number), metrics version and the track of images; those whose runs are not audited, and those
whose targets were not rebuilt, come last, unranked. Reported entries name no episodes; they stand
below the first full board of their split and protocol, unranked, or on a board of their own.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mlfsic_bench.episodes.protocol import kind_with_id
from mlfsic_bench.errors import BenchError
from mlfsic_bench.leaderboard.entry import (
    Audited,
    Chance,
    Entry,
    ImageTrack,
    IntervalKind,
    Reported,
    State,
    Value,
)
from mlfsic_bench.metrics.metric import Metric
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.captions import count_labels, split_title

TITLE = "Multi-label few-shot image classification: leaderboard"
TASK = (
    "A method sees a few support images of labels that it has never trained on, and then scores "
    "every one of these labels for other images, each of which may show several."
)
RULE = (
    "Each table ranks methods by macro-AP: average precision in per cent, mean over the labels of "
    "an episode and over episodes; higher is better. Rows of one table were scored on the same "
    "images and episodes and can be compared; rows of different tables can't."
)
STATES = {
    State.REPORTED: "copied from a paper; nobody here has the scores, so it is not ranked",
    State.STORED: "scores and targets are those that a run stored; the targets were not rebuilt "
    "from the split, so it is not ranked",
    State.SCORES: "the scores are in the repository, and every value was computed from them, with "
    "targets rebuilt from the split",
    State.RERUN: "scores verified, and a second run of every training seed gave the same values",
}
AUDITS = {
    Audited.YES: "a fresh process scored some episodes again and got the same scores",
    Audited.FOREIGN: "another program made the scores, so nothing here can make them again",
    Audited.FAILED: "a fresh process scored some episodes again and got other scores: not ranked",
    Audited.NO: "no fresh process has scored some episodes again: not ranked",
}
NAMES = (
    "COCO 52/12/16: base, validation and novel labels of the split. 1-shot: one support image for "
    "each novel label."
)
TIE = "Equal ranks (=): equal at two digits after the point."
NEAR = "≈"
NEAR_MEANS = (
    f"{NEAR} after a rank: the interval includes the value of the best row, so this table alone "
    "does not tell the two apart; mlfsic-bench compare may."
)
CHANCE_MEANS = (
    "below chance, at chance: no better than a random ranking of the same images, by the interval "
    "shown. Images with equal scores gain nothing from their order, so a method that gives all "
    "images the same score is below chance."
)
NO_RUNS = "nobody has run this here"
REPORTED_NOTE = (
    "Reported rows are copied from print. Their episodes, and often their images, are not those of "
    "the other rows, and nobody here has their scores: they are not ranked."
)
STORED_NOTE = "because the targets came with the scores and were not rebuilt from the split"
UNAUDITED_NOTE = "because no audit has scored some of its episodes again in a fresh process"
FAILED_NOTE = "because its audit failed"
UNLISTED_NOTE = "because it has no macro-AP"

# The order of the values of a board; what is named in neither comes last.
AVERAGES, SHORTS = ("macro", "micro"), ("AP", "F1", "P", "R")
RANKED_BY: Final = "macro_ap"
WITH_INTERVAL = ("macro_ap", "micro_ap")
# Which interval a board shows: the first of these that all of its verified entries have.
PREFERENCE = (IntervalKind.IMAGES, IntervalKind.EPISODES, IntervalKind.SEEDS)
BELOW, AT, ABOVE = "below chance", "at chance", "above chance"
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
        found = _NOVEL_LABELS.fullmatch(self.first.split.id)
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


def source_of(entry: Entry, *, row: bool = True) -> str:
    """Where a reported value stands, or what proves a verified one, in a few words."""
    proof = entry.proof
    if isinstance(proof, Reported):
        table = f"Table {proof.table}" if proof.table is not None else proof.section
        page = f", p. {proof.page}" if proof.page is not None else ""
        return f"{proof.work}, {table}{page}" + (f", row {proof.row}" if row else "")
    return f"scores {', '.join(file.scores_sha256[:12] for file in proof.files)}"


def load_line(entry: Entry) -> str:
    """One line that loads an entry: of shell for its scores, of Python for a reported one."""
    if isinstance(entry.proof, Reported):
        return (
            "from mlfsic_bench.leaderboard.entry import read_entry; "
            f'entry = read_entry("results/{entry.path}")'
        )
    places = [
        file.record.rpartition("/")[0] if file.record else file.scores for file in entry.proof.files
    ]
    return " ".join(["mlfsic-bench score", *(f"results/{place}" for place in places)])


def state_text(entry: Entry) -> str:
    """The state and, where there are scores, what is known of the audits of their runs."""
    known = entry.audited
    if known is None or known is Audited.FOREIGN:
        return known.value if known else entry.state.value
    return f"{entry.state.value}, {known.value}"


def conditions(board: Board) -> str:
    """What all scored rows share, by name and hash, in one sentence."""
    split, protocol = board.first.split, board.first.protocol
    parts = [f"Split {split.id}", f"protocol {protocol.id}"]
    if split.hash and protocol.episodes:
        parts[0] += f" ({split.hash[:12]})"
        run = f"{protocol.count} of {protocol.total}"
        few = run if protocol.count != protocol.total else str(protocol.count)
        parts += [f"{few} episodes ({protocol.episodes[:12]})", str(board.first.metrics_version)]
    return ", ".join(parts) + "."


def chance_text(entry: Entry) -> str:
    """The level of a random ranking: exact where the queries are known; empty if not known."""
    texts = []
    for name in ("macro_ap", "micro_ap"):
        level = entry.chance.get(name)
        if level and level.low == level.high:
            texts.append(f"{METRICS[name].text} {level.low:.2f}")
        elif level:
            texts.append(
                f"{METRICS[name].text} {level.low:.2f} or more ({level.high:.2f} at 1.25 labels an "
                "image)"
            )
    return f"Chance: {', '.join(texts)}." if texts else ""


def remarks(board: Board) -> list[str]:
    """What a reader has to know of a board, in sentences."""
    lines = []
    if board.subset:
        lines.append("Part of the split's images only: not comparable with runs on all images.")
    if board.rows and (labels := labels_text(board.first)):
        lines.append(f"Values are over {labels}.")
    if not board.rows:
        lines.append(f"N{NO_RUNS[1:]}: every row is copied from print, and nothing is ranked.")
    foreign = [row.entry.name for row in board.rows if row.entry.audited is Audited.FOREIGN]
    if foreign:
        names = ", ".join(foreign)
        lines.append(f"Ranked on scores of another program, every value computed again: {names}.")
    return lines


def why_unranked(board: Board) -> list[str]:
    """Why rows with scores have no rank, in sentences."""
    left = [row.entry for row in board.rows if row.rank is None]
    lines = []
    for text, names in (
        (STORED_NOTE, [entry.name for entry in left if not entry.verified]),
        (UNAUDITED_NOTE, [one.name for one in left if one.audited is Audited.NO and one.verified]),
        (FAILED_NOTE, [one.name for one in left if one.audited is Audited.FAILED]),
        (UNLISTED_NOTE, [one.name for one in left if not _listed(one)]),
    ):
        if names:
            lines.append(f"Not ranked, {text}: {', '.join(names)}.")
    return lines


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
    kinds = [set(entry.figures[RANKED_BY].intervals) for entry in verified if _listed(entry)]
    shared = [kind for kind in PREFERENCE if kinds and all(kind in each for each in kinds)]
    interval = shared[0] if shared else None
    first = (verified or reported)[0]
    return Board(first, _rows(scored, interval), _rows(reported, interval), interval)


def _rows(entries: Sequence[Entry], kind: IntervalKind | None) -> tuple[BoardRow, ...]:
    """Ranked ones first, by macro-AP; entries without one last; equal ones by name and id."""
    ordered = sorted(entries, key=_order)
    printed = [f"{_ranking(one):.2f}" for one in ordered if one.ranked and _listed(one)]
    best = _ranking(ordered[0]) if printed else None
    rows = []
    for entry in ordered:
        rank, tied, near = None, False, False
        if entry.ranked and _listed(entry):
            value = f"{_ranking(entry):.2f}"
            rank, tied = printed.index(value) + 1, printed.count(value) > 1
            bounds = entry.figures[RANKED_BY].intervals.get(kind) if kind else None
            near = bool(rank > 1 and bounds and best and bounds.low <= best <= bounds.high)
        chance = {
            str(name): against_chance(entry.figures[name], level, kind)
            for name, level in entry.chance.items()
            if name in entry.figures
        }
        judged_by = kind if entry.verified or _has_interval(entry, kind) else None
        rows.append(BoardRow(entry, rank, tied, near, chance, judged_by))
    return tuple(rows)


def _order(entry: Entry) -> tuple[bool, bool, float, str, str]:
    return not entry.ranked, not entry.verified, -_ranking(entry), entry.name, entry.id


def _listed(entry: Entry) -> bool:
    return RANKED_BY in entry.figures


def _has_interval(entry: Entry, kind: IntervalKind | None) -> bool:
    return entry.has_scores and _listed(entry) and kind in entry.figures[RANKED_BY].intervals


def _ranking(entry: Entry) -> float:
    return entry.figures[RANKED_BY].value if _listed(entry) else -1.0


# What boards of equal titles add, the first of these by which they differ.
FURTHER: tuple[Callable[[Board], str], ...] = (
    lambda board: board.first.split.id,
    lambda board: board.first.protocol.id,
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
