"""`make docs-tables`: what stands in a block, and what is refused."""

import json
import lzma
from pathlib import Path

import pytest

from mlfsic_bench.errors import BenchError
from tools import refresh_docs
from tools.costs import costs
from tools.views import split_row, view

TABLE = """# A title

| Row | | macro AP | micro AP |
|:--|:--|--:|--:|
| A \\[new\\] | measured | 1.00 ± 0.10 | 2.00 |
|  | 2 seeds | 0.90–1.10 | 1.90–2.10 |
| B\\|c | measured | 3.00 | 4.00 |

- Split x-v1.
- SUBSET: part of the images.

![a picture](a.png)

| other | |
|:--|--:|
| z | 9.00 |
"""


def cell(measured, **more):
    return {"measured": measured, **more}


def row(name, runs, state, **cells):
    run = {"folder": "a", "key": "b", "seed": 0}
    return {"name": name, "method": name.lower(), "notes": [], "runs": [run] * runs, "state": state,
            "published_row": None, "cells": cells}  # fmt: skip


JSON = {
    "kind": "mlfsic-bench reproduced table",
    "title": "T",
    "published": None,
    "reference": None,
    "caption": ["Split x-v1.", "SUBSET: part.", "Something else."],
    "rows": [
        row(
            "A_1",
            2,
            "",
            macro_ap=cell(
                1.0, image_half_width=0.1, low=0.9, high=1.1, published=2.0, difference=-1.0
            ),
            micro_f1=cell(5.0),
        ),
        row(
            "B",
            1,
            "",
            macro_ap=cell(3.0, paired=2.0, paired_image_half_width=0.5),
            micro_f1=cell(6.0),
        ),
        row("C", 0, "not run: no weights", macro_ap=cell(None), micro_f1=cell(None)),
    ],
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "t.md").write_text(TABLE)
    (tmp_path / "results" / "t.json").write_text(json.dumps(JSON))
    (tmp_path / "results" / "t.txt").write_text("one  two\n")
    (tmp_path / "README.md").write_text("# Read me\n")
    return tmp_path


def shown(root, source, **options):
    return view(root, source, options, root / "docs")


def test_a_markdown_file_is_shown_without_its_title_and_with_links_of_the_page(root):
    text = shown(root, "results/t.md")
    assert "A title" not in text
    assert "![a picture](../results/a.png)" in text
    assert "| A \\[new\\] | measured | 1.00 ± 0.10 | 2.00 |" in text
    assert text.endswith("From [`results/t.md`](../results/t.md).\n")


def test_rows_columns_and_tables_can_be_chosen(root):
    text = shown(root, "results/t.md", table="1", rows="A", columns="micro AP")
    assert "| A \\[new\\] | measured | 2.00 |\n|  | 2 seeds | 1.90–2.10 |\n" in text
    assert "3.00" not in text
    assert "9.00" not in text
    assert "1.00" not in text
    assert "a.png" not in text
    assert "Split" not in text
    assert "SUBSET" in text  # never left out
    assert "| B\\|c | measured | 3.00 | 4.00 |" in shown(root, "results/t.md", table="1")
    assert "SUBSET" in shown(root, "results/t.md", show="tables")
    assert "9.00" in shown(root, "results/t.md", show="tables")
    only = shown(root, "results/t.md", show="pictures")
    assert "a.png" in only
    assert "4.00" not in only
    assert "Split" in shown(root, "results/t.md", show="caption")


def test_a_reproduced_table_has_one_line_for_each_row(root):
    text = shown(root, "results/t.json")
    assert text.splitlines()[:5] == [
        "| Row | macro AP | seeds, macro AP | published, macro AP | difference, macro AP "
        "| paired, macro AP |",
        "|:--|--:|--:|--:|--:|--:|",
        "| A\\_1 | 1.00 ± 0.10 | 0.90–1.10 | 2.00 | -1.00 | - |",
        "| B | 3.00 | - | - | - | +2.00 ± 0.50 |",
        "| C | not run | - | - | - | - |",
    ]
    for line in (
        "- Split x-v1.",
        "- SUBSET: part.",
        "interval over images",
        "- C: not run: no weights.",
    ):
        assert line in text
    assert "Something else" not in text


def test_values_metrics_and_rows_of_a_reproduced_table_can_be_chosen(root):
    text = shown(
        root, "results/t.json", columns="micro_f1", values="measured", rows="B", show="tables"
    )
    assert text.splitlines()[:3] == ["| Row | micro F1 |", "|:--|--:|", "| B | 6.00 |"]
    assert "SUBSET" in text
    assert "Split" not in text


def test_two_tables_stand_beside_each_other(root):
    other = json.loads((root / "results" / "t.json").read_text())
    other["rows"] = other["rows"][1:]
    other["rows"][0]["cells"]["macro_ap"] |= {"measured": 7.0, "image_half_width": 0.5}
    (root / "results" / "u.json").write_text(json.dumps(other))
    text = shown(
        root, "results/t.json", columns="macro_ap", beside="results/u.json", heads="Photos|Drawings"
    )
    assert text.splitlines()[:4] == [
        "| Row | method | Photos: macro AP | Drawings: macro AP |",
        "|:--|:--|--:|--:|",
        "| B | `b` | 3.00 | 7.00 ± 0.50 |",
        "| C | `c` | not run | not run |",
    ]
    assert "- Photos: SUBSET: part." in text
    assert "- Drawings: Split x-v1." in text
    assert text.endswith("(../results/t.json) and [`results/u.json`](../results/u.json).\n")


def test_a_text_file_is_fenced(root):
    assert shown(root, "results/t.txt").startswith("```text\none  two\n```\n")


@pytest.mark.parametrize(
    ("source", "options", "found"),
    [
        ("results/u.md", {}, "none there"),
        ("results/t.png", {}, "none there"),
        ("results/t.md", {"rows": "B|d"}, "one of A, A [new], B|c"),
        ("results/t.md", {"columns": "macro ap"}, "macro AP"),
        ("results/t.md", {"table": "3"}, "'3'"),
        ("results/t.md", {"values": "measured"}, "values"),
        ("results/t.md", {"show": "table"}, "nearest: 'tables'"),
        ("results/t.json", {"rows": "A"}, "A_1"),
        ("results/t.json", {"columns": "macro AP"}, "macro_ap"),
        ("results/t.json", {"values": "measure"}, "nearest: 'measured'"),
        ("results/t.json", {"table": "1"}, "table"),
        ("results/t.txt", {"rows": "A"}, "rows"),
    ],
)
def test_what_a_file_has_not_is_refused(root, source, options, found):
    with pytest.raises(BenchError, match="a block asks for something") as caught:
        shown(root, source, **options)
    assert found in str(caught.value)


def test_pages_are_filled_once_and_then_left(root, capsys):
    page = root / "docs" / "deep" / "a.md"
    page.write_text(
        "Before\n\n<!-- table: results/t.json rows=A_1 columns=macro_ap show=tables -->\nold\n"
        "<!-- end -->\n\n```\n<!-- table: nowhere -->\n```\n\n<!-- table: results/t.txt -->\n"
        "<!-- end -->\nAfter\n"
    )
    before = page.read_text()
    assert refresh_docs.main(["--check"], root) == 1
    assert page.read_text() == before
    assert "make docs-tables" in capsys.readouterr().err
    assert refresh_docs.main([], root) == 0
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("Before\n\n<!-- table: results/t.json rows=A_1")
    assert text.endswith("<!-- end -->\nAfter\n")
    assert "](../../results/t.json)" in text
    assert "```text\none  two\n```" in text
    assert refresh_docs.main(["--check"], root) == 0
    (root / "results" / "t.txt").write_text("three\n")
    assert refresh_docs.main(["--check"], root) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<!-- table: results/t.md -->\n", "<!-- end -->"),
        ("<!-- table: results/t.md -->\n<!-- table: results/t.md -->\n<!-- end -->", "line 1"),
        ("x\n<!-- table: results/t.md row=A -->\n<!-- end -->", "row=A"),
        ("<!-- table: results/t.md rows=A rows=B -->\n<!-- end -->", "once"),
        ("<!-- table results/t.md -->\n<!-- end -->", "table: FILE"),
    ],
)
def test_a_block_that_cannot_be_read_is_refused(root, capsys, text, found):
    (root / "README.md").write_text(text)
    assert refresh_docs.main([], root) == 2
    assert found in capsys.readouterr().err
    assert (root / "README.md").read_text() == text


def test_a_file_with_the_marks_of_a_block_is_refused(root, capsys):
    (root / "results" / "t.txt").write_text("<!-- end -->\n")
    (root / "README.md").write_text("<!-- table: results/t.txt -->\n<!-- end -->\n")
    assert refresh_docs.main([], root) == 2
    assert "marks of blocks" in capsys.readouterr().err


def test_the_command_is_a_target_of_make():
    makefile = (Path(refresh_docs.ROOT) / "Makefile").read_text("utf-8")
    assert "\ndocs-tables: " in makefile
    assert "-m tools.refresh_docs" in makefile
    assert refresh_docs.COMMAND == "make docs-tables"


def test_the_cost_of_a_row_is_that_of_its_trials_and_runs():
    folder = refresh_docs.ROOT / "results" / "measured" / "coco-subset"
    table = json.loads((folder / "reality-check.json").read_text())
    row = next(row for row in table["rows"] if row["name"] == "KGGR")
    trials = json.loads(lzma.decompress((folder / "reality-check.trials.json.xz").read_bytes()))
    records = [trials["runs"][trial["folder"]]["record"] for trial in row["trials"]]
    runs = [folder / "runs" / run["folder"] / "record.json" for run in row["runs"]]
    records += [json.loads(path.read_text()) for path in runs]
    seconds = sum(stage["seconds"] for record in records for stage in record["stages"])
    lines = [split_row(line) for line in costs(refresh_docs.ROOT).splitlines()]
    assert [cells[1] for cells in lines if cells[0] == "KGGR"] == [f"{seconds / 60:.1f}"]
    assert len(records) == len(row["trials"]) + len(row["runs"]) > 4
