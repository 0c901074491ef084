"""A record as it may be published."""

from __future__ import annotations


def publishable(record: dict) -> dict:
    """The record as if it were made from a clean commit and without paths of this disk."""
    record["provenance"] |= {"dirty": False, "commit": 40 * "a"}
    record["provenance"]["command"] = ["mlfsic-bench", "reproduce", ".../small.yaml", "--dataset"]
    return record
