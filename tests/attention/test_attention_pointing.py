import dataclasses
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from mlfsic_bench.analysis.attention.maps import (
    MEASURED,
    at_the_top,
    centres,
    coverage,
    effective_cells,
    entropy_of,
    measure_pair,
    measure_pairs,
    middle,
    near,
    softmax,
)
from mlfsic_bench.analysis.attention.pointing import line, summarise
from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import Images, Method, Support

LABELS = ("left", "right", "nowhere")
TARGETS = {"a": (1, 0, 0), "b": (1, 1, 0), "c": (0, 1, 1)}
H, W = 30, 50  # not square, and no multiple of the cells


class Columns(Dataset):
    """30 x 50 images: `left` in columns 5 to 15, `right` in 30 to 45, `nowhere` unknown."""

    name = "columns"

    def annotations(self):
        present = np.array(list(TARGETS.values()), bool)
        return Annotations(LABELS, tuple(TARGETS), present, present)

    def available(self, image_ids):
        return np.ones(len(image_ids), bool)

    def image_bytes(self, image_id):
        return self.open_image(image_id).tobytes()

    def open_image(self, image_id):
        return PILImage.new("RGB", (W, H))

    def masks(self, image_id):
        masks = {}
        for label, columns in (("left", slice(5, 15)), ("right", slice(30, 45))):
            if TARGETS[image_id][LABELS.index(label)]:
                masks[label] = np.zeros((H, W), bool)
                masks[label][:, columns] = True
        return masks


class Known(Method):
    """Two heads of 5 x 8 cells whose scores `draw(label)` gives, [2, 5, 8]."""

    name = "known"

    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        self.asked = []

    def adapt(self, support):
        raise NotImplementedError

    def attention_scores(self, support, label):
        m = int((support.targets[:, label] > 0).sum())
        self.asked.append(support.labels[label])
        return torch.as_tensor(np.stack([self.draw(support.labels[label])] * m))


def support_of(*ids):
    return Support(
        Images(ids, None), torch.tensor([TARGETS[i] for i in ids], dtype=torch.float32),
        LABELS, None, 0,
    )  # fmt: skip


def columns_of(label):
    """Cells of 8 across whose centre is on the object of `label`."""
    return centres(Columns().masks("b")[label], 5, 8)


def measured(draw, *supports):
    pairs, _ = measure_pairs(Known(draw), supports or [support_of("a", "b", "c")], Columns())
    return line("all", pairs)


def test_attention_on_the_object_scores_one_on_every_figure():
    def draw(label):
        inside = coverage(Columns().masks("b")[label], 5, 8) > 0.999
        assert inside.any()
        return np.where(inside, 80.0, -80.0)[None].repeat(2, 0)

    found = measured(draw)
    assert (found.pairs, found.images) == (4, 3)
    assert found.pointing.mean == found.tolerant.mean == 1
    assert found.share.mean == pytest.approx(1)
    assert found.other.mean == 0
    assert found.pointing.above == pytest.approx(1 - found.pointing.chance)


def test_uniform_attention_gives_the_chance_figures():
    found = measured(lambda label: np.full((2, 5, 8), 3.25))
    for name in MEASURED:
        figure = getattr(found, name)
        assert figure.mean == pytest.approx(figure.chance)
        assert figure.above == pytest.approx(0)
        assert figure.above_half_width == pytest.approx(0, abs=1e-12)
    assert found.share.chance == pytest.approx((2 * 10 / 50 + 2 * 15 / 50) / 4)
    assert found.area == pytest.approx(found.share.chance)
    assert found.cells == pytest.approx(40)
    assert 0 < found.other.chance < 1


def test_attention_on_the_other_object_scores_zero():
    def draw(label):
        other = "right" if label == "left" else "left"
        return np.where(columns_of(other), 60.0, -60.0)[None].repeat(2, 0)

    pairs, _ = measure_pairs(Known(draw), [support_of("b")], Columns())
    found = line("all", pairs)
    assert found.pointing.mean == found.tolerant.mean == 0
    assert found.share.mean < 1e-9
    assert found.other.mean == 1


def test_heads_are_summed_before_the_softmax_for_pointing_and_after_it_for_the_share():
    """Head 0 is on the object; head 1, weaker, is beside it, and at one cell both are fair."""
    mask = np.zeros((5, 8), bool)
    mask[2, 3] = True
    scores = np.zeros((2, 5, 8))
    scores[0, 2, 3], scores[0, 4, 4] = 5.0, 4.0
    scores[1, 0, 0], scores[1, 4, 4] = 5.0, 4.0
    pair = measure_pair("a", "x", 1, scores, {"x": mask})
    assert pair.found[MEASURED.index("pointing")].tolist() == [0.0, 1.0, 0.0]
    mu = np.exp(scores) / np.exp(scores).sum((1, 2), keepdims=True)
    shares = pair.found[MEASURED.index("share")]
    assert shares[1:] == pytest.approx(mu[:, 2, 3])
    assert shares[0] == pytest.approx(mu[:, 2, 3].mean())
    assert pair.grid == (5, 8)
    assert pair.labels == 1


@pytest.mark.parametrize(
    ("height", "width", "h", "w"), [(30, 50, 7, 7), (17, 64, 9, 4), (5, 3, 7, 6)]
)
def test_the_share_equals_a_transcription_with_loops(height, width, h, w):
    rng = np.random.default_rng(height)
    mask = rng.random((height, width)) < 0.4
    scores = rng.normal(size=(3, h, w)) * 3
    expected = []
    for head in range(3):
        weights = [[math.exp(scores[head, i, j]) for j in range(w)] for i in range(h)]
        total = sum(map(sum, weights))
        share = 0.0
        for i in range(h):
            for j in range(w):
                top, bottom = i * height / h, (i + 1) * height / h
                left, right = j * width / w, (j + 1) * width / w
                area = 0.0
                for r in range(height):
                    for c in range(width):
                        if mask[r, c]:
                            down = max(0.0, min(bottom, r + 1) - max(top, r))
                            across = max(0.0, min(right, c + 1) - max(left, c))
                            area += down * across
                share += weights[i][j] / total * area / ((bottom - top) * (right - left))
        expected.append(share)
    pair = measure_pair("a", "x", 1, scores, {"x": mask})
    assert pair.found[MEASURED.index("share"), 1:] == pytest.approx(expected)
    assert pair.area == pytest.approx(mask.mean())
    assert pair.chance[MEASURED.index("share")] == pytest.approx(mask.mean())


def test_the_tolerance_equals_a_transcription_with_loops():
    rng = np.random.default_rng(4)
    mask = rng.random((40, 90)) < 0.004
    expected = np.zeros((6, 5), bool)
    for i in range(6):
        for j in range(5):
            for r, c in zip(*np.nonzero(mask), strict=True):
                y = ((r + 0.5) / 40 - (i + 0.5) / 6) * 224
                x = ((c + 0.5) / 90 - (j + 0.5) / 5) * 224
                expected[i, j] |= y * y + x * x <= 15 * 15
    expected |= centres(mask, 6, 5)
    assert 0 < expected.sum() < 30
    assert (near(mask, 6, 5) == expected).all()


def test_a_hit_is_a_hit_with_tolerance_too_even_on_tiny_images():
    mask = np.zeros((3, 3), bool)
    mask[0, 2] = True
    assert centres(mask, 2, 2)[0, 1]
    assert near(mask, 2, 2)[0, 1]


def test_cells_follow_the_image_on_coarse_grids_of_wide_images():
    mask = np.zeros((10, 40), bool)
    mask[0:5, 30:40] = True
    assert centres(mask, 2, 4).tolist() == [[False] * 3 + [True], [False] * 4]
    np.testing.assert_allclose(coverage(mask, 2, 4), [[0, 0, 0, 1], [0, 0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(coverage(mask, 1, 2), [[0, 0.25]], atol=1e-12)


def test_cells_that_share_the_peak_count_in_parts():
    scores = np.zeros((2, 2, 2))
    scores[0, 0] = 1.0
    values = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert at_the_top(scores, values).tolist() == [0.5, 0.75]
    assert at_the_top(middle(3, 3), np.arange(9.0).reshape(3, 3)) == 4
    assert at_the_top(middle(2, 3), np.arange(6.0).reshape(2, 3)) == 2.5


def test_softmax_and_spread_hold_for_large_scores():
    mu = softmax(np.array([[[1e4, 0.0]], [[5.0, 5.0]]]))
    assert mu[0].tolist() == [[1.0, 0.0]]
    assert effective_cells(mu) == pytest.approx([1.0, 2.0])


def test_a_pair_counts_once_however_many_episodes_draw_its_image():
    method = Known(lambda label: np.random.default_rng(len(label)).normal(size=(2, 5, 8)))
    supports = [support_of("a", "b"), support_of("b", "a"), support_of("a", "c")]
    pairs, unknown = measure_pairs(method, supports, Columns())
    assert [(p.image_id, p.label) for p in pairs] == [
        ("a", "left"), ("b", "left"), ("b", "right"), ("c", "right")
    ]  # fmt: skip
    assert unknown == 1  # `nowhere` on c
    assert method.asked == ["left", "right", "right"]  # nothing is asked for a second time
    assert [p.labels for p in pairs] == [1, 2, 2, 2]


def test_an_image_takes_its_own_map_among_the_carriers():
    """The map of the k-th carrier belongs to the k-th support image that has the label."""

    class Numbered(Known):
        def attention_scores(self, support, label):
            scores = super().attention_scores(support, label)
            on = torch.as_tensor(columns_of(support.labels[label]))
            scores[-1] = torch.where(on, 9.0, 0.0)  # only the last carrier looks at its object
            return scores

    off = np.zeros((2, 5, 8))
    off[:, 0, 0] = 5.0
    method = Numbered(lambda label: off)
    supports = [support_of("a", "c"), support_of("a", "b")]
    pairs, _ = measure_pairs(method, supports, Columns())
    hit = {(p.image_id, p.label): p.found[0, 0] for p in pairs}
    assert hit == {("a", "left"): 1, ("c", "right"): 1, ("b", "left"): 1, ("b", "right"): 1}
    pairs, _ = measure_pairs(method, [support_of("b", "a", "c")], Columns())
    hit = {(p.image_id, p.label): p.found[0, 0] for p in pairs}
    assert hit == {("b", "left"): 0, ("a", "left"): 1, ("b", "right"): 0, ("c", "right"): 1}


def run_of(labels=LABELS):
    return SimpleNamespace(
        folder=Path("runs/x"),
        record=SimpleNamespace(
            method=SimpleNamespace(name="known", seed=3),
            split=SimpleNamespace(id="s"),
            subset=None,
        ),
        inputs=SimpleNamespace(
            features=SimpleNamespace(backbone="b"),
            split=SimpleNamespace(novel=SimpleNamespace(labels=labels)),
        ),
    )


def test_groups_by_label_size_and_number_of_labels():
    rng = np.random.default_rng(0)
    areas = {"a": 1, "b": 2, "c": 8, "d": 24}  # rows of 100
    pairs = []
    for count, (image, rows) in enumerate(areas.items(), 1):
        mask = np.zeros((100, 10), bool)
        mask[:rows] = True
        for label in ("left", "right")[: min(count, 2)]:
            pairs.append(
                measure_pair(image, label, count, rng.normal(size=(3, 4, 4)), {label: mask})
            )
    result = summarise(pairs, 5, run_of(), 7)
    assert [(g.name, g.pairs) for g in result.by_label] == [("left", 4), ("right", 3)]
    assert [(g.name, g.pairs) for g in result.by_size] == [
        ("1 to 5 %", 3), ("5 to 20 %", 2), ("20 % and more", 2)
    ]  # fmt: skip
    assert [(g.name, g.pairs) for g in result.by_labels_in_image] == [
        ("1 label", 1), ("2 labels", 2), ("3 labels or more", 4)
    ]  # fmt: skip
    assert result.difficult.pairs == 6
    assert [g.name for g in result.heads] == ["head 0", "head 1", "head 2"]
    for k, head in enumerate(result.heads, 1):
        assert head.share.mean == pytest.approx(np.mean([p.found[-1, k] for p in pairs]))
    assert (result.pairs, result.images, result.unknown, result.episodes) == (7, 4, 5, 7)


def test_one_image_has_no_interval_and_no_nan_in_json():
    pair = measure_pair("a", "left", 1, np.zeros((1, 2, 2)), {"left": np.ones((4, 4), bool)})
    result = summarise([pair], 0, run_of(), 1)
    assert math.isnan(result.summed.pointing.half_width)
    value = result.as_dict()
    assert value["summed"]["pointing"]["half_width"] is None
    assert value["difficult"] is None
    assert value["grid"] == [2, 2]
    assert set(value) == {field.name for field in dataclasses.fields(result)}


@pytest.mark.parametrize(
    ("draw", "found"),
    [
        (lambda label: np.full((2, 5, 8), np.nan), "not finite"),
        (lambda label: np.full((2, 5, 8), -np.inf), "not finite"),
        (lambda label: np.zeros((5, 8)), r"\[2, 5, 8\]"),
        (lambda label: np.zeros((2, 0, 8)), r"\[2, 2, 0, 8\]"),
    ],
)
def test_scores_that_can_not_be_measured_are_an_error(draw, found):
    with pytest.raises(BenchError, match="can't be measured") as caught:
        measure_pairs(Known(draw), [support_of("a", "b")], Columns())
    assert re.search(found, caught.value.found)


def test_a_method_whose_heads_change_is_an_error():
    def draw(label):
        return np.zeros((2 if label == "left" else 3, 5, 8))

    pairs, _ = measure_pairs(Known(draw), [support_of("b")], Columns())
    with pytest.raises(BenchError, match="number of heads"):
        summarise(pairs, 0, run_of(), 1)


def test_a_method_that_fails_or_has_no_attention_is_named():
    class Broken(Known):
        def attention_scores(self, support, label):
            raise RuntimeError("oh")

    with pytest.raises(BenchError, match="'known' failed"):
        measure_pairs(Broken(None), [support_of("a")], Columns())

    class Blind(Method):
        name = "blind"

        def adapt(self, support):
            raise NotImplementedError

    with pytest.raises(BenchError, match="no attention"):
        measure_pairs(Blind(), [support_of("a")], Columns())


class Weighted(Method):
    """Scores drawn for each label; weights over all places of its images, as the paper's model."""

    name = "weighted"

    def adapt(self, support):
        raise NotImplementedError

    def attention_scores(self, support, label):
        m = int((support.targets[:, label] > 0).sum())
        return 3 * torch.randn(m, 2, 3, 4, generator=torch.Generator().manual_seed(label))


class PerImage(Weighted):
    def attention_weights(self, support, label):
        return self.attention_scores(support, label).flatten(2).softmax(2).unflatten(2, (3, 4))


@pytest.mark.parametrize("kind", [Weighted, PerImage])
def test_entropy_is_that_of_loops_over_places(kind):
    targets = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0]])
    support = Support(Images(("a", "b", "c"), None), targets, LABELS, None, 0)
    method, shares = kind(), {}
    for label in range(2):  # no image carries the third
        scores = method.attention_scores(support, label).double()
        each = []
        for head in range(2):
            images = [image[head].flatten().tolist() for image in scores]
            exps = [[math.exp(score) for score in image] for image in images]
            if kind is PerImage:
                weights = [e / sum(image) / len(exps) for image in exps for e in image]
            else:
                total = sum(sum(image) for image in exps)
                weights = [e / total for image in exps for e in image]
            entropy = -sum(weight * math.log(weight) for weight in weights)
            each.append(entropy / math.log(len(weights)))
        shares[LABELS[label]] = sum(each) / 2
    found = entropy_of(method, [support, support])
    assert found.share == pytest.approx(sum(shares.values()) / 2, rel=1e-5)
    assert dict([found.lowest, found.highest]) == pytest.approx(shares, rel=1e-5)
    assert (found.episodes, found.maps) == (2, 4)


def test_entropy_of_equal_weights_is_all_of_log_places():
    class Even(Weighted):
        def attention_scores(self, support, label):
            return torch.zeros_like(super().attention_scores(support, label))

    targets = torch.tensor([[1.0, 1, 0]])
    support = Support(Images(("a",), None), targets, LABELS, None, 0)
    assert entropy_of(Even(), [support]).share == pytest.approx(1.0)
    with pytest.raises(BenchError, match="no attention"):
        entropy_of(SimpleNamespace(name="none"), [support])
