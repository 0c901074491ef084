import numpy as np
import pytest

from mlfsic_bench.data.voc import Voc, read_annotation
from mlfsic_bench.errors import BenchError
from tests.fakes.jpeg import jpeg
from tests.fakes.voc import write_voc

IMAGE = "VOC2007/000005"


def an_object(label, box, difficult=0, extra=""):
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in box.items())
    return (
        f"<object><name>{label}</name><difficult>{difficult}</difficult>{extra}"
        f"<bndbox>{sides}</bndbox></object>"
    )


def box(xmin, ymin, xmax, ymax):
    return {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}


def masks_of(root, body, picture=(16, 12)):
    write_voc(root)
    folder = root / "VOCdevkit" / "VOC2007"
    (folder / "Annotations" / "000005.xml").write_text(
        f"<annotation>{body}</annotation>", encoding="utf-8"
    )
    (folder / "JPEGImages" / "000005.jpg").write_bytes(jpeg(1, picture))
    return Voc(root).masks(IMAGE)


def filled(height, width, rows, columns):
    mask = np.zeros((height, width), bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def test_boxes_count_from_one_with_both_ends(tmp_path):
    masks = masks_of(
        tmp_path, an_object("cat", box(1, 2, 3, 4)) + an_object("dog", box(16, 12, 16, 12))
    )
    assert (masks["cat"] == filled(12, 16, (1, 4), (0, 3))).all()
    assert (masks["dog"] == filled(12, 16, (11, 12), (15, 16))).all()


def test_boxes_are_stretched_from_the_size_in_the_file(tmp_path):
    size = "<size><width>32</width><height>24</height><depth>3</depth></size>"
    masks = masks_of(tmp_path, size + an_object("cat", box(3, 5, 6, 8)))
    assert (masks["cat"] == filled(12, 16, (2, 4), (1, 3))).all()
    unknown = size.replace("32", "0").replace("24", "0")
    (tmp_path / "b").mkdir()
    masks = masks_of(tmp_path / "b", unknown + an_object("cat", box(3, 5, 6, 8)))
    assert (masks["cat"] == filled(12, 16, (4, 8), (2, 6))).all()


def test_difficult_objects_belong_to_a_present_label_only(tmp_path):
    masks = masks_of(
        tmp_path,
        an_object("cat", box(1, 1, 2, 2))
        + an_object("cat", box(5, 5, 6, 6), difficult=1)
        + an_object("dog", box(5, 5, 6, 6), difficult=1),
    )
    assert set(masks) == {"cat"}
    both = filled(12, 16, (0, 2), (0, 2)) | filled(12, 16, (4, 6), (4, 6))
    assert (masks["cat"] == both).all()


def test_boxes_of_parts_are_not_the_object(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin></bndbox></part>"
    masks = masks_of(tmp_path, an_object("person", box(1, 1, 2, 2), extra=part))
    assert (masks["person"] == filled(12, 16, (0, 2), (0, 2))).all()


def test_a_label_without_a_box_is_absent(tmp_path):
    masks = masks_of(tmp_path, an_object("cat", {}) + an_object("dog", box(1, 1, 2, 2)))
    assert set(masks) == {"dog"}
    write_voc(tmp_path / "lists", xmls=False)
    assert Voc(tmp_path / "lists").masks(IMAGE) == {}


@pytest.mark.parametrize(
    "broken",
    [
        {"xmin": 1},
        box(1, 2, "x", 4),
        box(1, 2, "nan", 4),
        box(1, 2, "1e999", 4),
        box(1, 2, "1_0", 4),
        box(1, 2, "\uff13", 4),  # a digit of another script
        box(1, 2, "0x3", 4),
        box(1, 2, "", 4),
    ],
)
def test_a_broken_box_is_one_error(tmp_path, broken):
    with pytest.raises(BenchError, match="broken box") as caught:
        masks_of(tmp_path, an_object("cat", broken))
    assert "000005.xml" in caught.value.what


@pytest.mark.parametrize("size", ["<width>x</width><height>3</height>", "<width>3</width>",
                                  "<width>3</width><height>-3</height>",
                                  "<width>1_0</width><height>3</height>",
                                  "<width/><height/>"])  # fmt: skip
def test_a_broken_size_is_one_error(tmp_path, size):
    with pytest.raises(BenchError, match="broken box"):
        masks_of(tmp_path, f"<size>{size}</size>" + an_object("cat", box(1, 1, 2, 2)))


def test_outside_and_inverted_boxes_are_nowhere(tmp_path):
    body = an_object("cat", box(90, 90, 99, 99)) + an_object("dog", box(8, 8, 2, 2))
    body += an_object("cow", box(-50, -50, 3, 2))
    masks = masks_of(tmp_path, body)
    assert set(masks) == {"cow"}
    assert (masks["cow"] == filled(12, 16, (0, 2), (0, 3))).all()


def test_the_objects_are_read_as_before(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>{an_object('cat', box(1, 1, 2, 2), 1)}</annotation>")
    assert read_annotation(path).objects == [("cat", True)]
