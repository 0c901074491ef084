"""claims: the bound on F1, what rounding may explain, the known violations, chance."""

import json
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlfsic_bench.analysis.claims import (
    Claim,
    ap_verdict,
    chance,
    exact,
    f1_verdict,
    half_unit,
    harmonic,
    largest,
    row_claims,
    table_claims,
)
from mlfsic_bench.cli.main import cli
from mlfsic_bench.metrics.average_precision import label_ap
from mlfsic_bench.results.published import PublishedRow, Query, published_names, read_published

pytestmark = pytest.mark.slow

HALF = Fraction(1, 200)
share = st.integers(0, 10_000).map(lambda k: Fraction(k, 10_000))
pairs = st.lists(st.tuples(share, share), min_size=1, max_size=30)


@given(pairs)
def test_a_mean_of_harmonic_means_never_exceeds_that_of_the_means(episodes):
    p, r = (sum(column, Fraction(0)) / len(episodes) for column in zip(*episodes, strict=True))
    assert sum(harmonic(*e) for e in episodes) / len(episodes) <= harmonic(p, r)


@given(pairs, st.integers(0, 3))
def test_figures_that_episodes_gave_are_never_broken(episodes, digits):
    n = len(episodes)
    means = [sum(column, Fraction(0)) / n for column in zip(*episodes, strict=True)]
    means.append(sum(harmonic(*e) for e in episodes) / n)
    p, r, f1 = (float(round(100 * mean, digits)) for mean in means)
    assert f1_verdict(p, r, f1, Fraction(1, 2 * 10**digits)) != "broken"


@given(arrays(np.float64, (4, 2), elements=st.floats(0, 0.01)), share, share)
def test_the_largest_bound_is_the_largest(moves, p, r):
    """No precision and recall that round to the printed ones have a larger harmonic mean."""
    top = largest(100 * p, 100 * r, HALF)
    for a, b in moves:
        near = [max(0, min(100 * x + exact(d) - HALF, 100)) for x, d in ((p, a), (r, b))]
        assert harmonic(Fraction(near[0]), Fraction(near[1])) <= top


@pytest.mark.parametrize(
    ("p", "r", "f1", "verdict"),
    [
        (50.0, 50.0, 50.0, "holds"),
        (50.0, 50.0, 50.01, "within rounding"),  # 50.005 each and 50.005 are possible
        (50.0, 50.0, 50.02, "broken"),
        (0.0, 0.0, 0.0, "holds"),
        (100.0, 100.0, 100.0, "holds"),
        (10.0, 90.0, 18.01, "within rounding"),  # H is 18.00, at most 18.0081
        (10.0, 90.0, 18.02, "broken"),
        (0.1, 0.2, 0.14, "within rounding"),  # H is 0.1333...
    ],
)
def test_verdicts_by_hand(p, r, f1, verdict):
    assert f1_verdict(p, r, f1, HALF) == verdict


def all_claims() -> list[Claim]:
    """The claims of every shipped table, in the order of their names."""
    return [
        claim for name in published_names() for claim in table_claims(name, read_published(name))
    ]


def test_rounding_is_that_of_the_row():
    assert half_unit([42.0, 35.7]) == Fraction(1, 20)
    assert half_unit([42.0]) == Fraction(1, 2)
    assert half_unit([42.0, 35.75]) == HALF
    assert half_unit([0.00001]) == Fraction(1, 200_000)


def test_the_violations_in_print_and_no_others():
    found = {(c.table, c.row, c.metric): c for c in all_claims() if c.metric.endswith("_f1")}
    assert len(found) == 32
    odd = {where: claim for where, claim in found.items() if claim.verdict != "holds"}
    assert {where: (c.printed, round(c.low, 2), c.verdict) for where, c in odd.items()} == {
        ("yan-2022-table1", "ResNet-50", "macro_f1"): (13.27, 12.98, "broken"),
        ("yan-2022-table2", "ResNet-50", "macro_f1"): (21.92, 19.54, "broken"),
        ("yan-2022-table2", "LaSO", "micro_f1"): (27.02, 27.0, "broken"),
    }
    # rounding raises LaSO's bound by 0.006 and lowers its F1 by 0.005: not enough for 0.02
    laso = odd["yan-2022-table2", "LaSO", "micro_f1"]
    assert laso.high == pytest.approx(2 * 18.715 * 48.485 / (18.715 + 48.485), abs=1e-12)
    assert 0.009 < laso.printed - 0.005 - laso.high < 0.01


def test_figures_at_chance_in_print():
    found = {(c.table, c.row): c for c in all_claims() if c.metric == "macro_ap"}
    weak = {where: c.verdict for where, c in found.items() if c.verdict != "holds"}
    networks = ("ResNet-50", "ResNet-101", "ViT", "ResNet-50 + ViT")
    assert weak == {("yan-2022-table2", name): "at chance" for name in networks}
    micro = {(c.table, c.row): c.verdict for c in all_claims() if c.metric == "micro_ap"}
    below = {where for where, verdict in micro.items() if verdict == "below chance"}
    assert below == {("yan-2022-table2", name) for name in networks}
    assert micro["yan-2022-table2", "LaSO"] == "at chance"
    assert not any(c.table == "yan-2022-laso-protocol" for c in all_claims())


def test_chance_is_what_random_scores_get():
    query = Query(labels=6, per_label=4)
    rng = np.random.Generator(np.random.PCG64(7))
    for average, level in (("macro", 0), ("macro", 1), ("micro", 0), ("micro", 1)):
        positives, total = (4 + level, 24) if average == "macro" else (24 + 6 * level, 144)
        targets = np.zeros((20_000, total, 1), bool)
        targets[:, :positives] = True
        measured = label_ap(rng.random((20_000, total, 1)), targets).mean()
        assert chance(query, average)[level] == pytest.approx(100 * measured, abs=0.3)


@given(st.integers(1, 20), st.integers(1, 8))
def test_the_lowest_level_is_the_lower_one(labels, per_label):
    query = Query(labels=labels, per_label=per_label)
    for average in ("micro", "macro"):
        low, high = chance(query, average)
        assert 0 < low <= high <= 100 + 1e-9


def test_a_figure_at_a_level_is_not_above_it():
    values = [9.9, 10.0, 10.1, 12.0, 12.1]
    verdicts = ["below chance", "below chance", "at chance", "at chance", "holds"]
    assert [ap_verdict(value, 10.0, 12.0) for value in values] == verdicts


def test_only_what_can_be_checked_is():
    row = PublishedRow(name="x", backbone="y", values={"micro_f1": 50.0, "micro_ap": 60.0})
    assert row_claims("t", row, None) == []
    (claim,) = row_claims("t", row, Query(labels=16, per_label=4))
    assert (claim.metric, claim.verdict) == ("micro_ap", "holds")


def test_the_verb_reports_and_succeeds():
    shown = CliRunner().invoke(cli, ["claims"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "13.27 (<= 12.98) broken" in shown.output
    assert "27.24 at chance" in shown.output
    assert "32 values of F1: 29 holds, 3 broken" in shown.output
    assert "nothing to check" in shown.output
    listed = json.loads(CliRunner().invoke(cli, ["claims", "--format=json"]).output)
    assert len(listed) == len(all_claims())
    assert {"table", "row", "backbone", "metric", "printed", "low", "high", "verdict"} == set(
        listed[0]
    )
