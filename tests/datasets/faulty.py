"""Faulty data sets, each a file of its own: the template with one thing changed."""

from __future__ import annotations

import itertools
from importlib.resources import files
from pathlib import Path

TEMPLATE = files("mlfsic_bench.testing").joinpath("dataset_template.py").read_text("utf-8")

RETURN = "        return Annotations(labels, ids, present=present, shown=present.copy())\n"
IDS = "        ids = tuple(sorted(LABELS_OF))  # sorted, each once\n"
AVAILABLE = "        return np.array([image_id in LABELS_OF for image_id in image_ids], np.bool_)\n"
OPEN = "        return decode_rgb(self.image_bytes(image_id), image_id)\n"
BYTES = "        return stream.getvalue()\n"
NAME = '    name = "my-dataset"  # CHANGE: a-z, 0-9, - and _; split files name it so\n'
IMPORT = "import io\n"

# fault -> (test that finds it, or "" for an error before any test; what the message names;
# pairs of the template's text and what stands in its place)
FAULTS: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "ids not unique": (
        "annotations",
        "an image id stands twice: 'made/0001'",
        [(IDS, "        ids = ('made/0001', 'made/0001', 'made/0002')\n")],
    ),
    "ids not sorted": (
        "annotations",
        "the image ids are not sorted: 'made/0001' after 'made/0002'",
        [(IDS, "        ids = ('made/0002', 'made/0001')\n")],
    ),
    "id that no split file can hold": (
        "annotations",
        "an image id can't stand in a split file: 'made/a b'",
        [('"made/0002"', '"made/a b"')],
    ),
    "labels by the order of a set": (
        "fresh-process",
        "the order of a set",
        [
            (
                "        labels = tuple(sorted({label for found in LABELS_OF.values() "
                "for label in found}))\n",
                "        labels = tuple({'red', 'green', *'abcdefgh'})\n",
            )
        ],
    ),
    "present without shown": (
        "annotations",
        "`present` does not imply `shown`: 3 that are not, such as 'red' in made/0001",
        [(RETURN, RETURN.replace("present.copy()", "np.zeros_like(present)"))],
    ),
    "wrong shape": (
        "annotations",
        "`shown` has the shape (1, 2)",
        [(RETURN, RETURN.replace("present.copy()", "present[:1]"))],
    ),
    "wrong dtype": (
        "annotations",
        "`present` is dtype int64",
        [(RETURN, RETURN.replace("present=present", "present=present.astype(np.int64)"))],
    ),
    "an empty label": (
        "annotations",
        "a label is ''",
        [('["green", "red"]', '["", "red"]')],
    ),
    "a label that is NaN": (
        "annotations",
        "a label is nan",
        [(RETURN, "        labels = (float('nan'), *labels[1:])\n" + RETURN)],
    ),
    "a label that is None": (
        "annotations",
        "a label is None",
        [(RETURN, "        labels = (None, *labels[1:])\n" + RETURN)],
    ),
    "a label twice": (
        "annotations",
        "a label stands twice: 'red'",
        [(RETURN, "        labels = ('red', 'red')\n" + RETURN)],
    ),
    "annotations that change": (
        "again",
        "the annotations are the same each time",
        [
            (
                RETURN,
                "        self.calls = getattr(self, 'calls', 0) + 1\n"
                "        present[0, 0] = self.calls > 1\n" + RETURN,
            )
        ],
    ),
    "available of a wrong length": (
        "available",
        "available() returns the shape (2,)",
        [(AVAILABLE, "        return np.ones(2, np.bool_)\n")],
    ),
    "available that is a list": (
        "available",
        "available() returns list",
        [(AVAILABLE, "        return [True for _ in image_ids]\n")],
    ),
    "available that says yes": (
        "images",
        "which available() says is there, was opened",
        [
            (BYTES, "        return stream.getvalue()[: 40 if '2' in image_id else None]\n"),
        ],
    ),
    "available that says no": (
        "images",
        "which available() says is not there, was opened",
        [(AVAILABLE, "        return np.array(['1' in i for i in image_ids], np.bool_)\n")],
    ),
    "images that are not RGB": (
        "images",
        "returns the mode L",
        [(OPEN, "        return decode_rgb(self.image_bytes(image_id), image_id).convert('L')\n")],
    ),
    "bytes that differ": (
        "bytes",
        "was called twice, and on a fresh object",
        [
            (IMPORT, "import io\nimport itertools\n"),
            (NAME, NAME + "    calls = itertools.count()\n"),
            (
                BYTES,
                "        from PIL.PngImagePlugin import PngInfo\n"
                "        about, stream = PngInfo(), io.BytesIO()\n"
                "        about.add_text('call', str(next(self.calls)))\n"
                "        Image.new('RGB', (64, 48), colour).save(stream, 'PNG', pnginfo=about)\n"
                + BYTES,
            ),
        ],
    ),
    "pixels by the order of calls": (
        "pixels",
        "were opened in order, then",
        [
            (
                OPEN,
                "        self.calls = getattr(self, 'calls', 0) + 1\n"
                "        image = decode_rgb(self.image_bytes(image_id), image_id)\n"
                "        image.putpixel((0, 0), (self.calls, 0, 0))\n"
                "        return image\n",
            )
        ],
    ),
    "masks of a wrong size": (
        "masks",
        "the mask of 'red' in made/0001 has the shape (64, 48)",
        [
            (
                OPEN,
                OPEN + "\n    def masks(self, image_id):\n"
                "        return {'red': np.ones((64, 48), np.bool_)}\n",
            )
        ],
    ),
    "masks of a label that is not there": (
        "masks",
        "masks of labels that are present in the image",
        [
            (
                OPEN,
                OPEN + "\n    def masks(self, image_id):\n"
                "        return {'green': np.ones((48, 64), np.bool_)}\n",
            )
        ],
    ),
    "an id that is none": (
        "unknown",
        "which is none of its own",
        [
            ("        if image_id not in LABELS_OF:\n", "        if False:\n"),
            ("LABELS_OF[image_id] ==", "LABELS_OF.get(image_id) =="),
        ],
    ),
    "embeddings in the dataset's order": (
        "embeddings",
        "in the order of the dataset, not of the labels asked for",
        [
            (
                OPEN,
                OPEN + "\n    def label_embeddings(self, labels):\n"
                "        return np.arange(4, dtype=np.float32).reshape(2, 2)\n",
            )
        ],
    ),
    "an exception": (
        "annotations",
        "ZeroDivisionError",
        [(RETURN, "        1 / 0\n" + RETURN)],
    ),
    "another constructor": (
        "constructor",
        "missing 1 required positional argument: 'year'",
        [("def __init__(self, root: Path | None)", "def __init__(self, root, year)")],
    ),
    "no name": ("", "has no usable name", [(NAME, "")]),
    "a name that split files can't hold": (
        "",
        "has no usable name",
        [('"my-dataset"', '"My Dataset"')],
    ),
    "a registered name": (
        "",
        "the name of a registered dataset",
        [('"my-dataset"', '"coco"')],
    ),
    "a method that is lacking": (
        "",
        "lacks open_image",
        [("    def open_image", "    def opened_image")],
    ),
    "a title of two lines": ("", "no usable title", [('"My dataset"', "'a\\nb'")]),
    "a source that is a number": ("", "no usable bibtex", [('bibtex = ""', "bibtex = 5")]),
    "a root by word": ("", "no usable needs_root", [("needs_root = False", "needs_root = 'no'")]),
    "counts in a dict": ("", "no usable anchors", [(NAME, NAME + "    anchors = {'images': 5}\n")]),
    "the end of the program": (
        "annotations",
        "os._exit(0) was called",
        [(RETURN, "        import os\n        os._exit(0)\n" + RETURN)],
    ),
    "no data set": ("", "is not a dataset", [("class MyDataset(Dataset):", "class MyDataset:")]),
    "a file that can't be imported": ("", "can't be imported", [(IMPORT, "import no_such_mod\n")]),
}
_COUNT = itertools.count()


def write(folder: Path, changes: list[tuple[str, str]]) -> str:
    """The spec of the template with these changes, in a file of its own."""
    text = TEMPLATE
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    path = folder / f"faulty_{next(_COUNT)}.py"
    path.write_text(text, encoding="utf-8")
    return f"{path}:MyDataset"
