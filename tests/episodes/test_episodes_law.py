"""The law of the draw against its enumeration, and the fast path against the definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from mlfsic_bench.episodes import per_label as sampler
from mlfsic_bench.episodes.feasibility import Pools, build_pools, hall_violator
from mlfsic_bench.episodes.per_label import (
    ATTEMPTS,
    draw_attempt,
    draw_episode,
    last_accepted,
    position_labels,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import splitmix64, stream_seed
from tests.searches import examples


def enumerate_law(pools: Pools, labels: list[int]) -> tuple[dict[tuple[int, ...], float], float]:
    """Probability of each complete sequence given that it is complete; and of running dry."""
    complete: dict[tuple[int, ...], Fraction] = {(): Fraction(1)}
    for label in labels:
        step: dict[tuple[int, ...], Fraction] = {}
        for taken, chance in complete.items():
            free = [i for i in pools[label].tolist() if i not in taken]
            for image in free:
                step[(*taken, image)] = chance / len(free)
        complete = step
    whole = sum(complete.values(), Fraction(0))
    return {taken: float(chance / whole) for taken, chance in complete.items()}, float(1 - whole)


def targets_of(*pools: list[int]) -> np.ndarray:
    targets = np.zeros((1 + max(max(pool) for pool in pools), len(pools)), bool)
    for label, pool in enumerate(pools):
        targets[pool, label] = True
    return targets


CASES = {
    # name: (pools, query images per label, least probability of running dry)
    "never-dry": (targets_of([0, 1, 2, 3, 4], [3, 4, 5, 6]), 1, 0.0),
    "sometimes-dry": (targets_of([0, 1, 2], [1, 2, 3]), 1, 0.05),
    "often-dry": (targets_of([0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 4, 5]), 1, 0.3),
}


@pytest.mark.parametrize("name", CASES)
def test_law_is_the_enumerated_sequential_law(name: str) -> None:
    targets, query, least_dry = CASES[name]
    pools = build_pools(targets)
    labels = position_labels(pools, 1, query).tolist()
    expected, dry = enumerate_law(pools, labels)
    assert dry >= least_dry
    draws = 12_000
    seeds = np.array([stream_seed("test", name, i) for i in range(draws)], np.uint64)
    taken = sampler.draw_episodes_at_once(pools, seeds, 1, query)
    seen, counts = np.unique(taken, axis=0, return_counts=True)
    observed = dict(zip(map(tuple, seen.tolist()), counts.tolist(), strict=True))
    assert set(observed) <= set(expected)
    frequencies = [observed.get(sequence, 0) for sequence in expected]
    assert min(expected.values()) * draws > 5
    assert chisquare(frequencies, [p * draws for p in expected.values()]).pvalue > 0.01


def test_enumeration_detects_a_wrong_law() -> None:
    """The chi-square above has the power to see uniform-over-sequences instead of sequential."""
    targets, query, _ = CASES["often-dry"]
    pools = build_pools(targets)
    expected, _ = enumerate_law(pools, position_labels(pools, 1, query).tolist())
    p = np.array(list(expected.values()))
    assert 12_000 * ((1 / len(p) - p) ** 2 / p).sum() > 300  # the critical value is 73


def test_dry_attempts_happen_and_are_redrawn_whole() -> None:
    targets, query, _ = CASES["often-dry"]
    pools = build_pools(targets)
    labels = position_labels(pools, 1, query).tolist()
    later = 0
    for seed in range(60):
        attempts = (draw_attempt(pools, labels, seed, t) for t in range(ATTEMPTS))
        first = next((t, taken) for t, taken in enumerate(attempts) if taken is not None)
        later += first[0] > 0
        assert draw_episode(pools, seed, 1, query).tolist() == first[1]
    assert later > 15


def test_too_many_dry_attempts_are_an_error() -> None:
    pools = build_pools(targets_of([0], [0]))  # no two distinct images exist
    with pytest.raises(BenchError, match="1000 times"):
        draw_episode(pools, 3, 1, 1)


@st.composite
def feasible_targets(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    labels = draw(st.integers(1, 5))
    images = draw(st.integers(2, 24))
    support, query = draw(st.integers(1, 2)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32))
    density = draw(st.sampled_from([0.2, 0.5, 0.9]))
    words = [splitmix64(seed, i) / 2**64 for i in range(labels * images)]
    targets = np.array(words).reshape(images, labels) < density
    assume(not hall_violator(build_pools(targets), range(labels), support + query))
    return targets, support, query


@examples(150)
@given(case=feasible_targets(), seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6))
def test_at_once_equals_one_after_another(
    case: tuple[np.ndarray, int, int], seeds: list[int]
) -> None:
    targets, support, query = case
    pools = build_pools(targets)

    def one(seed: int) -> list[int] | None:
        try:
            return draw_episode(pools, seed, support, query).tolist()
        except BenchError:
            return None

    each = [one(seed) for seed in seeds]
    assume(all(taken is not None for taken in each))
    at_once = sampler.draw_episodes_at_once(pools, np.array(seeds, np.uint64), support, query)
    assert at_once.tolist() == each
    for taken in at_once:
        assert len(set(taken.tolist())) == len(taken)
        assert targets[taken, position_labels(pools, support, query)].all()


def test_blocks_and_rounds_do_not_change_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.arange(40)[:, None] % np.array([2, 3, 5]) == 0
    pools, seeds = build_pools(targets), np.arange(50, dtype=np.uint64)
    plain = sampler.draw_episodes_at_once(pools, seeds, 1, 2)
    monkeypatch.setattr(sampler, "BLOCK_POSITIONS", 20)
    monkeypatch.setattr(sampler, "ROUNDS", 1)
    assert (sampler.draw_episodes_at_once(pools, seeds, 1, 2) == plain).all()


def test_words_above_the_last_multiple_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real pools hardly ever meet such a word; a lower bound makes it common in both paths."""
    seeds = np.arange(20, dtype=np.uint64)
    pools = build_pools(targets_of(list(range(12)), list(range(5, 20))))
    before = sampler.draw_episodes_at_once(pools, seeds, 1, 2)
    monkeypatch.setattr(sampler, "last_accepted", lambda n: (1 << 62) // n * n - 1)
    after = sampler.draw_episodes_at_once(pools, seeds, 1, 2)
    assert (after != before).any()
    assert after.tolist() == [draw_episode(pools, int(seed), 1, 2).tolist() for seed in seeds]


@given(n=st.integers(1, 2**63))
def test_accepted_words_are_whole_turns(n: int) -> None:
    accepted = last_accepted(n) + 1
    assert accepted % n == 0
    assert accepted <= 2**64 < accepted + n


def test_positions_go_by_pool_size_and_ties_by_label() -> None:
    pools = build_pools(targets_of([0, 1, 2], [3, 4], [5, 6]))
    assert pools.order.tolist() == [1, 2, 0]
    assert position_labels(pools, 1, 2).tolist() == [1, 2, 0, 1, 1, 2, 2, 0, 0]


def test_one_attempt_by_hand() -> None:
    """The layout of the streams, spelled out once more: a change here changes every episode."""
    pools = build_pools(targets_of([0, 1, 2, 3, 4, 5, 6]))
    taken: list[int] = []
    for position in range(5):
        stream, k = splitmix64(99, 2 * 2**32 + position), 0
        while (image := splitmix64(stream, k) % 7) in taken:
            k += 1
        taken.append(image)
    assert draw_attempt(pools, [0] * 5, 99, 2) == taken
