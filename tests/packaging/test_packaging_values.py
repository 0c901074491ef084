"""Numbers in sentences: what a mark shows of its file, and what is refused."""

import json

import pytest

from mlfsic_bench.errors import BenchError
from tools import refresh_docs
from tools.values import fill, value

TABLE = {
    "kind": "mlfsic-bench reproduced table",
    "title": "T",
    "published": None,
    "reference": None,
    "caption": [],
    "rows": [
        {
            "name": "Yan (best)",
            "method": "yan",
            "state": "",
            "notes": [],
            "published_row": None,
            "runs": 2 * [{"folder": "a", "key": "b", "seed": 0}],
            "cells": {
                "macro_ap": {
                    "measured": 48.604, "half_width": 0.1, "image_half_width": 0.254, "low": 47.0,
                    "high": 49.0, "published": 36.1, "difference": 12.504, "paired": -1.006,
                    "paired_half_width": 0.2, "paired_image_half_width": 0.3,
                }
            },
        },
        {"name": "Out", "method": "out", "state": "not run: no file", "notes": [],
         "published_row": None, "runs": [],
         "cells": {"macro_ap": {}}},
    ],
}  # fmt: skip
OTHER = {"runs": [{"seed": 0, "labels": [{"name": "a star", "mean": 0.8259}]}], "n": 200}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "t.json").write_text(json.dumps(TABLE))
    (tmp_path / "o.json").write_text(json.dumps(OTHER))
    (tmp_path / "README.md").write_text("# Read me\n")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "address", "shown"),
    [
        ("t.json", "Yan (best)|macro_ap|measured", "48.60 ± 0.25"),
        ("t.json", "Yan (best)|macro_ap|seeds", "47.00–49.00"),
        ("t.json", "Yan (best)|macro_ap|published", "36.10"),
        ("t.json", "Yan (best)|macro_ap|difference", "+12.50"),
        ("t.json", "Yan (best)|macro_ap|paired", "−1.01 ± 0.30"),
        ("o.json", "runs|0|labels|a star|mean", "0.83"),
        ("o.json", "runs|0|labels|a star|mean|%", "82.6 %"),
        ("o.json", "n", "200"),
    ],
)
def test_a_value_is_that_of_its_file(root, source, address, shown):
    assert value(root, source, address) == shown
    line = f"It is <!-- value: {source} {address} -->old<!-- end -->, or <!-- value: o.json n -->"
    made = fill(f"{line}<!-- end -->.\n```\n<!-- value: as -->\n```", root, "a.md")
    assert made == f"{line}200<!-- end -->.\n```\n<!-- value: as -->\n```".replace("old", shown)
    assert fill(made, root, "a.md") == made


@pytest.mark.parametrize(
    ("source", "address", "found"),
    [
        ("none.json", "n", "a .json file"),
        ("README.md", "n", "a .json file"),
        ("t.json", "Yan|macro_ap|measured", "a row of Yan (best), Out"),
        ("t.json", "Yan (best)|f1|measured", "ROW|METRIC|KIND"),
        ("t.json", "Yan (best)|macro_ap", "ROW|METRIC|KIND"),
        ("t.json", "Yan (best)|macro_ap|measure", "one of measured, seeds"),
        ("t.json", "Out|macro_ap|measured", "a number"),
        ("t.json", "Out|macro_ap|paired", "a number"),
        ("o.json", "runs|1", "one of 0 in place of 1"),
        ("o.json", "runs|0|labels", "the way to a number"),
    ],
)
def test_a_value_that_is_nowhere_is_refused(root, source, address, found):
    with pytest.raises(BenchError, match="a value asks for something") as caught:
        value(root, source, address)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["a <!-- value: o.json n -->200", "a <!-- value: o.json -->1<!-- end -->",
     "  <!-- value: o.json n -->200<!-- end -->"],
)  # fmt: skip
def test_a_mark_that_cannot_be_read_is_refused(root, capsys, line):
    (root / "README.md").write_text(line)
    assert refresh_docs.main([], root) == 2
    assert "README.md, line 1" in capsys.readouterr().err
    assert (root / "README.md").read_text() == line
