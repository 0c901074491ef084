import json
import random
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mlfsic_bench.data import coco as coco_module
from mlfsic_bench.data.coco import Coco
from mlfsic_bench.data.masks import polygon_mask, run_length_mask
from mlfsic_bench.errors import BenchError
from tests.fakes.coco import ID_OF, TRAIN, image_id, write_coco, write_outlines

# pycocotools' own decode, which the package does not call.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SQUARE = [2, 3, 10, 3, 10, 9, 2, 9]


def square(height=12, width=16, rows=(3, 9), columns=(2, 10)):
    mask = np.zeros((height, width), bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def masks_of(root, annotations, **options):
    image = write_outlines(root, annotations, **options)
    return Coco(root).masks(image)


def test_a_polygon_is_what_pycocotools_draws(tmp_path):
    ring = [1.5, 2.25, 13.0, 4.5, 8.75, 11.0]
    mask = masks_of(tmp_path, [{"segmentation": [ring], "bbox": [0, 0, 16, 12]}])["car"]
    expected = coco_mask.decode(coco_mask.frPyObjects([ring], 12, 16))[..., 0].astype(bool)
    assert mask.shape == (12, 16)
    assert (mask == expected).all()
    assert 0 < mask.sum() < 12 * 16


def test_all_objects_of_a_label_are_one_mask(tmp_path):
    annotations = [
        {"segmentation": [SQUARE]},
        {"bbox": [12, 0, 3, 2]},
        {"segmentation": [[0, 0, 4, 0, 4, 2, 0, 2]], "category_id": ID_OF["truck"]},
    ]
    masks = masks_of(tmp_path, annotations)
    assert set(masks) == {"car", "truck"}
    assert (masks["car"] == (square() | square(rows=(0, 2), columns=(12, 15)))).all()
    assert (masks["truck"] == square(rows=(0, 2), columns=(0, 4))).all()


def test_several_rings_and_a_ring_inside_another_are_united(tmp_path):
    rings = [SQUARE, [3, 4, 5, 4, 5, 6, 3, 6], [12, 0, 15, 0, 15, 2, 12, 2]]
    mask = masks_of(tmp_path, [{"segmentation": rings}])["car"]
    assert (mask == (square() | square(rows=(0, 2), columns=(12, 15)))).all()


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_plain_and_compressed(tmp_path, compressed):
    expected = np.random.default_rng(0).random((12, 16)) < 0.3
    runs = coco_mask.encode(np.asfortranarray(expected.astype(np.uint8)))
    if compressed:
        value = {"size": [12, 16], "counts": runs["counts"].decode()}
    else:
        flat = np.concatenate([[0], expected.T.ravel().astype(int), [-1]])
        edges = np.flatnonzero(np.diff(flat)) + 1
        starts = np.concatenate([[0], edges[: len(edges)]])
        value = {"size": [12, 16], "counts": np.diff(starts).tolist()}
        value["counts"][0] -= 1
    mask = masks_of(tmp_path, [{"segmentation": value}])["car"]
    assert (mask == expected).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6), st.floats(0, 1))
def test_the_compressed_string_is_read_as_pycocotools_reads_it(height, width, seed, density):
    noise = np.random.default_rng(seed).random((height, width))
    image = np.asfortranarray((noise < density).astype(np.uint8))
    runs = coco_mask.encode(image)
    value = {"size": [height, width], "counts": runs["counts"].decode()}
    assert (run_length_mask(value, (height, width), height, width) == image).all()


@pytest.mark.parametrize(
    "annotation",
    [
        {"bbox": [2, 3, 8, 6]},
        {"segmentation": [SQUARE]},
        {
            "segmentation": {
                "size": [12, 16],
                "counts": [27, 6, *([6, 6] * 7), 192 - 33 - 84],
            }
        },
    ],
)
def test_outlines_are_stretched_to_the_image_on_disk(tmp_path, annotation):
    """Official coordinates are of 16 x 12; on disk lies an image squashed to 32 x 32."""
    mask = masks_of(tmp_path, [annotation], picture=(32, 32))["car"]
    assert (mask == square(32, 32, rows=(8, 24), columns=(4, 20))).all()


def test_without_a_size_coordinates_are_those_of_the_file(tmp_path):
    mask = masks_of(tmp_path, [{"bbox": [2, 3, 8, 6]}], size=None, picture=(20, 30))["car"]
    assert (mask == square(30, 20)).all()


def test_boxes_are_clipped_and_cover_every_pixel_they_touch(tmp_path):
    mask = masks_of(tmp_path, [{"bbox": [-5.0, 8.5, 9.25, 1e308]}])["car"]
    assert (mask == square(rows=(8, 12), columns=(0, 5))).all()


@pytest.mark.parametrize(
    "entry",
    [
        {"bbox": [100, 100, 5, 5]},  # outside
        {"bbox": [3, 3, -2, 4]},  # negative: not a target either
        {"bbox": [3, 3, 0, 4], "segmentation": [SQUARE]},
        {},  # labels only
        {"segmentation": None},
        {"segmentation": []},
        {"segmentation": [[1, 2, 3, 4]]},  # two points enclose nothing, and there is no box
        {"iscrowd": 1, "segmentation": {"size": [12, 16], "counts": [0, 192]}},
    ],
)
def test_a_label_without_a_known_object_is_absent(tmp_path, entry):
    assert masks_of(tmp_path, [entry]) == {}


def test_a8_an_outline_serves_beside_an_empty_list_for_a_box(tmp_path):
    assert (masks_of(tmp_path, [{"segmentation": [SQUARE], "bbox": []}])["car"] == square()).all()


def test_a6_a_double_key_or_nan_in_run_lengths_is_refused_by_annotation_id(tmp_path):
    image = write_outlines(tmp_path, [{"id": 4711, "segmentation": {"counts": [192]}}])
    path = tmp_path / "coco" / "annotations" / "instances_train2014.json"
    whole = path.read_text()
    for counts in ('"counts": [192], "size": [12, 16], "size": [12, 16]', '"counts": [NaN]'):
        path.write_text(whole.replace('"counts": [192]', counts))
        with pytest.raises(BenchError, match=r"broken outline of 'car'.*annotation 4711"):
            Coco(tmp_path).masks(image)


def test_a_box_stands_in_for_a_polygon_that_encloses_nothing(tmp_path):
    mask = masks_of(tmp_path, [{"segmentation": [[1, 2, 3, 4]], "bbox": [2, 3, 8, 6]}])["car"]
    assert (mask == square()).all()


def test_a_crowd_belongs_to_a_label_that_is_present(tmp_path):
    crowd = {"iscrowd": 1, "segmentation": {"size": [12, 16], "counts": [0, 12, 180]}}
    mask = masks_of(tmp_path, [{"segmentation": [SQUARE]}, crowd])["car"]
    assert (mask == (square() | square(rows=(0, 12), columns=(0, 1)))).all()


def test_one_object_without_outline_leaves_its_label_unknown(tmp_path):
    assert masks_of(tmp_path, [{"segmentation": [SQUARE]}, {}]) == {}


def test_points_outside_are_moved_to_the_border(tmp_path):
    ring = [-1e300, -50, 1e300, -50, 1e300, 5, -1e300, 5]
    mask = masks_of(tmp_path, [{"segmentation": [ring]}])["car"]
    assert (mask == square(rows=(0, 5), columns=(0, 16))).all()


@pytest.mark.parametrize(
    "outline",
    [
        [[1, 2, 3, 4, 5]],
        [1, 2, 3, 4, 5, 6],
        [[[1, 2], [3, 4], [5, 6]]],
        [[1, 2, 3, [4]], [1]],
        {"size": [12, 16], "counts": [5, 5]},
        {"size": [16, 12], "counts": [0, 192]},
        {"size": [12, 16], "counts": [-1, 193]},
        {"size": [12, 16], "counts": [0, 192.0]},
        {"size": [12, 16], "counts": "zz"},
        {"size": [12, 16], "counts": "PPPPPPPPPPPPPPPPPPP"},
        {"size": [12, 16], "counts": "P"},
        {"size": [12], "counts": [192]},
        {"size": [12, 16]},
        {"counts": [192]},
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": ["12", 16], "counts": [192]},
    ],
)
def test_a_broken_outline_is_one_error(tmp_path, outline):
    with pytest.raises(BenchError, match=r"broken outline of 'car'") as caught:
        masks_of(tmp_path, [{"segmentation": outline, "bbox": [1, 1, 2, 2]}])
    assert "instances_train2014.json" in caught.value.what


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "1" + "0" * 400, "1.2.3", "-", "1 2", "[" * 5000]
)
def test_numbers_that_json_or_floats_refuse(tmp_path, number):
    image = write_outlines(tmp_path, [{"segmentation": [[7777, 2, 3, 4, 5, 6]]}])
    path = tmp_path / "coco" / "annotations" / "instances_train2014.json"
    path.write_text(path.read_text().replace("7777", number))
    with pytest.raises(BenchError, match="broken outline"):
        Coco(tmp_path).masks(image)


@pytest.mark.parametrize(
    "entry",
    [
        {"segmentation": "polygon"},
        {"segmentation": [None]},
        {"segmentation": {"a": {}}},
        {"segmentation": [[True, 1, 2, 3, 4, 5]]},
        {"bbox": [1, 2, 3]},
        {"bbox": "1234"},
        {"bbox": [1, 2, None, 4]},
        {"category_id": 12},
        {"category_id": "car"},
        {"category_id": 3.5},
        {"image_id": 10},
        {"image_id": [9]},
    ],
)
def test_an_annotation_of_another_form_is_an_error_of_the_file(tmp_path, entry):
    with pytest.raises(BenchError, match="is not the annotation file"):
        masks_of(tmp_path, [entry])


@pytest.mark.parametrize("size", [(0, 16), (-3, 16), (12.0, 16), ("12", 16), (10**9, 16)])
def test_an_impossible_size_is_an_error_of_the_file(tmp_path, size):
    with pytest.raises(BenchError, match="is not the annotation file"):
        masks_of(tmp_path, [], size=size)


def test_hostile_ids_and_foreign_images_are_refused(tmp_path):
    image = write_outlines(tmp_path, [])
    for hostile in ("../../etc/passwd", "train2014/../x", "VOC2007/000001"):
        with pytest.raises(BenchError, match="not the id of a COCO"):
            Coco(tmp_path).masks(hostile)
    source = tmp_path / "coco" / f"{image}.jpg"
    (source.parent / "COCO_train2014_000000000010.jpg").write_bytes(source.read_bytes())
    with pytest.raises(BenchError, match="does not list the image"):
        Coco(tmp_path).masks("train2014/COCO_train2014_000000000010")


def test_a_file_that_changed_is_noticed(tmp_path):
    image = write_outlines(tmp_path, [{"segmentation": [SQUARE]}])
    dataset = Coco(tmp_path)
    assert dataset.masks(image)
    path = tmp_path / "coco" / "annotations" / "instances_train2014.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(BenchError, match="is not the annotation file") as caught:
        dataset.masks(image)
    assert "changed" in caught.value.found


def test_each_file_is_read_once_and_only_when_needed(tmp_path, monkeypatch):
    read = []

    class Spy(coco_module.Instances):
        @staticmethod
        def read(path, layout):
            read.append(path.name)
            return super(Spy, Spy).read(path, layout)

    monkeypatch.setattr(coco_module, "Instances", Spy)
    dataset = Coco(write_coco(tmp_path))
    assert dataset.annotations().image_ids
    read.clear()
    for number in TRAIN:
        dataset.masks(image_id("train", number))
    assert read == ["instances_train2014.json"]
    dataset.masks(image_id("val", 136))
    assert read == ["instances_train2014.json", "instances_val2014.json"]


def test_masks_of_the_whole_fake(tmp_path):
    dataset = Coco(write_coco(tmp_path))
    for number, shown in TRAIN.items():
        masks = dataset.masks(image_id("train", number))
        assert set(masks) == {label for label, kind in shown if kind == "box"}
        for label, mask in masks.items():
            expected = square(rows=(2, 10), columns=(1, 12))
            if (label, "crowd") in shown:
                expected[3:7, 0] = True
            assert (mask == expected).all()


def test_outlines_are_not_kept_in_memory(tmp_path):
    """600,000 official polygons as Python floats would take gigabytes."""
    draw = random.Random(0)
    ring = [draw.uniform(0, 12) for _ in range(20_000)]
    image = write_outlines(tmp_path, [{"segmentation": [ring]}] * 20)
    dataset = Coco(tmp_path)
    assert dataset.masks(image)["car"].any()
    objects = dataset._objects["train2014"]
    kept = sum(
        sys.getsizeof(json.dumps(v, default=lambda a: a.tolist()))
        for v in vars(objects.rows).values()
    )
    assert kept < 20_000


def test_polygons_that_are_no_list():
    with pytest.raises(ValueError, match="not a list"):
        polygon_mask("x", (1.0, 1.0), 4, 4)
