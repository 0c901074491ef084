import json

import pytest

from mlfsic_bench.data.registry import open_dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.splits.build import build_file, limit_file
from mlfsic_bench.splits.files import content_hash, parse_split, read_split, render, write_split
from mlfsic_bench.splits.resolve import resolve_split, shipped_file, split_file
from mlfsic_bench.splits.verify import verify_split
from tests.fakes.coco import image_id, write_coco
from tests.fakes.voc import write_voc


@pytest.fixture
def voc(tmp_path):
    return open_dataset("voc", write_voc(tmp_path / "data", without=["2008_000007"]))


@pytest.fixture
def built(voc):
    """The fake VOC's split under an id of its own."""
    definition = shipped_file("voc-8-6-6-v1").definition()
    return build_file(definition.model_copy(update={"id": "fake-8-6-6-v1"}), voc)


def test_what_the_rule_makes_of_the_fake_voc(built):
    base, val, novel = (dict(built.images.of(p)) for p in ("base", "val", "novel"))
    # chair; car; not horse+person (difficult bird excludes), not person+train
    assert base == {"VOC2007/000005": [3], "VOC2007/000007": [2]}
    # 2008_000007 has a boat but shows a difficult cat; 2008_000003's car may show
    assert val == {"VOC2007/000012": [2], "VOC2007/000002": [2], "VOC2012/2008_000003": [1]}
    # 000003 has only a difficult sofa, so no label
    assert novel == {"VOC2007/000001": [0], "VOC2012/2008_000002": [4]}


def test_the_same_annotations_give_the_same_bytes(built, tmp_path):
    for name in ("again", "xml-only"):
        root = write_voc(tmp_path / name, lists=name == "again")
        again = build_file(built.definition(), open_dataset("voc", root))
        assert render(again) == render(built)


def test_one_image_per_line_and_round_trip(built, tmp_path):
    path = tmp_path / "split.json"
    write_split(built, path)
    assert '["VOC2007/000005",[3]],\n' in path.read_text()
    assert split_file(str(path)) == built
    assert read_split(path).hash == built.hash
    assert resolve_split(str(path), data_root=None).base.image_ids == (
        "VOC2007/000005",
        "VOC2007/000007",
    )


def test_coco_definitions_on_the_fake_coco(tmp_path):
    root = write_coco(tmp_path, without=[9])
    split = resolve_split("coco-52-12-16-open-v1", data_root=root)
    # 25 shows a person in a crowd, 30 a bird without area: neither is a base image
    assert split.base.image_ids == (
        image_id("train", 9),
        image_id("val", 74),
        image_id("val", 136),
    )
    # 133 shows nothing but a crowd
    assert split.novel.image_ids == (image_id("train", 61), image_id("val", 73))
    strict = resolve_split("coco-52-12-16-v1", data_root=root)
    assert strict.novel.image_ids == (image_id("train", 61),)
    part = resolve_split("coco-52-12-16-open-v1", data_root=root, available_only=True)
    assert part.base.image_ids == split.base.image_ids[1:]
    assert part.subset["available_only"] is True
    assert part.subset["images_missing"] == {"base": 1, "val": 0, "novel": 0}
    assert part.hash != split.hash


def test_min_pool_is_part_of_the_identity(built):
    small = limit_file(built, None, 1)
    assert small.hash != built.hash
    assert small.subset.labels_left.novel == {"sofa": 0, "cat": 0, "pottedplant": 0, "sheep": 0}
    assert small.kept_labels("novel") == ("dog", "tvmonitor")
    with pytest.raises(BenchError, match="subset already"):
        limit_file(small, None, 2)
    with pytest.raises(BenchError, match="has no image"):
        limit_file(built, None, 3)


def test_limiting_a_complete_file_equals_building_limited(built, voc):
    assert limit_file(built, voc, 1) == build_file(
        built.definition(), voc, available_only=True, min_pool=1
    )


def test_a_stranger_under_a_shipped_id_is_refused(voc, tmp_path):
    path = tmp_path / "voc-8-6-6-v1.json"
    write_split(build_file(shipped_file("voc-8-6-6-v1").definition(), voc), path)
    with pytest.raises(BenchError, match="is not that split"):
        resolve_split(str(path), data_root=None)


def value_of(content):
    return json.loads(render(content))


def rehash(value):
    value["hash"] = content_hash(parse_split(value, "test"))


def swap_first_two(value):
    images = value["images"]["base"]
    images[0], images[1] = images[1], images[0]


HOSTILE = {
    "unsorted": (swap_first_two, "sorted order"),
    "twice": (lambda v: v["images"]["base"].append(v["images"]["base"][-1]), "sorted order"),
    "two parts": (lambda v: v["images"]["val"].insert(0, ["VOC2007/000005", [1]]), "in base and"),
    "range": (lambda v: v["images"]["base"][0].__setitem__(1, [99]), "distinct"),
    "no target": (lambda v: v["images"]["base"][0].__setitem__(1, []), "distinct"),
    "target twice": (lambda v: v["images"]["base"][0].__setitem__(1, [3, 3]), "distinct"),
    "counts": (lambda v: v["counts"]["base"].update(images=7), "counts"),
    "no counts": (lambda v: v.update(counts=None), "must have counts"),
    "dots": (lambda v: v["images"]["base"][0].__setitem__(0, "A/../../x"), "plain image id"),
    "version": (lambda v: v.update(version=2), "its version"),
    "excluded": (lambda v: v["rule"]["excluded_by"].update(novel=["base"]), "excluded_by.novel"),
    "label twice": (lambda v: v["labels"]["val"].append("dog"), "'dog' stands in the lists twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_unsound_content_is_refused_even_with_a_right_hash(name, built, tmp_path):
    change, found = HOSTILE[name]
    value = value_of(built)
    change(value)
    rehash(value)
    path = tmp_path / "split.json"
    path.write_text(json.dumps(value))
    with pytest.raises(BenchError, match="not a sound split file") as caught:
        read_split(path)
    assert found in caught.value.found
    assert verify_split(str(path), None).differences


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        (lambda v: v.update(datset="voc"), "unknown key 'datset'", "'dataset'"),
        (lambda v: v["rule"].update(difficult_exclude=1), "unknown key 'rule.diff", "_excludes'"),
        (lambda v: v["labels"].update(nobel=[]), "unknown key 'labels.nobel'", "'novel'"),
        (lambda v: v["counts"]["base"].update(image=3), "key 'counts.base.image'", "'images'"),
        (lambda v: v.pop("rule"), "'rule' is missing", "add the key"),
        (lambda v: v.update(format="mlfsic-split/9"), "format is not valid", ""),
        (lambda v: v["images"]["base"][0].__setitem__(0, "/etc/passwd"), "images.base.0", ""),
        (lambda v: v["images"]["base"][0].__setitem__(0, "a\u0000b"), "images.base.0", ""),
        (lambda v: v["images"]["base"][0].__setitem__(0, "a" * 300), "images.base.0", ""),
        (lambda v: v["images"]["base"][0].__setitem__(1, [True]), "images.base.0", ""),
        (lambda v: v["images"]["base"][0].__setitem__(1, [-1]), "images.base.0", ""),
        (lambda v: v["labels"]["base"].__setitem__(0, "a\nb"), "labels.base.0", ""),
        (lambda v: v.update(id="../x-v1"), "id is not valid", ""),
    ],
)
def test_schema_errors_name_the_key(change, what, remedy, built, tmp_path):
    value = value_of(built)
    change(value)
    path = tmp_path / "split.json"
    path.write_text(json.dumps(value))
    with pytest.raises(BenchError) as caught:
        read_split(path)
    assert what in caught.value.what
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"id":1,"id":1}', "NaN"])
def test_files_that_are_no_split_at_all(text, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"split\.json"):
        read_split(path)


def test_a_wrong_hash_is_refused(built, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(render(built.model_copy(update={"hash": "0" * 64})))
    with pytest.raises(BenchError) as caught:
        read_split(path)
    assert "the hash is not that of the content" in caught.value.found


def test_a_definition_written_by_hand_needs_no_hash(built, voc, tmp_path):
    value = value_of(built.definition())
    for key in ("hash", "subset", "counts", "images"):
        del value[key]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(value))
    assert resolve_split(str(path), data_root=tmp_path / "data").hash == built.hash
    with pytest.raises(BenchError, match="only defined"):
        read_split(path)
