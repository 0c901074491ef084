import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from mlfsic_bench.analysis.attention.picture import Panel, Strip, draw, heat_of, hits, strips_of
from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import Images, Method, Support

LABELS = ("left", "right")
TARGETS = [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


class Halves(Dataset):
    """32 x 32 images whose label `left` is the left half, `right` the right half."""

    name = "halves"

    def annotations(self):
        present = np.array(TARGETS, bool)
        return Annotations(LABELS, ("a", "b", "c"), present, present)

    def available(self, image_ids):
        return np.ones(len(image_ids), bool)

    def image_bytes(self, image_id):
        return self.open_image(image_id).tobytes()

    def open_image(self, image_id):
        return PILImage.new("RGB", (32, 32), (200, 100, 50))

    def masks(self, image_id):
        left = np.zeros((32, 32), bool)
        left[:, :16] = True
        return {"left": left, "right": ~left}


class Pointing(Method):
    """Looks at the half its label names."""

    name = "pointing"

    def adapt(self, support):
        raise NotImplementedError

    def attention_scores(self, support, label):
        m = int((support.targets[:, label] > 0).sum())
        scores = torch.zeros(m, 2, 4, 4)
        scores[:, :, 1, 0 if support.labels[label] == "left" else 3] = 1.0
        return scores


class Blind(Method):
    name = "blind"

    def adapt(self, support):
        raise NotImplementedError


@pytest.fixture
def support():
    return Support(Images(("a", "b", "c"), None), torch.tensor(TARGETS), LABELS, None, 0)


def test_images_with_more_labels_come_first_and_heads_are_summed(support):
    strips = strips_of(Pointing(), support, Halves())
    assert [strip.image_id for strip in strips] == ["b", "a", "c"]
    assert [panel.label for panel in strips[0].panels] == ["left", "right"]
    assert strips[0].panels[0].scores[1, 0] == 2.0
    assert strips[0].panels[1].outline[:, 16:].all()


def test_hits_are_counted_against_chance(support):
    found, total, chance = hits(strips_of(Pointing(), support, Halves()))
    assert (found, total) == (4, 4)
    assert chance == pytest.approx(2.0)


def test_with_heads_each_label_has_a_strip_of_its_own(support):
    class Uneven(Pointing):
        def attention_scores(self, support, label):
            scores = super().attention_scores(support, label)
            scores[:, 1] *= 3
            return scores

    strips = strips_of(Uneven(), support, Halves(), heads=True)
    assert [(strip.image_id, strip.panels[0].label) for strip in strips] == [
        ("b", "left"), ("b", "right"), ("a", "left"), ("c", "right")
    ]  # fmt: skip
    for strip in strips:
        assert [panel.label for panel in strip.panels[1:]] == ["head 0", "head 1"]
        summed, first, second = (panel.scores.max() for panel in strip.panels)
        assert (summed, first, second) == (4.0, 1.0, 3.0)
        assert all(panel.outline.sum() == 512 for panel in strip.panels)


def test_cells_that_share_the_peak_count_in_parts(support):
    class Even(Pointing):
        def attention_scores(self, support, label):
            return torch.zeros_like(super().attention_scores(support, label))

    found, total, chance = hits(strips_of(Even(), support, Halves()))
    assert (found, total) == (pytest.approx(chance), 4)


def test_a_long_file_name_is_cut_to_its_number():
    pixels = np.zeros((20, 30, 3), np.uint8)
    panel = Panel("left", np.arange(16.0).reshape(4, 4), None)
    long, short = ([Strip(name, pixels, (panel,))] for name in (
        "train2014/COCO_train2014_000000442489", "x/000000442489"))  # fmt: skip
    assert draw(long, "title") == draw(short, "title")


def test_labels_limit_what_is_drawn(support):
    strips = strips_of(Pointing(), support, Halves(), ["right"])
    assert [strip.image_id for strip in strips] == ["b", "c"]
    assert all(panel.label == "right" for strip in strips for panel in strip.panels)
    with pytest.raises(BenchError, match="unknown label") as caught:
        strips_of(Pointing(), support, Halves(), ["rigth"])
    assert "right" in caught.value.remedy


def test_a_method_without_attention_is_an_error(support):
    with pytest.raises(BenchError, match="no attention to show"):
        strips_of(Blind(), support, Halves())


def test_heat_spans_zero_to_one_and_keeps_the_peak_in_place():
    scores = np.zeros((7, 7))
    scores[2, 5] = -3.0
    scores[4, 1] = 9.0
    heat = heat_of(scores, 112, 112)
    assert 0.0 <= heat.min() < 0.05
    assert 0.85 < heat.max() <= 1.0
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (row // 16, column // 16) == (4, 1)
    assert not heat_of(np.full((7, 7), 2.5), 20, 30).any()


def test_the_picture_is_a_png_and_the_same_each_time(support, tmp_path):
    strips = strips_of(Pointing(), support, Halves())
    data = draw(strips, "a title with $dollars$")
    assert data == draw(strips, "a title with $dollars$")
    (tmp_path / "picture.png").write_bytes(data)
    with PILImage.open(tmp_path / "picture.png") as picture:
        assert picture.size[0] > 600


def test_an_image_without_a_mask_is_drawn_without_an_outline():
    pixels = np.zeros((20, 30, 3), np.uint8)
    strip = Strip("x", pixels, (Panel("left", np.arange(16.0).reshape(4, 4), None),))
    assert draw([strip], "title").startswith(b"\x89PNG")
    assert hits([strip]) == (0, 0, 0.0)
