"""The law of laso_k_shot-v1: at least K of every label, uniform, the same for ever."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfsic_bench.data.coco import Coco
from mlfsic_bench.episodes.feasibility import build_pools
from mlfsic_bench.episodes.files import draw_episodes
from mlfsic_bench.episodes.k_shot import (
    LasoBalanced,
    LasoKShot,
    balanced_query,
    draw_support,
    images_of,
)
from mlfsic_bench.episodes.protocol import Episode, EpisodeSet, episode_set
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import splitmix64, stream_seed
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.files import to_split
from mlfsic_bench.splits.split import Part, Split
from tests.fakes.coco import write_coco
from tests.fakes.laso_world import DEFINITION, NOVEL, contents


def draw_runs(split: Split, shots: int, indices: list[int]) -> list[tuple[str, ...]]:
    return [e.support for e in LasoKShot(shots).draw(split, "novel", indices)]


def sample(split: Split, shots: int, count: int | None = None) -> EpisodeSet:
    return draw_episodes(LasoKShot(shots), split, "novel", count)


@given(
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=30),
    st.integers(1, 3),
    st.integers(0, 2**64 - 1),
)
def test_every_label_has_k_and_no_image_is_idle(
    rows: list[list[bool]], shots: int, seed: int
) -> None:
    targets = np.concatenate([np.array(rows), np.repeat(np.eye(4, dtype=bool), shots, axis=0)])
    pools = build_pools(targets)
    taken = draw_support(pools, seed, shots)
    assert len(set(taken)) == len(taken)
    assert (targets[taken].sum(0) >= shots).all()
    for place in range(len(taken)):  # each was added for a label that was short before it
        assert (targets[taken[:place]].sum(0)[targets[taken[place]]] < shots).any()


def test_rarest_label_first() -> None:
    targets = np.array([[True, False], [True, False], [True, True], [True, False]])
    for seed in range(50):
        taken = draw_support(build_pools(targets), seed, 1)
        assert taken == [2]  # the only image of label 1, which serves label 0 too


def test_images_are_uniform() -> None:
    targets = np.eye(1, dtype=bool).repeat(6, axis=0)
    pools = build_pools(targets)
    counts = Counter(frozenset(draw_support(pools, splitmix64(7, i), 2)) for i in range(6000))
    assert len(counts) == 15
    assert all(300 < n < 500 for n in counts.values())  # 400 expected, standard deviation 19


def test_the_law_word_by_word(split: Split) -> None:
    """The law again, written from its description."""
    part = split.novel
    images = [i for i in part.image_ids if i.startswith("train2014/")]
    has = {image: set(np.flatnonzero(part.targets_of((image,))[0]).tolist()) for image in images}
    pools = [[i for i in images if label in has[i]] for label in range(16)]
    for run in (0, 3):
        seed = stream_seed("episodes", "laso_k_shot-v1", split.hash, "novel", 2, run)
        taken: list[str] = []
        for label in sorted(range(16), key=lambda label: (len(pools[label]), label)):
            while sum(label in has[image] for image in taken) < 2:
                stream, pool, word = splitmix64(seed, len(taken)), pools[label], 0
                while True:
                    x = splitmix64(stream, word)
                    word += 1
                    image = pool[x % len(pool)]
                    if x < 2**64 // len(pool) * len(pool) and image not in taken:
                        break
                taken.append(image)
        assert draw_runs(split, 2, [run]) == [tuple(taken)]


def test_a_run_depends_on_split_shots_and_number_alone(split: Split) -> None:
    two = draw_runs(split, 1, [4, 5])
    assert draw_runs(split, 1, [5]) == two[1:]
    assert len(set(two)) == 2
    assert draw_runs(replace(split, hash="another"), 1, [4, 5]) != two
    assert draw_runs(split, 2, [4])[0][:5] != two[0][:5]


def test_frozen_value() -> None:
    """Three images of each of three labels: drawn so once, drawn so for ever."""
    targets = np.eye(3, dtype=bool).repeat(3, axis=0)
    part = Part(("a", "b", "c"), tuple(f"train2014/{i}" for i in range(9)), targets)
    toy = Split("toy", "0" * 64, "toy", "open", {"novel": part})  # type: ignore[arg-type]
    run = draw_runs(toy, 1, [0])[0]
    assert [image[-1] for image in run] == ["1", "4", "8"]


def test_query_is_all_of_val2014_once(split: Split) -> None:
    drawn = sample(split, 1, 3)
    assert drawn.protocol == LasoKShot(1)
    assert drawn.protocol.title == "laso_k_shot-v1, K = 1"
    query = images_of(split.novel, "val2014")
    assert len(query) == 48
    for episode in drawn.episodes:
        assert episode.query is drawn.episodes[0].query
        assert episode.query == query
        assert {image.partition("/")[0] for image in episode.support} == {"train2014"}
    LasoKShot(1).check(split, "novel", drawn.episodes, "drawn")


def test_the_hash_names_split_shots_runs_and_query(split: Split) -> None:
    drawn = sample(split, 1, 3).episodes
    hashes = {
        episode_set(LasoKShot(1), split, "novel", drawn).hash,
        episode_set(LasoKShot(2), split, "novel", drawn).hash,
        episode_set(LasoKShot(1), split, "novel", drawn[:2]).hash,
        episode_set(LasoKShot(1), replace(split, hash="0" * 64), "novel", drawn).hash,
    }
    assert len(hashes) == 4


def test_labels_with_too_few_images_are_named(tmp_path: Path, split: Split) -> None:
    with pytest.raises(BenchError, match="can't draw episodes with K = 9") as error:
        sample(split, 9)
    assert "bicycle (" in error.value.found
    train, _ = contents()
    no_query = to_split(
        build_file(DEFINITION, Coco(write_coco(tmp_path, train, {1: [("car", "box")]})))
    )
    with pytest.raises(BenchError, match="has no image to test"):
        sample(no_query, 1)


def test_check_names_label_and_run(split: Split) -> None:
    good = [e.support for e in sample(split, 1, 2).episodes]

    cut = good[1][:3]

    def check(supports: list[tuple[str, ...]]) -> None:
        given = [Episode(support, ()) for support in supports]
        LasoKShot(1).check(split, "novel", given, "mine.json")

    with pytest.raises(BenchError, match="too few images of a label") as error:
        check([good[0], cut])
    counts = split.novel.targets_of(cut).sum(0).tolist()
    missing = [label for label, n in zip(NOVEL, counts, strict=True) if n < 1]
    assert error.value.found == "in episode 1: " + ", ".join(f"{label} (0)" for label in missing)
    query = images_of(split.novel, "val2014")[0]
    with pytest.raises(BenchError, match="not support images") as error:
        check([(*good[0], query)])
    assert query in error.value.found


# -- the balanced query ---------------------------------------------------------------------------


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=20), st.integers(1, 200))
def test_balanced_query_word_by_word(rows: list[list[bool]], draws: int) -> None:
    """As the released code draws it, ties to the first label."""
    targets = np.array([*rows, *np.eye(3, dtype=bool).tolist()], bool)
    seen, expected = np.zeros(3), []
    for draw in range(draws):
        label = int(np.argmin(seen))  # the first of equals
        with_it = np.flatnonzero(targets[:, label])
        expected.append(int(with_it[draw % len(with_it)]))
        seen += targets[expected[-1]]
    drawn = balanced_query(targets, draws)
    assert drawn == expected
    # no label that is drawn for is ahead of the rarest by more than the images of others bring
    assert seen.min() >= draws // 3 // 3


def test_balanced_supports_are_those_of_laso_k_shot(split: Split) -> None:
    plain, balanced = (kind(2).draw(split, "novel", range(4)) for kind in (LasoKShot, LasoBalanced))
    assert plain == balanced
    sets = [draw_episodes(kind(2), split, "novel") for kind in (LasoKShot, LasoBalanced)]
    assert sets[0].hash != sets[1].hash
    query = sets[1].episodes[0].query
    assert len(query) == 40_504
    assert set(query) <= set(sets[0].episodes[0].query)
    shares = split.novel.targets_of(query).mean(axis=0)
    assert shares.max() - shares.min() < 0.06  # natural: up to twice as many of one label


def test_balanced_needs_an_image_of_every_label(split: Split) -> None:
    part = split.novel
    keep = [
        i
        for i, image in enumerate(part.image_ids)
        if image.startswith("train") or not part.targets[i, 3]
    ]
    small = Part(part.labels, tuple(part.image_ids[i] for i in keep), part.targets[keep])
    with pytest.raises(BenchError, match="no balanced query") as error:
        LasoBalanced(1).query(replace(split, parts={**split.parts, "novel": small}), "novel")
    assert part.labels[3] in error.value.found
