"""`make bench-full` and the estimates on paper: the fit of growth, one tiny series, the limits."""

from dataclasses import replace

import pytest

from benchmarks.estimate import large, measured_rates
from benchmarks.growth import MEMORY, SERIES, Point, exponent, measure, verdict

SIZES = (10, 100, 1000, 10_000)


def points(cost, peak=100.0):
    return [Point(n, float(n), cost(n), peak) for n in SIZES]


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (lambda n: 3.0, 0.0),
        (lambda n: 5 + 0.001 * n, 1.0),  # a start of 5 s does not count
        (lambda n: 5 + 1e-6 * n**2, 2.0),
        (lambda n: 0.1 * n**0.5, 0.5),
        (lambda n: 1.0 + 1e-4 * n, 1.0),  # only the largest costs more than noise
    ],
)
def test_the_exponent_is_that_of_the_cost_above_the_start(cost, expected):
    assert exponent(points(cost)) == pytest.approx(expected, abs=0.25)


def test_what_grows_too_fast_or_needs_too_much_is_said():
    series = replace(SERIES[0], batch=lambda n: 50.0)
    assert "above linear" in verdict(series, points(lambda n: 1e-6 * n**2))
    said = verdict(series, points(lambda n: 1e-3 * n, peak=MEMORY + 49))
    assert "linear or below" in said
    assert "ABOVE" not in said
    assert "ABOVE" in verdict(series, points(lambda n: 1e-3 * n, peak=MEMORY + 51))


def test_a_series_is_measured_on_the_code_of_runs():
    series = next(one for one in SERIES if one.what.startswith("metrics") and one.unit)
    found = measure(replace(series, sizes=(2, 3)))
    assert [(p.size, p.data) for p in found] == [(2, 16.0), (3, 36.0)]
    assert all(p.seconds > 0 and p.peak > 10 for p in found)


def test_the_series_cover_two_decades():
    for series in SERIES:
        assert series.sizes[-1] >= (20 if series.along == "shots" else 100) * series.sizes[0]


def test_the_estimate_says_what_breaks_and_takes_rates_that_were_measured(tmp_path):
    assert sum(line.endswith("BREAKS") for line in large(9e7)) == 3
    assert measured_rates(tmp_path) == {}
    folder = tmp_path / "results" / "gpu" / "cuda-x"
    folder.mkdir(parents=True)
    (folder / "step.txt").write_text("bf16: 5.1e+03 images a second, 12.0 GB, 260 images a step\n")
    assert measured_rates(tmp_path) == {"bf16": (5100.0, "cuda-x")}
