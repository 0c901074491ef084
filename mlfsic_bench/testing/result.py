"""The outcome of a contract test. Light, so that the command line can show it without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "fail", "warn", "skip"]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one contract test.

    Attributes
    ----------
    name, shows: the test, and what it shows.
    status: `pass`, `fail`, `warn` (allowed, and probably not meant), or `skip` (could not be made,
        because of what another test reports).
    explanation: pairs (heading, text); empty when passed.
    """

    name: str
    shows: str
    status: Status
    explanation: tuple[tuple[str, str], ...] = ()
