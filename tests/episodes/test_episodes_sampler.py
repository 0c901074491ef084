"""Episodes as others see them: order, independence of the number drawn, feasible labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from mlfsic_bench.episodes.feasibility import (
    build_pools,
    check_feasible,
    feasible_labels,
    hall_violator,
    pools_of,
    restrict,
)
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL, KPerLabel
from mlfsic_bench.episodes.protocol import Episode
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import splitmix64, stream_seed
from mlfsic_bench.splits.split import Part
from tests.searches import examples


def make_part(targets: np.ndarray) -> Part:
    n, count = targets.shape
    return Part(
        tuple("abcdefgh"[:count]), tuple(f"img/{i:04d}" for i in range(n)), targets.astype(bool)
    )


def draw_episodes(
    part: Part, split_hash: str, purpose: str, indices: Sequence[int], **sizes: int
) -> list[Episode]:
    return (
        KPerLabel(**({"shots": 1, "queries": 4} | sizes))
        .sampler(part, split_hash, purpose)
        .draw(indices)
    )


def mixed_part(n: int = 300) -> Part:
    words = np.array([splitmix64(5, i) / 2**64 for i in range(n * 4)]).reshape(n, 4)
    targets = words < [0.9, 0.1, 0.3, 0.1]
    targets[:, 0] |= ~targets.any(axis=1)
    return make_part(targets)


def test_entries_were_drawn_for_their_label() -> None:
    part = mixed_part()
    for episode in draw_episodes(part, "hash", "novel", range(50)):
        assert len(set(episode.support + episode.query)) == 4 + 16
        assert part.targets_of(episode.support)[np.arange(4), np.arange(4)].all()
        assert part.targets_of(episode.query)[np.arange(16), np.arange(16) // 4].all()


def test_an_episode_is_the_same_alone_and_among_others() -> None:
    sampler = ONE_PER_LABEL.sampler(mixed_part(), "hash", "novel")
    among = sampler.draw(range(200))
    assert sampler.draw([137]) == [among[137]]
    assert sampler.draw([9, 4, 9]) == [among[9], among[4], among[9]]
    assert len(set(among)) == 200


def test_split_hash_purpose_and_index_name_the_episode() -> None:
    part = mixed_part()
    one = draw_episodes(part, "hash", "novel", [0])
    assert draw_episodes(part, "other", "novel", [0]) != one
    assert draw_episodes(part, "hash", "train/0", [0]) != one
    assert draw_episodes(part, "hash", "novel", [1]) != one
    assert draw_episodes(mixed_part(), "hash", "novel", [0]) == one


def test_seeds_are_the_documented_streams() -> None:
    seeds = ONE_PER_LABEL.sampler(mixed_part(), "hash", "train/3").seeds([0, 7, 123])
    for index, seed in zip([0, 7, 123], seeds.tolist(), strict=True):
        assert seed == stream_seed("episodes", "one_per_label-v1", "hash", "train/3", index)


def test_support_does_not_depend_on_the_number_of_queries() -> None:
    part = mixed_part()
    few = draw_episodes(part, "h", "novel", range(5), queries=1)
    many = draw_episodes(part, "h", "novel", range(5), queries=6)
    assert [e.support for e in few] == [e.support for e in many]
    five = draw_episodes(part, "h", "novel", [0], shots=5)[0]
    assert part.targets_of(five.support)[np.arange(20), np.arange(20) // 5].all()


def test_frozen_episode() -> None:
    """Written down once: if this changes, every published episode file changes with it."""
    targets = np.arange(60)[:, None] % np.array([2, 3, 5]) == 0
    episode = draw_episodes(make_part(targets), "0" * 64, "novel", [7], queries=1)[0]
    assert [int(image[-4:]) for image in episode.support] == FROZEN_SUPPORT
    assert [int(image[-4:]) for image in episode.query] == FROZEN_QUERY


FROZEN_SUPPORT = [50, 42, 10]
FROZEN_QUERY = [54, 0, 30]


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(BenchError, match="numbered from 0"):
        ONE_PER_LABEL.sampler(mixed_part(), "h", "novel").draw([0, -1])


def test_small_pools_are_named() -> None:
    targets = np.ones((40, 3), bool)
    targets[4:, 1] = False
    targets[:, 2] = False
    with pytest.raises(BenchError) as error:
        ONE_PER_LABEL.sampler(make_part(targets), "h", "novel")
    assert "b, c" in str(error.value)
    assert "b (4), c (0)" in str(error.value)
    assert "--min-pool" in error.value.remedy


def test_a_part_without_labels_is_refused() -> None:
    with pytest.raises(BenchError, match="without labels"):
        ONE_PER_LABEL.sampler(make_part(np.zeros((9, 0))), "h", "novel")


def test_labels_that_share_too_few_images_are_named() -> None:
    targets = np.zeros((60, 3), bool)
    targets[:7, 0] = targets[:8, 2] = True
    targets[:, 1] = True
    part = make_part(targets)
    with pytest.raises(BenchError) as error:
        check_feasible(part, 5)
    assert "a, c" in error.value.what
    assert "8 images together" in error.value.found
    assert feasible_labels(part, 5) == (("b", "c"), ("a",))
    check_feasible(restrict(part, ("b", "c")), 5)


@examples(200)
@given(
    labels=st.integers(1, 6),
    images=st.integers(1, 30),
    need=st.integers(1, 5),
    density=st.sampled_from([0.1, 0.3, 0.6, 1.0]),
    seed=st.integers(0, 2**40),
)
def test_hall_violator_agrees_with_a_matching(
    labels: int, images: int, need: int, density: float, seed: int
) -> None:
    words = [splitmix64(seed, i) / 2**64 for i in range(labels * images)]
    targets = np.array(words).reshape(images, labels) < density
    pools = build_pools(targets)
    violator = hall_violator(pools, range(labels), need)
    copies = np.repeat(targets.T, need, axis=0).astype(np.int8)
    matched = maximum_bipartite_matching(csr_array(copies), perm_type="column")
    assert bool(violator) == bool((matched < 0).any())
    if violator:
        assert targets[:, violator].any(axis=1).sum() < need * len(violator)


def test_restrict_keeps_order_and_drops_bare_images() -> None:
    part = make_part(np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]]))
    small = restrict(part, ("c", "a"))
    assert small.labels == ("a", "c")
    assert small.image_ids == ("img/0000", "img/0001", "img/0002", "img/0003")
    assert restrict(part, ("b",)).image_ids == ("img/0001", "img/0002")
    assert restrict(part, part.labels) is part
    with pytest.raises(BenchError, match="unknown label 'd'"):
        restrict(part, ("d",))


def test_all_labels_are_feasible_where_all_have_images() -> None:
    part = mixed_part()
    assert feasible_labels(part, 5) == (part.labels, ())


def test_pools_are_the_images_of_each_label() -> None:
    part = mixed_part()
    pools = pools_of(part)
    assert pools_of(part) is pools
    for label in range(4):
        assert pools[label].tolist() == np.flatnonzero(part.targets[:, label]).tolist()
