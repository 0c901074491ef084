"""The Episode noun: support ids and query ids, nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Episode:
    """One episode; targets come from the split.

    Attributes
    ----------
    support: image ids; under `one_per_label`, entry i was drawn for label i of the part. Under
        `laso_k_shot` in the order drawn, a different number in every run.
    query: image ids, disjoint from the support; under `one_per_label` with q images per label,
        entries q*i to q*i + q - 1 were drawn for label i. Under `laso_k_shot` the same in all runs.
    """

    support: tuple[str, ...]
    query: tuple[str, ...]


@dataclass(frozen=True)
class EpisodeSet:
    """A set of episodes and the hash that names it.

    Attributes
    ----------
    split_id, split_hash: the split they were drawn from.
    protocol: versioned protocol name, `one_per_label-v1` or `laso_k_shot-v1`.
    part: `val` or `novel`.
    episodes: the episodes; episode i is the same alone or among any number.
    hash: SHA-256 over all of the above, and `shots`.
    shots: K of `laso_k_shot`, None for other protocols.
    """

    split_id: str
    split_hash: str
    protocol: str
    part: str
    episodes: tuple[Episode, ...]
    hash: str
    shots: int | None = None
