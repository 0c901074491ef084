"""Published values compared with what arithmetic allows.

Two things can be said of a printed row without its scores.

F1. The harmonic mean H(p, r) = 2 p r / (p + r) is concave and grows in both p and r, so by Jensen
F1 averaged over episodes (or over labels) cannot exceed H of the averaged precision and recall. A
printed figure stands for any number within half a unit of its last digit; the bound is broken only
when no such numbers obey it, that is when the smallest F1 exceeds H of the largest P and R.

AP. A random ranking has an expected AP that depends on the query size and on the number of
positives (`expected_random_ap`). Under the protocol each label has at least `per_label` positives,
which gives the lowest chance level there is; images show several labels, so the true one is higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from mlfsic_bench.results.published import (
    Published,
    PublishedRow,
    Query,
)

Verdict = Literal["holds", "within rounding", "broken", "at chance", "below chance"]
AVERAGES = ("micro", "macro")


@dataclass(frozen=True)
class Claim:
    """One printed value and its verdict; numbers in per cent.

    Attributes
    ----------
    table, row, backbone, metric: where it stands.
    printed: the value.
    low, high: for AP the lowest chance level and that of a query with 1.25 labels an image
        (`chance`); for F1 `low` is H of P and R as printed, `high` the largest H that rounds to
        them.
    verdict: what came of it; see `f1_verdict` and `ap_verdict`.
    """

    table: str
    row: str
    backbone: str
    metric: str
    printed: float
    low: float
    high: float
    verdict: Verdict


def harmonic(p: Fraction, r: Fraction) -> Fraction:
    """2 p r / (p + r), 0 when both are 0."""
    return 2 * p * r / (p + r) if p + r else Fraction(0)


def half_unit(values: Sequence[float]) -> Fraction:
    """Half a unit of the last digit printed, from the figure of a row that has the most digits.

    Numbers in a file lose trailing zeros, so one of them does not tell how it was printed.

    >>> half_unit([26.6, 49.72])
    Fraction(1, 200)
    """
    return Fraction(1, 2 * 10 ** max(_digits(value) for value in values))


def f1_verdict(p: float, r: float, f1: float, half: Fraction) -> Verdict:
    """Whether F1 may be a mean of harmonic means whose precisions average p and recalls r.

    "holds" as printed, "within rounding" for some figures that round to the printed ones, else
    "broken". Decided in exact fractions.
    """
    P, R, F = exact(p), exact(r), exact(f1)
    if harmonic(P, R) >= F:
        return "holds"
    return "within rounding" if largest(P, R, half) >= F - half else "broken"


def largest(p: Fraction, r: Fraction, half: Fraction) -> Fraction:
    """The largest H of a precision and a recall (at most 100) that round to p and r."""
    return harmonic(min(p + half, Fraction(100)), min(r + half, Fraction(100)))


def ap_verdict(ap: float, low: float, high: float) -> Verdict:
    """Where an AP stands to chance: "below chance" up to `low`, "at chance" up to `high`.

    A figure at a level counts as not above it.
    """
    return "below chance" if ap <= low else "at chance" if ap <= high else "holds"


def chance(query: Query, average: str) -> tuple[float, float]:
    """Chance levels of AP in per cent: the lowest there is, and with 1.25 labels an image.

    The query has Q = labels * per_label images. Lowest: every image shows one label, so each label
    has per_label positives. The other: each label has a quarter more of them (rounded up).
    """
    from mlfsic_bench.metrics.average_precision import expected_random_ap

    Q, m = query.labels * query.per_label, query.per_label
    levels = []
    for positives in (m, m + -(-m // 4)):
        if average == "macro":
            level = expected_random_ap(min(positives, Q), Q)
        else:
            level = expected_random_ap(min(positives, Q) * query.labels, Q * query.labels)
        levels.append(100 * level)
    return levels[0], levels[1]


def row_claims(name: str, row: PublishedRow, query: Query | None) -> list[Claim]:
    """Every value of a row that can be checked: F1 beside P and R, AP of a known query size."""
    values: dict[str, float] = {str(metric): value for metric, value in row.values.items()}
    half, claims = half_unit(list(values.values())), []
    where = name, row.name, row.backbone
    for average in AVERAGES:
        p, r, f1, ap = (
            values.get(f"{average}_{metric}") for metric in ("precision", "recall", "f1", "ap")
        )
        if p is not None and r is not None and f1 is not None:
            H = harmonic(exact(p), exact(r))
            top = largest(exact(p), exact(r), half)
            verdict = f1_verdict(p, r, f1, half)
            claims.append(Claim(*where, f"{average}_f1", f1, float(H), float(top), verdict))
        if ap is not None and query is not None:
            low, high = chance(query, average)
            verdict = ap_verdict(ap, low, high)
            claims.append(Claim(*where, f"{average}_ap", ap, low, high, verdict))
    return claims


def table_claims(name: str, table: Published) -> list[Claim]:
    """The claims of all rows of one table."""
    return [claim for row in table.rows for claim in row_claims(name, row, table.query)]


def exact(value: float) -> Fraction:
    """The decimal number that was printed, not the binary one nearest to it."""
    return Fraction(repr(float(value)))


def _digits(value: float) -> int:
    """Digits after the point, trailing zeros not counted."""
    return len(format(Decimal(repr(float(value))), "f").partition(".")[2].rstrip("0"))
