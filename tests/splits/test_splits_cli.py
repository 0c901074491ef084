import json

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from tests.fakes.coco import write_coco
from tests.fakes.voc import CONTENTS, write_voc


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("MLFSIC_DATA", raising=False)


def call(*arguments):
    result = CliRunner().invoke(cli, ["splits", *(str(argument) for argument in arguments)])
    if isinstance(result.exception, BenchError):
        raise result.exception
    return result


def test_list():
    rows = {row["id"]: row for row in json.loads(call("list", "--format=json").stdout)}
    assert rows["voc-8-6-6-v1"]["images"] == {"base": 8656, "val": 5654, "novel": 6741}
    assert rows["coco-52-12-16-v1"]["images"] is None
    assert "8,656 / 5,654 / 6,741" in call("list").stdout


def test_show():
    text = call("show", "voc-8-6-6-v1").stdout
    assert "val: images with a label below that show no novel label" in text
    assert "dog 2,125" in text
    value = json.loads(call("show", "coco-52-12-16-v1", "--format=json").stdout)
    assert value["labels"]["novel"][0] == "bicycle"
    assert "images" not in value


def test_build_verify_and_what_differs(tmp_path):
    root = write_voc(tmp_path / "data")
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    result = call("build", "voc-8-6-6-v1", "--data-root", root, "--out", first)
    assert "novel: 2 images (dog 1" in result.stdout
    assert "differs from the shipped voc-8-6-6-v1" in result.stderr
    call("build", "voc-8-6-6-v1", "--data-root", root, "--out", second)
    assert first.read_bytes() == second.read_bytes()
    result = call("verify", first, "--data-root", root)
    assert result.exit_code == 1
    assert "images.base: 8654 images missing, which are in the shipped split" in result.stdout
    assert call("verify", "voc-8-6-6-v1").exit_code == 0


def test_verify_against_a_rebuild_says_where(tmp_path):
    root = write_voc(tmp_path / "data")
    other = {
        **CONTENTS,
        ("VOC2007", "test"): {
            "000001": [("dog", False), ("cat", False)],
            "000004": [("bus", False)],
        },
    }
    write_voc(tmp_path / "other", other)
    path = tmp_path / "s.json"
    definition = json.loads(call("show", "voc-8-6-6-v1", "--format=json").stdout)
    definition |= {"id": "mine-v1", "hash": None, "counts": None}
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(definition))
    call("build", mine, "--data-root", root, "--out", path)
    result = call("verify", path, "--data-root", root)
    assert result.exit_code == 0
    assert "no split called mine-v1 is shipped" in result.stdout
    result = call("verify", path, "--data-root", tmp_path / "other")
    assert result.exit_code == 1
    assert "images.val: 1 images not in" in result.stdout
    assert "VOC2007/000002" in result.stdout
    assert "VOC2007/000004" in result.stdout
    assert "VOC2007/000001 ([0], there [0, 2])" in result.stdout


def test_subset_is_named_and_verifies(tmp_path, monkeypatch):
    root = write_coco(tmp_path / "data", without=[9])
    monkeypatch.chdir(tmp_path)
    result = call(
        "build", "coco-52-12-16-open-v1", "--data-root", root, "--available-only", "--min-pool", 1
    )
    assert "a partial split" in result.stdout
    path = tmp_path / "coco-52-12-16-open-v1-unofficial.subset.json"
    assert json.loads(path.read_text())["subset"]["images_missing"]["base"] == 1
    assert call("verify", path, "--data-root", root).exit_code == 0


def test_verify_says_that_nothing_official_was_compared(tmp_path):
    """Labels are incomplete below this root; the file agrees with them, and that is all."""
    root, path = write_coco(tmp_path / "data"), tmp_path / "s.json"
    call("build", "coco-52-12-16-open-v1", "--data-root", root, "--out", path)
    counts = json.loads(path.read_text())["counts"]
    sizes = ", ".join(f"{part} {counts[part]['images']}" for part in ("base", "val", "novel"))
    for options in (["--data-root", root], []):
        result = call("verify", path, *options)
        assert result.exit_code == 0
        assert "no differences" not in result.stdout
        assert "annotations of train2014: 13, officially 604,907" in result.stdout
        assert "its annotations are not the official ones" in result.stdout
        rebuilt = f"compared with images of the split built from {root} ({sizes})"
        assert (rebuilt in result.stdout) == bool(options)
    definition = call("verify", "coco-52-12-16-open-v1")
    assert "the file is a definition without images" in definition.stdout
    assert "nothing official to compare with" in definition.stdout
    assert "no differences" not in definition.stdout


@pytest.mark.parametrize("split", ["voc-8-6-6-v1", "scenes-12-6-6-v1"])
def test_no_differences_where_the_shipped_images_were_compared(split):
    result = call("verify", split)
    assert "compared with images of the shipped split" in result.stdout
    assert result.stdout.splitlines()[-1] == f"{split}: no differences"


def test_nothing_is_written_when_the_data_is_bad(tmp_path):
    out = tmp_path / "out" / "s.json"
    with pytest.raises(BenchError, match="no complete VOC"):
        call("build", "voc-8-6-6-v1", "--data-root", tmp_path, "--out", out)
    assert not out.parent.exists()


def audit(*arguments):
    return json.loads(call("audit", *arguments, "--format=json").stdout)


def test_audit_of_the_file_alone():
    found = audit("voc-8-6-6-v1")
    assert not found["leaks"]
    assert found["small_pools"] == {"base": {}, "val": {}, "novel": {}}
    assert found["unannotated"] is None


def test_audit_with_data_finds_what_was_planted(tmp_path):
    root = write_voc(tmp_path / "data")
    jpegs = root / "VOCdevkit/VOC2007/JPEGImages", root / "VOCdevkit/VOC2012/JPEGImages"
    (jpegs[1] / "2008_000002.jpg").write_bytes((jpegs[0] / "000005.jpg").read_bytes())
    (jpegs[0] / "000007.jpg").write_bytes(b"\xff\xd8\xff broken \xff\xd9")
    (jpegs[0] / "000012.jpg").write_bytes(b"broken")
    path = tmp_path / "s.json"
    call("build", "voc-8-6-6-v1", "--data-root", root, "--out", path)
    found = audit(path, "--data-root", root)
    assert found["files"]["groups"] == [["VOC2007/000005", "VOC2012/2008_000002"]]
    assert found["duplicates"] == {"groups": 1, "across_parts": 1, "across_folders": 1}
    bad = [find for find in found["files"]["findings"] if find["severity"] == "bad"]
    assert [(find["image"], find["kind"]) for find in bad] == [
        ("VOC2007/000012", "not-an-image"),
        ("VOC2007/000007", "corrupt"),
    ]
    assert found["foreign_labels"]["val"]["base"] == {"car": 1, "person": 1}
    assert found["foreign_labels"]["novel"]["val"] == {"cow": 1}
    assert found["small_pools"]["novel"]["sheep"] == 0
    assert found["in_no_part"] == 3
    assert not found["leaks"]
    quick = audit(path, "--data-root", root, "--quick")
    assert quick["duplicates"] is None
    assert list(quick["files"]["counts"]) == ["not-an-image"]


def test_an_exclusion_list_is_part_of_a_splits_identity(tmp_path):
    root, whole, less = write_voc(tmp_path / "data"), tmp_path / "1.json", tmp_path / "2.json"
    listed = tmp_path / "list.txt"
    build = ("build", "voc-8-6-6-v1", "--data-root", root)
    call(*build, "--out", whole)
    listed.write_text("# none of these is in a part\n\nVOC2007/000003  # only a difficult sofa\n")
    call(*build, "--out", less, "--exclude", listed)
    assert less.read_bytes() == whole.read_bytes()  # a list without effect changes nothing
    listed.write_text("VOC2007/000001 # a copy\nVOC2007/000003\n")
    result = call(*build, "--out", less, "--exclude", listed)
    assert "a partial split" in result.stdout
    images = [json.loads(path.read_text())["images"] for path in (whole, less)]
    assert images[0]["novel"][0][0] == "VOC2007/000001"
    assert images[1] == {**images[0], "novel": images[0]["novel"][1:]}
    subset = json.loads(less.read_text())["subset"]
    assert subset["excluded"]["images"] == {"base": 0, "val": 0, "novel": 1}
    assert subset["images_missing"] == {"base": 0, "val": 0, "novel": 0}
    assert "excluded" not in json.loads(shipped_subset(root, tmp_path).read_text())["subset"]

    verified = call("verify", less, "--data-root", root)
    assert "made with an exclusion list, which --exclude would name" in verified.stdout
    assert "the split built from" not in verified.stdout
    verified = call("verify", less, "--data-root", root, "--exclude", listed)
    assert f"images of the split built from {root}" in verified.stdout
    assert verified.exit_code == 0
    listed.write_text("VOC2007/000002\n")
    verified = call("verify", less, "--data-root", root, "--exclude", listed)
    assert verified.exit_code == 1
    assert "differs: subset" in verified.stdout


def shipped_subset(root, folder):
    """A split limited without a list."""
    path = folder / "available.json"
    call("build", "voc-8-6-6-v1", "--data-root", root, "--available-only", "--out", path)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"VOC2007/000001\nVOC2007/1 2\n", "line 2: 'VOC2007/1 2'"),
        (b"../x\n", "line 1"),
        (b"\xff\xfe\n", "UnicodeDecodeError"),
        (b"VOC2007/999999\n", "1 of the 1 images to exclude are not in voc"),
        (None, "there is no list of images to exclude"),
    ],
)
def test_a_bad_exclusion_list_is_one_error(text, says, tmp_path):
    root, listed = write_voc(tmp_path / "data"), tmp_path / "list.txt"
    if text is not None:
        listed.write_bytes(text)
    with pytest.raises(BenchError) as caught:
        call("build", "voc-8-6-6-v1", "--data-root", root, "--exclude", listed, "--out", "x.json")
    assert says in f"{caught.value.what} {caught.value.found}"


def test_an_exclusion_list_needs_images_to_look_at(tmp_path):
    with pytest.raises(BenchError, match="no image was audited"):
        call("audit", "voc-8-6-6-v1", "--exclusions", tmp_path / "list.txt")
    root = write_voc(tmp_path / "data")
    path, listed = tmp_path / "s.json", tmp_path / "list.txt"
    call("build", "voc-8-6-6-v1", "--data-root", root, "--out", path)
    result = call("audit", path, "--data-root", root, "--exclusions", listed)
    assert f"{listed}: 0 images to exclude" in result.stdout
    assert [line[0] for line in listed.read_text().splitlines()] == ["#", "#"]


def test_audit_sees_leaks(tmp_path):
    root = write_voc(tmp_path / "data")
    path = tmp_path / "s.json"
    call("build", "voc-8-6-6-v1", "--data-root", root, "--out", path)
    value = json.loads(path.read_text())
    value["images"]["base"].insert(0, ["VOC2007/000001", [7]])  # a person, with a dog: novel
    value["images"]["base"].append(["VOC2099/1", [0]])
    path.write_text(json.dumps(value))
    found = audit(path, "--data-root", root)
    assert found["leaks"]
    assert found["shared_images"] == ["VOC2007/000001"]
    assert found["broken_rule"] == {"base": 2, "val": 0, "novel": 0}
    assert "in base and in novel" in found["problems"][0]


def test_audit_of_a_definition_builds_it(tmp_path):
    root = write_coco(tmp_path)
    found = audit("coco-52-12-16-v1", "--data-root", root)
    assert found["unannotated"] == 1
    assert found["images"] == {"base": 3, "val": 2, "novel": 1}
    assert "unannotated: 1" in call("audit", "coco-52-12-16-v1", "--data-root", root).stdout
