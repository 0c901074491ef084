import numpy as np
import pytest

from mlfsic_bench.data.registry import open_dataset
from mlfsic_bench.data.voc import Voc
from mlfsic_bench.errors import BenchError
from tests.fakes.voc import CONTENTS, write_voc


def test_lists_and_xml_agree_with_the_objects(tmp_path):
    lists = Voc(write_voc(tmp_path / "lists", xmls=False)).annotations()
    xmls = Voc(write_voc(tmp_path / "xmls", lists=False)).annotations()
    assert lists.image_ids == xmls.image_ids == tuple(sorted(lists.image_ids))
    assert np.array_equal(lists.present, xmls.present)
    assert np.array_equal(lists.shown, xmls.shown)
    for (year, _), images in CONTENTS.items():
        for name, objects in images.items():
            row = lists.image_ids.index(f"{year}/{name}")
            names = np.array(lists.labels)
            assert set(names[lists.shown[row]]) == {label for label, _ in objects}
            assert set(names[lists.present[row]]) == {label for label, hard in objects if not hard}


def test_train_is_a_label_not_a_set(tmp_path):
    a = Voc(write_voc(tmp_path)).annotations()
    column = a.labels.index("train")
    images = {a.image_ids[row] for row in np.flatnonzero(a.present[:, column])}
    assert images == {"VOC2007/000012", "VOC2007/000002"}


def test_root_may_be_the_devkit_itself(tmp_path):
    write_voc(tmp_path)
    assert Voc(tmp_path / "VOCdevkit").annotations().image_ids[0] == "VOC2007/000001"


def test_available_and_bytes(tmp_path):
    dataset = open_dataset("voc", write_voc(tmp_path, without=["000007"]))
    ids = ("VOC2007/000005", "VOC2007/000007")
    assert dataset.available(ids).tolist() == [True, False]
    assert dataset.open_image(ids[0]).mode == "RGB"
    with pytest.raises(BenchError, match="VOC2007/000007 cannot be read"):
        dataset.image_bytes(ids[1])
    with pytest.raises(BenchError, match="not the id of a VOC image"):
        dataset.image_bytes("VOC2007/../../x")


def test_a_missing_year_says_where_it_looked(tmp_path):
    with pytest.raises(BenchError, match="no complete VOC") as caught:
        open_dataset("voc", tmp_path)
    assert str(tmp_path / "VOCdevkit") in caught.value.found
    (tmp_path / "VOCdevkit/VOC2007").mkdir(parents=True)
    with pytest.raises(BenchError) as caught:
        open_dataset("voc", tmp_path)
    assert caught.value.found == f"no VOC2012 in {tmp_path / 'VOCdevkit'}"


def test_half_a_data_set_is_an_error(tmp_path):
    write_voc(tmp_path, xmls=False)
    (tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/train_test.txt").unlink()
    with pytest.raises(BenchError, match="half a data set") as caught:
        open_dataset("voc", tmp_path).annotations()
    assert "train_test.txt" in caught.value.found
    assert "Annotations" in caught.value.found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "000005 2\n",
        "000005\n",
        "../x 1\n",
        "000005 1\n000005 1\n",
        "000005 1\n",
        "\xff\n",
        "000005 +1\n",
        "000005 1.0\n",
        "000005 true\n",
        "000005 01\n",
        "000005 \u00b9\n",
    ],
)
def test_bad_class_lists_are_one_error(tmp_path, text):
    write_voc(tmp_path)
    path = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/dog_trainval.txt"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BenchError, match=r"dog_trainval\.txt"):
        open_dataset("voc", tmp_path).annotations()


def test_one_image_in_two_sets_is_an_error(tmp_path):
    double = {**CONTENTS, ("VOC2007", "test"): {"000005": [("dog", False)]}}
    with pytest.raises(BenchError, match="two sets"):
        Voc(write_voc(tmp_path, double)).annotations()


BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""


def an_object(fields):
    return f"<annotation><object><name>dog</name>{fields}</object></annotation>"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BOMB, "document type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation/>', "document type"),
        ("<annotation><object>", "ExpatError"),
        ("<annotation><object><difficult>0</difficult></object></annotation>", "name ''"),
        ("<annotation><object><name>dog</name><difficult>x</difficult></object></annotation>", "x"),
        (an_object("<difficult/>"), "difficult ''"),
        (an_object("<difficult>true</difficult>"), "difficult 'true'"),
        (an_object("<difficult>0</difficult><difficult>1</difficult>"), "object/difficult twice"),
        (an_object("<name>dog</name>"), "object/name twice"),
        (an_object("<bndbox/><bndbox/>"), "object/bndbox twice"),
        (an_object("<bndbox><xmin>1</xmin><xmin>2</xmin></bndbox>"), "bndbox/xmin twice"),
        (
            "<annotation><size><width>1</width></size><size><width>2</width></size></annotation>",
            "size/width twice",
        ),
        ("<html/>", "html"),
        ("<annotation>" + "<a>" * 100 + "</a>" * 100 + "</annotation>", "element"),
        ("<annotation><object><name>dgo</name></object></annotation>", "'dgo'"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "unknown encoding"),
    ],
)
def test_hostile_xml_is_one_error(tmp_path, text, found):
    write_voc(tmp_path, lists=False)
    (tmp_path / "VOCdevkit/VOC2012/Annotations/2008_000003.xml").write_text(text)
    with pytest.raises(BenchError, match=r"2008_000003\.xml") as caught:
        open_dataset("voc", tmp_path).annotations()
    assert found in caught.value.found
