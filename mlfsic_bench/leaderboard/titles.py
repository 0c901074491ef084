"""What stands beside a board's split in its title, so that no two boards have the same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from mlfsic_bench.leaderboard.board import Board
from mlfsic_bench.leaderboard.kinds import ImageTrack


def badges(boards: Sequence[Board]) -> list[tuple[str, ...]]:
    """For each board: images, protocol, and the number of episodes where it is not all of them.

    Boards of one split that these leave equal say more, the first of these by which they differ:
    reported rows only, metrics version, hash of the split, hash of the episodes.
    """
    found = [_plain(board) for board in boards]
    for tell in FURTHER:
        names = [(board.split_id, each) for board, each in zip(boards, found, strict=True)]
        clash = {name for name, times in Counter(names).items() if times > 1}
        told = {name: set[str]() for name in clash}
        for board, name in zip(boards, names, strict=True):
            if name in clash:
                told[name].add(tell(board))
        found = [
            (*each, tell(board)) if len(told.get(name, ())) > 1 and tell(board) else each
            for board, each, name in zip(boards, found, names, strict=True)
        ]
    return found


def titles(boards: Sequence[Board]) -> list[str]:
    """Each board's split and badges in one line."""
    return [
        ", ".join((board.split_id, *each))
        for board, each in zip(boards, badges(boards), strict=True)
    ]


def _plain(board: Board) -> tuple[str, ...]:
    images = "full" if board.images is ImageTrack.FULL else "subset"
    # reported rows without a number of shots stand beside verified ones that have it
    shots = {row.entry.protocol.shots for row in board.rows or board.reported}
    (k,) = shots if len(shots) == 1 else (None,)
    parts = [images, board.protocol if k is None else f"{board.protocol}, K = {k}"]
    if board.count != board.total:
        parts.append(f"first {board.count} of {board.total} episodes")
    return tuple(parts)


def _reported_only(board: Board) -> str:
    return "" if board.rows else "reported only"


def _metrics(board: Board) -> str:
    return board.metrics_version or ""


def _split(board: Board) -> str:
    return f"split {board.split_hash[:8]}" if board.split_hash else ""


def _episodes(board: Board) -> str:
    return f"episodes {board.episodes_hash[:8]}" if board.episodes_hash else ""


FURTHER: tuple[Callable[[Board], str], ...] = (_reported_only, _metrics, _split, _episodes)
