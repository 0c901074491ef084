"""Any K and any Q: the law written a second time, disjoint sets, names, files, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlfsic_bench.episodes.feasibility import build_pools, hall_violator
from mlfsic_bench.episodes.files import draw_episodes, find_episodes, parse_file, read_episodes
from mlfsic_bench.episodes.per_label import (
    ONE_PER_LABEL,
    DisjointPerLabel,
    KPerLabel,
    PerLabel,
)
from mlfsic_bench.episodes.protocol import Episode, find_protocol, protocol_with_id
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.randomness import splitmix64, stream_seed
from mlfsic_bench.splits.resolve import resolve_split
from mlfsic_bench.splits.split import Part, Split
from tests.fakes.world import fake_split
from tests.searches import examples

SCENES = "scenes-12-6-6-v1"


@st.composite
def parts(draw: st.DrawFn) -> Part:
    labels, images = draw(st.integers(1, 4)), draw(st.integers(4, 40))
    seed, density = draw(st.integers(0, 2**32)), draw(st.sampled_from([0.3, 0.6, 0.95]))
    words = np.array([splitmix64(seed, i) / 2**64 for i in range(labels * images)])
    targets = words.reshape(images, labels) < density
    return Part(tuple("abcd"[:labels]), tuple(f"i/{n:03d}" for n in range(images)), targets)


def split_of(part: Part) -> Split:
    none = Part((), (), np.zeros((0, 0), bool))
    return Split("made-v1", "f" * 64, "made", "open", {"base": none, "val": part, "novel": part})


def law(part: Part, seed: int, shots: int, queries: int) -> Episode:
    """The law as docs/episodes.md says it, with lists of ids and no thought for speed."""
    pools = {
        label: sorted(image for image, has in zip(part.image_ids, column, strict=True) if has)
        for label, column in zip(part.labels, part.targets.T, strict=True)
    }
    turns = sorted(part.labels, key=lambda label: (len(pools[label]), part.labels.index(label)))
    positions = [label for label in turns for _ in range(shots)]
    positions += [label for label in turns for _ in range(queries)]
    for attempt in range(1000):
        taken: list[str] = []
        for p, label in enumerate(positions):
            pool = pools[label]
            if set(pool) <= set(taken):
                break
            stream = splitmix64(seed, attempt * 2**32 + p)
            words = (splitmix64(stream, i) for i in count())
            fair = (x for x in words if x < 2**64 - 2**64 % len(pool))
            taken.append(
                next(pool[x % len(pool)] for x in fair if pool[x % len(pool)] not in taken)
            )
        if len(taken) == len(positions):
            break
    split_at = shots * len(turns)
    given = {label: taken[i * shots : (i + 1) * shots] for i, label in enumerate(turns)}
    asked = {
        label: taken[split_at + i * queries : split_at + (i + 1) * queries]
        for i, label in enumerate(turns)
    }
    return Episode(
        tuple(image for label in part.labels for image in given[label]),
        tuple(image for label in part.labels for image in asked[label]),
    )


@examples(120)
@given(part=parts(), shots=st.integers(1, 5), queries=st.integers(1, 4))
def test_every_k_and_q_has_the_law(part: Part, shots: int, queries: int) -> None:
    need = shots + queries
    assume(not hall_violator(build_pools(part.targets), range(len(part.labels)), need))
    split, protocol = split_of(part), KPerLabel(shots, queries)
    try:
        drawn = protocol.draw(split, "novel", range(3))
    except BenchError as error:  # too many attempts that ran dry
        assume("ran dry" not in str(error))
        raise
    for index, episode in enumerate(drawn):
        seed = stream_seed("episodes", "one_per_label-v1", split.hash, "novel", index)
        assert episode == law(part, seed, shots, queries)
        assert len({*episode.support, *episode.query}) == need * len(part.labels)
        for images, each in ((episode.support, shots), (episode.query, queries)):
            places = np.arange(len(images))
            assert part.targets_of(images)[places, places // each].all()
    protocol.check(split, "novel", drawn, "the episodes")
    assert protocol.draw(split, "novel", [2, 0]) == [drawn[2], drawn[0]]


def test_one_and_four_are_one_per_label() -> None:
    split = fake_split()
    for part, indices in (("novel", range(40)), ("val", [7])):
        drawn = KPerLabel(1, 4).draw(split, part, indices)
        assert drawn == ONE_PER_LABEL.draw(split, part, indices)
    assert find_protocol("k_per_label", shots=1, queries=4) == ONE_PER_LABEL
    with pytest.raises(BenchError, match="not called k_per_label-v1"):
        protocol_with_id("k_per_label-v1", shots=1, queries=4)


@pytest.mark.parametrize(
    ("name", "chosen", "expected"),
    [
        (None, {}, ONE_PER_LABEL),
        (None, {"shots": 1}, ONE_PER_LABEL),
        (None, {"shots": 1, "queries": 4}, ONE_PER_LABEL),
        (None, {"shots": 5}, KPerLabel(5, 4)),
        (None, {"queries": 9}, KPerLabel(1, 9)),
        ("k_per_label", {"shots": 5}, KPerLabel(5, 4)),
        ("k_per_label", {"shots": 2, "queries": 15}, KPerLabel(2, 15)),
        ("disjoint_per_label", {}, DisjointPerLabel(1, 4)),
        ("disjoint_per_label", {"shots": 5}, DisjointPerLabel(5, 4)),
    ],
)
def test_what_k_and_q_alone_mean(
    name: str | None, chosen: dict[str, int], expected: PerLabel
) -> None:
    assert find_protocol(name, **chosen) == expected


@pytest.mark.parametrize(
    ("name", "chosen", "reason"),
    [
        ("k_per_label", {}, "add --shots K"),
        ("one_per_label", {"shots": 5}, "leave out --shots, or --protocol"),
        ("laso_k_shot", {"shots": 1, "queries": 4}, "--queries do not fit together"),
        (None, {"shots": 0}, "at least 1 for 'shots'"),
        (None, {"queries": True}, "at least 1 for 'queries'"),
    ],
)
def test_choices_that_can_not_be(name: str | None, chosen: dict[str, int], reason: str) -> None:
    with pytest.raises(BenchError) as error:
        find_protocol(name, **chosen)
    assert reason in str(error.value)


def test_labels_with_too_few_images_are_named() -> None:
    split = fake_split(novel=8)
    pools = dict(zip(split.novel.labels, split.novel.targets.sum(axis=0).tolist(), strict=True))
    with pytest.raises(BenchError) as error:
        KPerLabel(12, 4).draw(split, "novel", [0])
    short = [label for label, n in pools.items() if n < 16]
    assert f"too small to draw episodes: {', '.join(short)}" in error.value.what
    assert "16 distinct images for every label at once" in error.value.expected
    shared = Part(("a", "b"), tuple("0123456789"), np.ones((10, 2), bool))
    with pytest.raises(BenchError, match="a, b"):  # enough for each, not for both
        KPerLabel(2, 4).draw(split_of(shared), "novel", [0])


def unsound(content: Any, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    raw: dict[str, Any] = content.body()
    change(raw)
    return raw | {"hash": hash_json(raw)}


def test_files_of_any_k_and_q(tmp_path: Path) -> None:
    split = fake_split()
    content = draw_episodes(KPerLabel(2, 3), split, "novel", 4)
    path = tmp_path / content.protocol.file_name(split.id, "novel")
    assert path.name == f"{split.id}.novel-2-shot-3-query-episodes.json"
    path.write_bytes(content.format())
    kept = read_episodes(path, split)
    assert kept == content == find_episodes(None, split, file=path)
    with pytest.raises(BenchError, match="episodes of another protocol"):
        find_episodes(KPerLabel(3, 3), split, file=path)

    def one_name(raw: dict[str, Any]) -> None:
        raw |= {"support_per_label": 1, "query_per_label": 4}

    with pytest.raises(BenchError, match="protocol 'one_per_label-v1'"):
        parse_file(unsound(content, one_name), "made")
    with pytest.raises(BenchError, match="2 support and 4 query images per label in every"):
        parse_file(unsound(content, lambda raw: raw.update(query_per_label=4)), "made")


@examples(60)
@given(part=parts(), shots=st.integers(1, 3), queries=st.integers(1, 3))
def test_disjoint_episodes(part: Part, shots: int, queries: int) -> None:
    need = shots + queries
    assume(not hall_violator(build_pools(part.targets), range(len(part.labels)), need))
    split, protocol = split_of(part), DisjointPerLabel(shots, queries)
    try:
        drawn = draw_episodes(protocol, split, "novel")
    except BenchError as error:
        assume("ran dry" not in str(error))
        raise
    used = [image for one in drawn.episodes for image in (*one.support, *one.query)]
    assert len(used) == len(set(used)) == len(drawn.episodes) * need * len(part.labels)
    protocol.check(split, "novel", drawn.episodes, "the episodes")
    assert drawn.episodes[0] == KPerLabel(shots, queries).draw(split, "novel", [0])[0]
    # each is drawn by the law from what the earlier ones left, whatever comes after it
    for i, episode in enumerate(drawn.episodes[:4]):
        gone = {image for one in drawn.episodes[:i] for image in (*one.support, *one.query)}
        rows = [row for row, image in enumerate(part.image_ids) if image not in gone]
        left = Part(part.labels, tuple(part.image_ids[r] for r in rows), part.targets[rows])
        seed = stream_seed("episodes", "one_per_label-v1", split.hash, "novel", i)
        assert episode == law(left, seed, shots, queries)
        assert protocol.draw(split, "novel", [i]) == [episode]
    # and hardly another one is left: too few images, or no attempt in a thousand
    with pytest.raises(BenchError, match="disjoint episodes"):
        draw_episodes(protocol, split, "novel", len(drawn.episodes) + 1)


def test_disjoint_sets_of_scenes(tmp_path: Path) -> None:
    split = resolve_split(SCENES, data_root=None)
    drawn = find_episodes(find_protocol("disjoint_per_label"), split)
    assert len(drawn.episodes) == 48  # 50 at most, by a matching
    twice = (*drawn.episodes, drawn.episodes[0])
    with pytest.raises(BenchError, match="each image in one episode only"):
        drawn.protocol.check(split, "novel", twice, "made")
    assert replace(drawn, episodes=drawn.episodes[:3]) == find_episodes(
        drawn.protocol, split, count=3
    )
    name = drawn.protocol.file_name(split.id, "novel")
    assert name == f"{SCENES}.novel-disjoint-1-shot-4-query-episodes.json"
