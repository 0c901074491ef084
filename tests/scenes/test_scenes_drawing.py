import hashlib
from collections import Counter

import numpy as np
import pytest

from mlfsic_bench.data import scenes as pictures
from mlfsic_bench.data.scenes import FIRST, SIZE, Scenes, labels_in, lay_out
from mlfsic_bench.errors import BenchError


@pytest.fixture(scope="module")
def scenes():
    return Scenes(base_images=40, val_images=20, novel_images=20)


def test_pictures_are_the_same_for_ever(scenes):
    # Whole numbers throughout: a change here is another data set and needs a new VERSION.
    digest = hashlib.sha256()
    for image_id in scenes.annotations().image_ids:
        digest.update(scenes.image_bytes(image_id))
    assert digest.hexdigest() == "2ac8432ba5b717d008271bfc10f47867ce54ae6b85342f67f62eb78f003e5c63"


def test_layouts_are_the_same_for_ever():
    texts = [repr(lay_out(FIRST[group] + i, group)) for group in FIRST for i in range(50)]
    assert (
        hashlib.sha256("\n".join(texts).encode()).hexdigest()
        == "357434dcbf8d35359229384af9cc779cb40b5ea2c7ca823c9b37d198d97e23e9"
    )


def test_a_larger_data_set_keeps_every_image(scenes):
    larger = Scenes(base_images=60, val_images=25, novel_images=30)
    own, others = scenes.annotations(), larger.annotations()
    assert set(own.image_ids) < set(others.image_ids)
    rows = [others.image_ids.index(i) for i in own.image_ids]
    np.testing.assert_array_equal(own.present, others.present[rows])
    for image_id in own.image_ids[::17]:
        assert scenes.image_bytes(image_id) == larger.image_bytes(image_id)


def test_masks_show_exactly_the_labels_and_do_not_overlap(scenes):
    annotations = scenes.annotations()
    for image_id, present in zip(annotations.image_ids, annotations.present, strict=True):
        masks = scenes.masks(image_id)
        assert set(masks) == {annotations.labels[i] for i in np.flatnonzero(present)}
        assert all(mask.shape == (SIZE, SIZE) and mask.sum() >= 60 for mask in masks.values())
        assert np.sum(list(masks.values()), axis=0).max() == 1


def test_groups_show_what_the_open_rule_allows(scenes):
    annotations = scenes.annotations()
    part = np.array(pictures.PART_OF)
    for image_id, present in zip(annotations.image_ids, annotations.present, strict=True):
        shown = set(part[present])
        number = int(image_id.removeprefix("scenes/"))
        if number < FIRST["val"]:
            assert shown == {"base"}
            assert 2 <= present.sum() <= 4
        elif number < FIRST["novel"]:
            assert "val" in shown
            assert "novel" not in shown
        else:
            assert "novel" in shown
    assert annotations.image_ids == tuple(sorted(annotations.image_ids))


def test_an_object_changes_its_own_pixels_only(scenes):
    # The ground seen through a mask's complement is the ground: colours inside come from two inks.
    image_id = scenes.annotations().image_ids[3]
    layout = lay_out(3, "base")
    pixels = scenes.pixels(image_id).astype(int)
    for thing in layout.objects:
        mask = scenes.masks(image_id)[pictures.LABELS[thing.label]]
        inside = pixels[mask]
        inks = np.array([thing.ink, thing.second_ink])
        near = np.abs(inside[:, None] - inks).sum(2).min(1)
        assert np.median(near) == 0


def test_parts_have_twelve_six_and_six_labels():
    sizes = [len(pictures.labels_of(part)) for part in ("base", "val", "novel")]
    assert sizes == [12, 6, 6]
    assert len(set(pictures.LABELS)) == 24


def test_base_sees_each_shape_twice_and_each_pattern_three_times():
    base = [pictures.LOOKS[i] for i in pictures.labels_of("base")]
    shapes, patterns = Counter(b.shape for b in base), Counter(b.pattern for b in base)
    assert shapes == dict.fromkeys(pictures.SHAPES, 2)
    assert patterns == dict.fromkeys(pictures.PATTERNS, 3)
    pairs = {frozenset(b.pattern for b in base if b.shape == s) for s in pictures.SHAPES}
    assert len(pairs) == 6


def test_label_vectors_tell_labels_apart_and_novel_ones_lie_among_base_ones(scenes):
    vectors = scenes.label_embeddings(pictures.LABELS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (24, len(pictures.ATTRIBUTES))
    assert (vectors.min(), vectors.max()) == (0.0, 1.0)
    assert len({tuple(v) for v in vectors.tolist()}) == 24
    with_one = np.c_[vectors.astype(np.float64), np.ones(24)]
    base = with_one[list(pictures.labels_of("base"))]
    assert np.linalg.matrix_rank(base) == np.linalg.matrix_rank(with_one)


def test_labels_are_drawn_about_equally_often():
    counts = np.bincount(np.concatenate([labels_in(i, "base") for i in range(1200)]), minlength=24)
    own = counts[list(pictures.labels_of("base"))]
    assert own.sum() == counts.sum()
    assert own.min() > 0.8 * own.mean()


@pytest.mark.parametrize(
    "image_id", ["scenes/000040", "scenes/12", "coco/000001", "scenes/99999x", "scenes/-00001"]
)
def test_a_foreign_id_is_an_error(scenes, image_id):
    assert not scenes.available((image_id,))[0]
    with pytest.raises(BenchError, match="has no image"):
        scenes.open_image(image_id)


def test_an_unknown_label_names_the_nearest(scenes):
    with pytest.raises(BenchError) as caught:
        scenes.label_embeddings(["striped disk"])
    assert "striped disc" in caught.value.remedy


def test_too_many_images_are_refused():
    with pytest.raises(BenchError, match="cannot have"):
        Scenes(base_images=800_001)
