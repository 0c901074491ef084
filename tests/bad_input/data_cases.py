"""Bad data roots, annotations and images."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

from PIL import Image

from tests.bad_input.cases import STORE_LEAVES, as_file, case, main_ok, shipped
from tests.fakes.coco import write_coco
from tests.fakes.jpeg import jpeg
from tests.fakes.voc import CONTENTS, write_voc

VOC = ["splits", "build", "voc-8-6-6-v1", "--out", "new.json", "--data-root", "."]
COCO = ["splits", "build", "coco-52-12-16-v1", "--out", "new.json", "--data-root", "."]
TRAIN = Path("coco/annotations/instances_train2014.json")
DOG = Path("VOCdevkit/VOC2007/ImageSets/Main/dog_trainval.txt")
COW = Path("VOCdevkit/VOC2012/JPEGImages/2008_000002.jpg")
EXTRACT = ["features", "extract", "--split", "built.json", "--data-root", "."]
EXTRACT += ["--backbone", "scenes-small", "--cache", "cache"]
LAUGHS = """<!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]>
<annotation><object><name>&d;</name></object></annotation>"""


@case("no data root", "MLFSIC_DATA", "'voc'")
def _no_root(folder, monkeypatch):
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    return VOC[:-2]


@case("a data root that is not there", "nowhere (from --data-root)")
def _missing_root(folder, monkeypatch):
    return [*VOC[:-1], "nowhere"]


@case("a data root of the environment that is not there", "the environment variable MLFSIC_DATA")
def _missing_root_of_the_environment(folder, monkeypatch):
    monkeypatch.setenv("MLFSIC_DATA", "nowhere")
    return VOC[:-2]


@case("a table of images of another kind", "birds.xlsx", ".csv or .jsonl")
def _other_table(folder, monkeypatch):
    return ["datasets", "show", "birds.xlsx"]


@case("a data root without the dataset", "COCO 2014", "annotations/")
def _empty_root(folder, monkeypatch):
    return COCO


@case("half of VOC", "no VOC2012")
def _half_voc(folder, monkeypatch):
    write_voc(folder, {key: value for key, value in CONTENTS.items() if key[0] != "VOC2012"})
    return VOC


@case("half of COCO", "instances_val2014.json")
def _half_coco(folder, monkeypatch):
    write_coco(folder)
    (folder / "coco/annotations/instances_val2014.json").unlink()
    return COCO


@case("COCO annotations cut off", "instances_train2014.json", "JSONDecodeError")
def _cut_off(folder, monkeypatch):
    write_coco(folder)
    (folder / TRAIN).write_bytes((folder / TRAIN).read_bytes()[:-40])
    return COCO


@case("a COCO annotation of an unknown category", "instances_train2014.json", "category 9999")
def _category(folder, monkeypatch):
    return _annotation(folder, "category_id", 9999)


@case("a COCO annotation of a missing image", "instances_train2014.json", "image 123456")
def _image(folder, monkeypatch):
    return _annotation(folder, "image_id", 123456)


@case("a COCO image whose name leaves the folder", "instances_train2014.json", "../../x.jpg")
def _climb(folder, monkeypatch):
    write_coco(folder)
    value = json.loads((folder / TRAIN).read_text())
    value["images"][0]["file_name"] = "../../x.jpg"
    (folder / TRAIN).write_text(json.dumps(value))
    return COCO


def _annotation(folder, key, number):
    write_coco(folder)
    value = json.loads((folder / TRAIN).read_text())
    value["annotations"][2][key] = number
    (folder / TRAIN).write_text(json.dumps(value))
    return COCO


@case("a VOC class list with a word for a number", "dog_trainval.txt", "no")
def _list(folder, monkeypatch):
    write_voc(folder)
    (folder / DOG).write_text((folder / DOG).read_text().replace("-1", "no", 1))
    return VOC


@case("a VOC annotation with entities", "000005.xml", "entity")
def _entities(folder, monkeypatch):
    write_voc(folder, lists=False)
    (folder / "VOCdevkit/VOC2007/Annotations/000005.xml").write_text(LAUGHS)
    return VOC


@case("an unknown VOC label in an annotation", "000005.xml", "dragon")
def _dragon(folder, monkeypatch):
    write_voc(folder, lists=False)
    path = folder / "VOCdevkit/VOC2007/Annotations/000005.xml"
    path.write_text(path.read_text().replace("chair", "dragon"))
    return VOC


def _built(folder):
    write_voc(folder)
    keys = ("format", "version", "dataset", "rule", "labels", "provenance")
    value = shipped("voc-8-6-6-v1.json")
    definition = {key: value[key] for key in keys} | {"id": "small-8-6-6-v1"}
    path = as_file(folder / "definition.json", definition)
    main_ok("splits", "build", path, "--data-root", folder, "--out", folder / "built.json")


@case("an image that is missing at extraction", "2008_000002", "--available-only")
def _missing_image(folder, monkeypatch):
    _built(folder)
    (folder / COW).unlink()
    return EXTRACT


@case("a corrupt JPEG", "2008_000002 (an image file that is cut off or damaged)")
def _corrupt(folder, monkeypatch):
    _built(folder)
    (folder / COW).write_bytes(b"\xff\xd8\xff\xe0 this is no JPEG")
    return EXTRACT


@case("a JPEG cut off", "2008_000002 (an image file that is cut off or damaged)")
def _cut_image(folder, monkeypatch):
    _built(folder)
    (folder / COW).write_bytes(jpeg(3)[:-60])
    return EXTRACT


@case("a GIF named as a JPEG", "2008_000002 (a GIF)", "fetch the files again")
def _gif(folder, monkeypatch):
    return _foreign(folder, "GIF")


@case("a BMP named as a JPEG", "2008_000002 (a BMP)")
def _bmp(folder, monkeypatch):
    return _foreign(folder, "BMP")


def _foreign(folder, kind):
    _built(folder)
    Image.new("RGB", (8, 8)).save(folder / COW, format=kind)
    return EXTRACT


@case("an empty image file", "2008_000002 (an empty file)")
def _empty_image(folder, monkeypatch):
    _built(folder)
    (folder / COW).write_bytes(b"")
    return EXTRACT


@case("a decompression bomb", "2008_000002", "too large", leaves=STORE_LEAVES)
def _bomb(folder, monkeypatch):
    return _png(folder, 60_000)


@case("a bomb below Pillow's own limit", "2008_000002", "81000000 pixels", leaves=STORE_LEAVES)
def _small_bomb(folder, monkeypatch):
    return _png(folder, 9_000)


def _png(folder, side):
    """A file of some hundred bytes whose header declares side x side pixels."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 64)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    _built(folder)
    (folder / COW).write_bytes(data)
    return EXTRACT


@case("a store made from other images", "2008_000002", "SHA-256")
def _other_images(folder, monkeypatch):
    _built(folder)
    main_ok(*EXTRACT)
    (folder / COW).write_bytes(jpeg(987))
    return EXTRACT
