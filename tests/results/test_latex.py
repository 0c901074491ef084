"""LaTeX tables: they compile, no line is wider than its column, and every key can be cited."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mlfsic_bench.analysis.paper_table import PaperTable, Row, Value, as_latex
from mlfsic_bench.metrics.registry import columns
from mlfsic_bench.results.table import (
    COLUMN_POINTS,
    PAGE_POINTS,
    Cell,
    Column,
    Table,
    folded_to,
    latex_layout,
    points_of,
)
from tests.text.nasty import NASTY

TEX = shutil.which("pdflatex")
NAMES = (
    "ProtoNet",
    "Word-guided attention (prototype=simple_local)",
    "Yan et al. (2022), a method with a rather long name, base_images=1000",
    "W" * 40,
    NASTY,
)
TITLE = (
    "COCO 52/12/16 (open), 16 novel labels, 1 support image per label and 4 query images per "
    "label, 200 episodes"
)
CAPTION = (
    "Means over episodes in per cent; F1 from each episode's own P and R.",
    "Split coco-52-12-16-open-v1 (0123456789ab), protocol one_per_label-v1, " + "x_" * 60,
)


def paper_table(shown: tuple[str, ...], half: float | None, names: tuple[str, ...]) -> PaperTable:
    cells = (Value(100.0, half, best=True), Value(58.88, half, tie=True), Value(None))
    rows = [Row(name, tuple(cells[i % 3] for i in range(len(shown))), ("resnet50",), (0, 1),
                ("snell2017",)) for name in names]  # fmt: skip
    return PaperTable(TITLE, shown, tuple(rows), CAPTION)


def compiled(text: str, folder: Path) -> str:
    """The log of pdflatex, and a picture of nothing: a page of class article in two columns."""
    page = (
        "\\documentclass[twocolumn]{article}\n\\usepackage[T1]{fontenc}\n"
        "\\usepackage{booktabs}\n\\begin{document}\nText.\n" + text + "\nText.\n\\end{document}\n"
    )
    (folder / "page.tex").write_text(page, encoding="utf-8")
    done = subprocess.run(
        [str(TEX), "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=folder, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    log = (folder / "page.log").read_text("utf-8", "replace")
    assert done.returncode == 0, log[-3000:]
    return log


def overfull(log: str) -> list[float]:
    return [float(x) for x in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide", log)]


KINDS = [
    (("macro_ap", "micro_ap"), 10.25, NAMES[:3], "table"),
    (("macro_ap", "micro_ap"), 10.25, NAMES, "table"),
    (("macro_ap", "micro_ap", "macro_f1", "micro_f1"), 1.25, NAMES[:2], "table"),
    (columns(), 10.25, NAMES, "table*"),
    (columns(), None, NAMES[:3], "table*"),
]


@pytest.mark.parametrize(("shown", "half", "names", "kind"), KINDS)
def test_a_table_fits_by_the_rule(
    shown: tuple[str, ...], half: float | None, names: tuple[str, ...], kind: str
) -> None:
    text = as_latex([paper_table(shown, half, names)])
    assert text.count(rf"\begin{{{kind}}}") == 1
    width = COLUMN_POINTS if kind == "table" else PAGE_POINTS
    for line in re.findall(r"^\{\}(.*) \\\\$", text, re.M):
        plain = re.sub(r"\\[a-z]+|[{}$&\\]", "", line)
        assert points_of(plain) <= 1.5 * width


@pytest.mark.slow
@pytest.mark.skipif(TEX is None, reason="needs pdflatex")
def test_no_line_is_wider_than_its_column_in_print(tmp_path: Path) -> None:
    """All kinds in one document, since TeX takes a second to start."""
    text = "\n".join(as_latex([paper_table(*kind[:3])]) for kind in KINDS)
    assert [wide for wide in overfull(compiled(text, tmp_path)) if wide > 1] == []


def test_names_are_folded_and_nothing_is_lost() -> None:
    lines = folded_to("a name of many words and " + "x" * 60, 70)
    assert all(points_of(line) <= 70 for line in lines)
    assert "".join(lines).replace(" ", "") == "anameofmanywordsand" + "x" * 60
    assert folded_to("", 70) == [""]


def test_the_first_layout_that_fits_is_taken() -> None:
    def layout(count: int, text: str) -> tuple[str, bool]:
        heads = (Column("Method", is_text=True), *(Column("AP"),) * count)
        made = latex_layout(Table(heads, (("ProtoNet", *(Cell(text),) * count),)))
        assert made.name == points_of("ProtoNet")
        return made.kind, made.stacked

    assert layout(2, "58.88 ± 1.25") == ("table", False)
    assert layout(4, "58.88 ± 1.25") == ("table", True)
    assert layout(7, "58.88 ± 1.25") == ("table*", False)
    assert layout(8, "58.88 ± 1.25") == ("table*", True)
    assert layout(8, "58.88") == ("table*", False)
