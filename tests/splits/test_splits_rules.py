"""The vectorised rules against a reading of the rule with sets, one image at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfsic_bench.data.dataset import PART_NAMES, Annotations, Dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.splits.build import apply_rule, build_file, limit
from mlfsic_bench.splits.files import EXCLUDED_BY, parse_split, parts_of, problems, to_split

LABELS = {"base": ["a", "b", "c"], "val": ["d", "e"], "novel": ["g", "f"]}


def definition(rule, present=False, excludes=True):
    return parse_split(
        {
            "format": "mlfsic-split/1",
            "id": "tiny-3-2-2-v1",
            "version": 1,
            "dataset": "tiny",
            "rule": {
                "name": rule,
                "excluded_by": EXCLUDED_BY[rule],
                "difficult_is_present": present,
                "difficult_excludes": excludes,
            },
            "labels": LABELS,
            "provenance": {"labels": "made up", "rule": "made up", "images": "made up"},
        },
        "tiny",
    )


class Tiny(Dataset):
    name = "tiny"

    def __init__(self, annotations, on_disk=()):
        self._annotations = annotations
        self._on_disk = frozenset(on_disk)

    def annotations(self):
        return self._annotations

    def available(self, image_ids):
        return np.array([image in self._on_disk for image in image_ids], np.bool_)

    def image_bytes(self, image_id):
        raise NotImplementedError

    def open_image(self, image_id):
        raise NotImplementedError


@st.composite
def annotations(draw):
    names = tuple("hgfedcba")  # another order than the split's, and a label of no part
    n = draw(st.integers(0, 25))
    # per cell: absent (mostly), difficult only, present
    cell = st.sampled_from([0, 0, 0, 0, 1, 2])
    cells = draw(st.lists(st.lists(cell, min_size=8, max_size=8), min_size=n, max_size=n))
    table = np.array(cells, np.int8).reshape(n, 8)
    return Annotations(names, tuple(f"i/{i:03d}" for i in range(n)), table == 2, table >= 1)


def naive(a, rule, difficult_is_present, difficult_excludes):
    """{part: {image: set of its labels of the part}} by the words of the rule."""
    result = {part: {} for part in PART_NAMES}
    for row, image in enumerate(a.image_ids):
        present = {a.labels[k] for k in range(8) if a.present[row, k]}
        shown = {a.labels[k] for k in range(8) if a.shown[row, k]}
        has = shown if difficult_is_present else present
        out = shown if difficult_excludes else present
        base, val, novel = (set(LABELS[part]) for part in PART_NAMES)
        if has & base and not out & val and not out & novel:
            result["base"][image] = has & base
        if has & val and not out & novel and (rule == "open" or not out & base):
            result["val"][image] = has & val
        if has & novel and (rule != "strict" or not out & (base | val)):
            result["novel"][image] = has & novel
    return result


def as_sets(parts):
    return {
        name: {
            image: {part.labels[k] for k in np.flatnonzero(part.targets[row])}
            for row, image in enumerate(part.image_ids)
        }
        for name, part in parts.items()
    }


@given(annotations(), st.sampled_from(["open", "strict", "text"]), st.booleans(), st.booleans())
def test_rules_against_sets(a, rule, present, excludes):
    expected = naive(a, rule, present, excludes)
    members = [image for part in expected.values() for image in part]
    if len(members) > len(set(members)):
        assert not excludes
        with pytest.raises(BenchError, match="into two parts"):
            apply_rule(definition(rule, present, excludes), a)
    else:
        assert as_sets(apply_rule(definition(rule, present, excludes), a)) == expected


@given(annotations(), st.sampled_from(["open", "strict", "text"]), st.data())
def test_limits_against_sets(a, rule, data):
    on_disk = data.draw(st.sets(st.sampled_from(a.image_ids))) if a.image_ids else set()
    min_pool = data.draw(st.one_of(st.none(), st.integers(1, 4)))
    expected = {
        name: {image: labels for image, labels in part.items() if image in on_disk}
        for name, part in naive(a, rule, False, True).items()
    }
    left = {}
    for name, part in expected.items():
        left[name] = {}
        while min_pool:  # to the fixed point, as the rule says
            pools = {k: sum(k in labels for labels in part.values()) for k in LABELS[name]}
            small = {k: n for k, n in pools.items() if n < min_pool and k not in left[name]}
            left[name] |= small
            part = {image: labels - set(small) for image, labels in part.items()}
            part = {image: labels for image, labels in part.items() if labels}
            if not small:
                break
        expected[name] = part
    parts, subset = limit(apply_rule(definition(rule), a), Tiny(a, on_disk), min_pool)
    assert as_sets(parts) == expected
    assert subset.labels_left.model_dump() == left
    assert subset.available_only
    again, nothing = limit(parts, None, min_pool)
    assert as_sets(again) == expected
    assert nothing.labels_left.model_dump().keys() == left.keys()


@given(
    annotations(),
    st.sampled_from(["open", "strict", "text"]),
    st.one_of(st.none(), st.integers(1, 3)),
)
def test_built_files_are_sound_and_say_what_the_parts_say(a, rule, min_pool):
    dataset = Tiny(a)
    limited = apply_rule(definition(rule), a)
    if min_pool:
        limited, _ = limit(limited, None, min_pool)
    if not all(part.image_ids for part in limited.values()):
        with pytest.raises(BenchError, match="has no image"):
            build_file(definition(rule), dataset, min_pool=min_pool)
        return
    content = build_file(definition(rule), dataset, min_pool=min_pool)
    assert problems(content) == []
    split = to_split(build_file(definition(rule), dataset, min_pool=min_pool))
    assert split.hash == content.hash == to_split(content).hash
    assert as_sets(split.parts) == as_sets(parts_of(content))
    for name in PART_NAMES:
        part, counts = split.parts[name], content.counts.of(name)
        assert counts.labels == dict(zip(part.labels, part.targets.sum(0).tolist(), strict=True))
        assert counts.images == len(part.image_ids)
        assert part.targets.any(axis=1).all()


def test_a_label_the_dataset_lacks_gives_the_nearest():
    a = Annotations(("aa", "b"), ("i/0",), np.ones((1, 2), bool), np.ones((1, 2), bool))
    with pytest.raises(BenchError, match="unknown label 'a'") as caught:
        apply_rule(definition("open"), a)
    assert "'aa'" in caught.value.remedy


def test_another_dataset_is_refused():
    class Other(Tiny):
        name = "other"

    with pytest.raises(BenchError, match="not made of this dataset"):
        build_file(definition("open"), Other(None))
