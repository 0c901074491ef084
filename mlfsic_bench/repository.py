"""Where this project's repository lies: one setting, for the board and for submissions."""

from __future__ import annotations

REPOSITORY = ""
"""The https address of the repository; empty until it is public."""


def how_to_submit() -> str:
    """What to do with the files of a submission."""
    where = f" at {REPOSITORY}" if REPOSITORY else ""
    return f"open a pull request{where} with these files"
