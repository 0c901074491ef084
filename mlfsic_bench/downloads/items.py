"""What can be downloaded: from where, how large, with which checksum, under which terms.

Sizes and checksums are those that several independent public projects give for the official files.
Counts of images are those of the official documentation.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.paths import home


@dataclass(frozen=True)
class RemoteFile:
    """A file on the official hosts, and what is in it.

    Attributes
    ----------
    name: its name, on every host and here.
    hosts: what stands before the name in its URLs; the official one first.
    size: bytes; None where that is not known.
    checksum: `md5:HEX` or `sha256:HEX`, of which the first digits are enough; empty where none is
        known. The SHA-256 of the first download is then recorded, and compared from then on.
    unpacked: bytes of what is in it, roughly; 0 for a file that is used as it is.
    within: the folder in the archive whose content is unpacked; it ends with a slash.
    holds: pattern of paths below the item's folder -> how many files of the archive fit it.
    """

    name: str
    hosts: tuple[str, ...]
    size: int | None = None
    checksum: str = ""
    unpacked: int = 0
    within: str = ""
    holds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """What is downloaded by one name.

    Attributes
    ----------
    about, terms: what it is, and under which terms it is given.
    files: what it is made of.
    folders: where it may lie below the data root, as the readers look for it; it is put into the
        first, unless a later one has a part of it. Without any it lies where torch keeps weights.
    """

    about: str
    terms: str
    files: tuple[RemoteFile, ...]
    folders: tuple[str, ...] = ()

    @property
    def holds(self) -> dict[str, int]:
        """Pattern of paths below its folder -> how many files fit it when everything is there."""
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(file.holds if file.unpacked else {file.name: 1})
        return dict(total)

    def folder(self, root: Path | None) -> Path | None:
        """Where it lies, or would be put; None where no data root is named and it needs one."""
        if not self.folders:
            return weights_folder()
        if root is None:
            return None
        places = [root / name for name in self.folders]
        found = (p for p in places if any(next(p.glob(x), None) for x in self.holds))
        return next(found, places[0])


def weights_folder() -> Path:
    """Where torch.hub looks for weights, found without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or (home() or Path()) / ".cache"
    top = os.environ.get("TORCH_HOME") or Path(cache) / "torch"
    return Path(top).expanduser() / "hub" / "checkpoints"


_COCO = ("http://images.cocodataset.org/", "https://s3.amazonaws.com/images.cocodataset.org/")
_COCO_ZIPS = (*(f"{host}zips/" for host in _COCO), "https://pjreddie.com/media/files/")
_VOC = tuple(f"{h}.robots.ox.ac.uk/pascal/VOC/voc" for h in ("http://host", "https://thor"))
_VOC2007, _VOC2012 = (
    (*(host + year + "/" for host in _VOC), "https://data.pjreddie.com/files/")
    for year in ("2007", "2012")
)
_GLOVE = (
    "https://nlp.stanford.edu/data/",
    "https://downloads.cs.stanford.edu/nlp/data/",
    "https://huggingface.co/stanfordnlp/glove/resolve/main/",
)
_FASTTEXT = ("https://dl.fbaipublicfiles.com/fasttext/vectors-english/",)
_WORD2VEC = (  # Google's own copy is on Google Drive, which no program can download from
    "https://s3.amazonaws.com/dl4j-distribution/",
    "https://huggingface.co/LoganKilpatrick/GoogleNews-vectors-negative300/resolve/main/",
)
_TORCH = ("https://download.pytorch.org/models/",)
_FLICKR = "Flickr's terms of use; each image has its author's licence"
_VOC_TERMS = f"images: {_FLICKR}. No licence is stated for the annotations"
_TORCH_TERMS = "BSD-3-Clause (torchvision); ImageNet's own terms allow research only"


def _voc(name: str, hosts: tuple[str, ...], size: int, md5: str, images: int) -> RemoteFile:
    folder = "VOC2012" if "2012" in name else "VOC2007"
    holds = {f"{folder}/JPEGImages/*.jpg": images, f"{folder}/Annotations/*.xml": images}
    return RemoteFile(name, hosts, size, f"md5:{md5}", size, "VOCdevkit/", holds)


def _weights(network: str, digits: str, size: int | None = None) -> Item:
    # the name carries the first digits of the SHA-256, which is what torch.hub checks, too
    file = RemoteFile(f"{network}-{digits}.pth", _TORCH, size, f"sha256:{digits}")
    return Item(f"torchvision's IMAGENET1K_V1 weights of {network}", _TORCH_TERMS, (file,))


ITEMS: dict[str, Item] = {
    "coco-annotations": Item(
        "COCO 2014: annotations of train and val, enough for splits and episodes",
        "CC BY 4.0",
        (
            RemoteFile(
                "annotations_trainval2014.zip",
                tuple(f"{host}annotations/" for host in _COCO),
                252_872_794,
                "md5:0a379cfc70b0e71301e0f377548639bd",
                900_000_000,
                holds={f"annotations/instances_{year}2014.json": 1 for year in ("train", "val")},
            ),
        ),
        ("coco", ""),
    ),
    "coco-images": Item(
        "COCO 2014: the images of train and val",
        _FLICKR,
        (
            RemoteFile("train2014.zip", _COCO_ZIPS, 13_510_573_713,
                       "md5:0da8c0bd3d6becc4dcb32757491aca88", 13_510_573_713,
                       holds={"train2014/*.jpg": 82_783}),
            RemoteFile("val2014.zip", _COCO_ZIPS, 6_645_013_297,
                       "md5:a3d79f5ed8d289b7a7554ce06a5782b3", 6_645_013_297,
                       holds={"val2014/*.jpg": 40_504}),
        ),
        ("coco", ""),
    ),
    "voc2007": Item(
        "PASCAL VOC 2007: trainval and test",
        _VOC_TERMS,
        (
            _voc("VOCtrainval_06-Nov-2007.tar", _VOC2007, 460_032_000,
                 "c52e279531787c972589f7e41ab4ae64", 5_011),
            _voc("VOCtest_06-Nov-2007.tar", _VOC2007, 451_020_800,
                 "b6e924de25625d8de591ea690078ad9f", 4_952),
        ),
        ("VOCdevkit", ""),
    ),
    "voc2012": Item(
        "PASCAL VOC 2012: trainval",
        _VOC_TERMS,
        (
            _voc("VOCtrainval_11-May-2012.tar", _VOC2012, 1_999_639_040,
                 "6cd6e144f989b92b3379bac3b3de84fd", 17_125),
        ),
        ("VOCdevkit", ""),
    ),
    "glove-6b": Item(
        "GloVe 6B: 400,000 words, 50 to 300 numbers each",
        "Public Domain Dedication and License 1.0",
        (
            RemoteFile("glove.6B.zip", _GLOVE, 862_182_613,
                       "sha256:617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
                       2_250_000_000, holds={"glove.6B.*d.txt": 4}),
        ),
        ("",),
    ),
    "glove-840b": Item(
        "GloVe 840B: 2.2 million words, 300 numbers each",
        "Public Domain Dedication and License 1.0",
        (
            RemoteFile("glove.840B.300d.zip", _GLOVE, 2_176_768_927,
                       "sha256:c06db255e65095393609f19a4cfca20bf3a71e20cc53e892aafa490347e3849f",
                       5_650_000_000, holds={"glove.840B.300d.txt": 1}),
        ),
        ("",),
    ),
    "fasttext": Item(
        "fastText, Common Crawl: 2 million words, 300 numbers each",
        "CC BY-SA 3.0",
        (
            RemoteFile("crawl-300d-2M.vec.zip", _FASTTEXT, 1_523_785_255,
                       "sha256:5bfffffbabdab299d4c9165c47275e8f982807a6eaca37ee1f71d3a79ddb544d",
                       4_520_000_000, holds={"crawl-300d-2M.vec": 1}),
        ),
        ("",),
    ),
    "word2vec": Item(
        "word2vec, Google News: 3 million words, 300 numbers each; read as it is",
        "Apache License 2.0",
        (RemoteFile("GoogleNews-vectors-negative300.bin.gz", _WORD2VEC, 1_647_046_227),),
        ("",),
    ),
    "resnet50-weights": _weights("resnet50", "0676ba61", 102_530_333),
    "resnet101-weights": _weights("resnet101", "63fe2227"),
    "vit_b_16-weights": _weights("vit_b_16", "c867db91", 346_328_529),
}  # fmt: skip
GROUPS = {"coco": ("coco-annotations", "coco-images"), "voc": ("voc2007", "voc2012")}


def find_items(names: Iterable[str] = ()) -> dict[str, Item]:
    """The items of these names, of which `coco` and `voc` are several; without names all."""
    found = {}
    for name in names or ITEMS:
        if name not in ITEMS and name not in GROUPS:
            raise unknown_name("item", name, [*ITEMS, *GROUPS])
        found.update({one: ITEMS[one] for one in GROUPS.get(name, (name,))})
    return found


def needed_folder(name: str, item: Item, root: Path | None) -> Path:
    """The item's folder; BenchError where no data root is named."""
    folder = item.folder(root)
    if folder is None:
        raise BenchError(
            f"{name} needs a data root and none was named",
            expected="--data-root FOLDER, or the environment variable MLFSIC_DATA",
            found="neither",
            remedy="name the folder where the data sets are to lie; it is made if need be",
        )
    return folder


def in_bytes(size: int | None) -> str:
    """A size for people.

    >>> in_bytes(252_872_794), in_bytes(13_510_573_713), in_bytes(900), in_bytes(None)
    ('253 MB', '13.5 GB', '1 kB', 'unknown size')
    """
    if size is None:
        return "unknown size"
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            value = size / unit
            return f"{value:.1f} {name}" if value < 100 and unit == 10**9 else f"{value:.0f} {name}"
    return f"{-(-size // 1000)} kB"
