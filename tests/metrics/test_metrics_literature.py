"""Every convention of the literature against scikit-learn or a loop like its definition."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.average_precision import all_point_ap, eleven_point_ap
from mlfsic_bench.metrics.conventions import CONVENTIONS, convention_values
from mlfsic_bench.metrics.decisions import top_k

pytestmark = pytest.mark.slow

Array = np.ndarray


def kinds(seed: int = 0) -> dict[str, tuple[Array, Array, Array | None]]:
    """Random, tied, constant and degenerate scores [5, 24, 4]; every label is always tested."""
    rng = np.random.default_rng(seed)
    y = rng.random((5, 24, 4)) < 0.2
    y[:, np.arange(24), np.arange(24) % 4] = True
    s = rng.normal(size=y.shape)
    one = np.zeros_like(y)
    one[:, :4] = np.eye(4, dtype=bool)
    return {
        "random": (s.astype(np.float32), y, None),
        "tied": (np.round(s).astype(np.float32), y, None),
        "constant": (np.full(y.shape, 0.25, np.float32), y, None),
        "never predicted": (np.full(y.shape, -0.25, np.float32) + np.round(s) / 100, y, s < -9),
        "one positive": (s.astype(np.float32), one, s > 0.5),
        "all positive": (np.round(s).astype(np.float32), np.ones_like(y), s > 0),
        "own decisions": (s.astype(np.float32), y, rng.random(y.shape) < 0.3),
    }


def harmonic(p: float, r: float) -> float:
    return 2 * p * r / (p + r) if p + r else 0.0


def macro_ap(s: Array, y: Array) -> float:
    return float(np.mean([average_precision_score(y[:, i], s[:, i]) for i in range(y.shape[1])]))


def curve(y: Array, s: Array) -> list[tuple[Fraction, Fraction]]:
    """(recall, precision) at each distinct threshold, highest first, as fractions."""
    _, recall, thresholds = precision_recall_curve(y, s)
    points = []
    for t, r in sorted(zip(thresholds, recall[:-1], strict=True), reverse=True):
        chosen = s >= t
        hits = int((chosen & y).sum())
        points.append((Fraction(hits, int(y.sum())), Fraction(hits, int(chosen.sum()))))
        assert float(points[-1][0]) == pytest.approx(r)
    return points


def voc11(s: Array, y: Array) -> float:
    total = Fraction(0)
    for k in range(11):
        reached = [p for r, p in curve(y, s) if r >= Fraction(k, 10)]
        total += max(reached, default=Fraction(0))
    return float(total / 11)


def voc_all(s: Array, y: Array) -> float:
    points = curve(y, s)
    total, before = Fraction(0), Fraction(0)
    for n, (r, _) in enumerate(points):
        total += (r - before) * max(p for _, p in points[n:])
        before = r
    return float(total)


def macro(metric: Callable[[Array, Array], float]) -> Callable[[Array, Array], float]:
    return lambda s, y: float(np.mean([metric(s[:, i], y[:, i]) for i in range(y.shape[1])]))


def averaged(metric: Callable[..., float], y: Array, d: Array, average: str) -> float:
    return float(metric(y, d, average=average, zero_division=0))


def oracle(s: Array, y: Array, d: Array | None) -> dict[str, float]:
    """Every convention again, episode by episode."""
    d = s > 0 if d is None else d
    S, Y, D = (x.reshape(-1, x.shape[2]) for x in (s, y, d))
    T = np.zeros_like(D)
    for q in range(len(S)):
        T[q, sorted(range(S.shape[1]), key=lambda i, q=q: (-S[q, i], i))[:3]] = True

    def episodes(function: Callable[..., float], *arrays: Array) -> float:
        return float(np.mean([function(*each) for each in zip(*arrays, strict=True)]))

    def p(average: str) -> float:
        return episodes(lambda a, b: averaged(precision_score, a, b, average), y, d)

    def r(average: str) -> float:
        return episodes(lambda a, b: averaged(recall_score, a, b, average), y, d)

    def harmonic_macro(a: Array, b: Array) -> float:
        return harmonic(
            averaged(precision_score, a, b, "macro"), averaged(recall_score, a, b, "macro")
        )

    some = Y.any(axis=1)
    return {
        "ap_episode_macro": episodes(macro_ap, s, y),
        "ap_episode_micro": episodes(
            lambda a, b: average_precision_score(b, a, average="micro"), s, y
        ),
        "ap_pooled_macro": macro_ap(S, Y),
        "ap_pooled_micro": float(average_precision_score(Y.ravel(), S.ravel())),
        "ap_voc11_episode_macro": episodes(macro(voc11), s, y),
        "ap_voc11_pooled_macro": macro(voc11)(S, Y),
        "ap_voc_all_episode_macro": episodes(macro(voc_all), s, y),
        "ap_voc_all_pooled_macro": macro(voc_all)(S, Y),
        "ap_sample": float(average_precision_score(Y[some], S[some], average="samples")),
        "f1_episode_macro": episodes(harmonic_macro, y, d),
        "f1_episode_micro": episodes(lambda a, b: averaged(f1_score, a, b, "micro"), y, d),
        "f1_episode_label_mean": episodes(lambda a, b: averaged(f1_score, a, b, "macro"), y, d),
        "f1_of_means_macro": harmonic(p("macro"), r("macro")),
        "f1_of_means_micro": harmonic(p("micro"), r("micro")),
        "op": averaged(precision_score, Y, D, "micro"),
        "or": averaged(recall_score, Y, D, "micro"),
        "of1": averaged(f1_score, Y, D, "micro"),
        "cp": averaged(precision_score, Y, D, "macro"),
        "cr": averaged(recall_score, Y, D, "macro"),
        "cf1": harmonic_macro(Y, D),
        "f1_pooled_label_mean": averaged(f1_score, Y, D, "macro"),
        "of1_top3": averaged(f1_score, Y, T, "micro"),
        "cf1_top3": harmonic_macro(Y, T),
        "of1_top3_from_zero": averaged(f1_score, Y, T & (S >= 0), "micro"),
        "cf1_top3_from_zero": harmonic_macro(Y, T & (S >= 0)),
        "f1_sample": averaged(f1_score, Y[some], D[some], "samples"),
    }


@pytest.mark.parametrize("kind", kinds())
def test_every_convention_against_its_oracle(kind: str) -> None:
    s, y, d = kinds()[kind]
    found, expected = convention_values(s, y, d), oracle(s, y, d)
    assert list(found) == list(expected) == list(CONVENTIONS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-10), name


def test_conventions_differ_from_each_other() -> None:
    s, y, _ = kinds()["random"]
    values = convention_values(s, y)
    assert len({round(value, 9) for value in values.values()}) == len(values)


def test_every_convention_says_what_it_is() -> None:
    for name, convention in CONVENTIONS.items():
        assert convention.name == name
        assert all((convention.definition, convention.used_by, convention.oracle))
    with pytest.raises(BenchError, match="unknown convention 'of2'") as caught:
        convention_values(*kinds()["random"][:2], names=["of2"])
    assert "of1" in caught.value.remedy


def test_the_page_has_a_row_for_every_convention() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text("utf-8")
    for c in CONVENTIONS.values():
        assert f"| `{c.name}` | {c.definition} | {c.used_by} | {c.oracle} |" in page


def test_only_the_asked_conventions() -> None:
    s, y, d = kinds()["own decisions"]
    assert list(convention_values(s, y, d, names=["cf1", "op"])) == ["cf1", "op"]


def test_what_has_no_positive_is_left_out() -> None:
    s = np.array([[[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]])
    y = np.array([[[1, 0], [0, 0], [0, 0]]])
    values = convention_values(s, y)
    assert values["ap_sample"] == values["ap_pooled_macro"] == values["ap_voc11_pooled_macro"] == 1
    assert values["f1_sample"] == pytest.approx(2 / 3)
    assert all(np.isnan(convention_values(s, 0 * y)[n]) for n in CONVENTIONS if n != "op")


def test_interpolation_is_exact_at_the_recall_levels() -> None:
    # 3 of 10 positives are found at once: recall 0.3 is reached, although 3 / 10 < 0.1 * 3
    s = np.array([1.0] * 3 + [0.0] * 17)[None, :, None]
    y = np.array([1] * 3 + [1] * 7 + [0] * 10)[None, :, None]
    assert eleven_point_ap(s, y)[0, 0] == pytest.approx((4 * 1 + 7 * 0.5) / 11, abs=1e-15)
    assert all_point_ap(s, y)[0, 0] == pytest.approx(0.3 * 1 + 0.7 * 0.5, abs=1e-15)


def test_top_three_from_zero_leaves_out_scores_below_zero() -> None:
    # of the first query two labels are not below 0, one of them exactly 0; of the second none is
    s = np.array([[[2.0, 0.0, -1.0, -2.0], [-1.0, -2.0, -3.0, -4.0]]])
    y = np.array([[[1, 0, 1, 0], [1, 0, 0, 0]]])
    values = convention_values(s, y)
    assert values["of1_top3_from_zero"] == pytest.approx(2 * 1 / (2 + 3))
    assert values["of1_top3"] == pytest.approx(2 * 3 / (6 + 3))
    assert values["of1"] == pytest.approx(2 * 1 / (1 + 3))
    # own decisions change neither
    other = convention_values(s, y, np.ones_like(y))
    for name in ("of1_top3", "cf1_top3", "of1_top3_from_zero", "cf1_top3_from_zero"):
        assert other[name] == values[name]


def test_of_equal_scores_the_first_label_is_taken() -> None:
    chosen = top_k(np.zeros((1, 1, 5), np.float32), 2)
    assert chosen[0, 0].tolist() == [True, True, False, False, False]
    assert top_k(np.zeros((1, 1, 2), np.float32), 3).all()
