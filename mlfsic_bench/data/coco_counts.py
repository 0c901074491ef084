"""How many images and annotations the official files of COCO 2014 hold.

Images: 82,783 and 40,504, as the data set's own pages and papers give them; every copy that this
project has read agrees.

Annotations: 604,907 and 291,875, from the literature. Not verified by a download of
annotations_trainval2014.zip yet. Their sum, 896,782, is the number of annotations in the files of
2017, which hold the same images (860,001 + 36,781, github.com/cocodataset/cocoapi, issue 117).

Images of val2014 with each label, crowds included: counted in a complete table of the image-level
labels of val2014 (40,137 images with a label, as the literature has it, and 116,592 pairs of image
and label). Of train2014 there was no complete table to count in.
"""

from __future__ import annotations

from mlfsic_bench.data.official import Anchors

IMAGES = {"train2014": 82_783, "val2014": 40_504}
ANNOTATIONS = {"train2014": 604_907, "val2014": 291_875}

_VAL = """
person 21634, bicycle 1114, car 4180, motorcycle 1219, airplane 840, bus 1350, train 1281,
truck 2056, boat 1048, traffic light 1437, fire hydrant 592, stop sign 589, parking meter 261,
bench 1961, bird 1121, cat 1480, dog 1521, horse 1001, sheep 489, cow 666, elephant 714, bear 341,
zebra 677, giraffe 849, backpack 1832, umbrella 1393, handbag 2272, tie 1288, suitcase 876,
frisbee 757, skis 993, snowboard 533, sports ball 1445, kite 727, baseball bat 799,
baseball glove 845, skateboard 1092, surfboard 1292, tennis racket 1193, bottle 2912,
wine glass 872, cup 3061, fork 1173, knife 1410, spoon 1189, bowl 2397, banana 728, apple 491,
sandwich 818, orange 568, broccoli 670, carrot 578, hot dog 452, pizza 1117, donut 523, cake 969,
chair 4404, couch 1448, potted plant 1540, bed 1292, dining table 3960, toilet 1185, tv 1577,
laptop 1232, mouse 674, remote 1041, keyboard 750, cell phone 1695, microwave 512, oven 989,
toaster 74, sink 1574, refrigerator 790, book 1828, clock 1704, vase 1200, scissors 302,
teddy bear 724, hair drier 70, toothbrush 341
"""

VAL_IMAGES: dict[str, int] = {
    label: int(number)
    for label, _, number in (entry.strip().rpartition(" ") for entry in _VAL.split(","))
}


def named(
    images: dict[str, int], annotations: dict[str, int], val_images: dict[str, int]
) -> dict[str, int]:
    """The counts under the names that are shown; images and annotations by folder."""
    return {
        **{f"images of {folder}": n for folder, n in images.items()},
        **{f"annotations of {folder}": n for folder, n in annotations.items()},
        **{f"images of val2014 with {label!r}": n for label, n in val_images.items()},
    }


ANCHORS = Anchors(
    counts=named(IMAGES, ANNOTATIONS, VAL_IMAGES),
    about="COCO 2014 (images, annotations, images of val2014 with each label)",
    source="the official numbers of annotations are from the literature, not from a download",
    remedy="unpack the official annotations_trainval2014.zip (252,872,794 bytes)",
)
