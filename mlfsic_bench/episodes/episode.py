"""The Episode noun: support ids and query ids, nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Episode:
    """One episode; targets come from the split.

    Attributes
    ----------
    support: image ids; under `one_per_label`, entry i was drawn for label i of the part.
    query: image ids, disjoint from the support; under `one_per_label` with q images per label,
        entries q*i to q*i + q - 1 were drawn for label i.
    """

    support: tuple[str, ...]
    query: tuple[str, ...]


@dataclass(frozen=True)
class EpisodeSet:
    """A set of episodes and the hash that names it.

    Attributes
    ----------
    split_id, split_hash: the split they were drawn from.
    protocol: versioned protocol name, e.g. `one_per_label-v1`.
    part: `val` or `novel`.
    episodes: the episodes; episode i is the same alone or among any number.
    hash: SHA-256 over all of the above.
    """

    split_id: str
    split_hash: str
    protocol: str
    part: str
    episodes: tuple[Episode, ...]
    hash: str
