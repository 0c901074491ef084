"""Plots: files that are equal every time, hostile names, titles, and what is too much."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from mlfsic_bench.analysis.compare import CompareReport, compare
from mlfsic_bench.analysis.plots.calibration import calibration
from mlfsic_bench.analysis.plots.difference import difference
from mlfsic_bench.analysis.plots.frame import data, form_of, picture, plain
from mlfsic_bench.analysis.plots.labels import labels
from mlfsic_bench.analysis.plots.precision_recall import precision_recall
from mlfsic_bench.analysis.plots.training import training
from mlfsic_bench.errors import BenchError
from mlfsic_bench.results.conditions import ResultGroup, open_group
from tests.analysis.plotted import every_plot, table, write_history
from tests.fakes.world import Mean, Trained, fake_run, fake_split

pytestmark = pytest.mark.slow

HOSTILE = "_=$\\frac{1}{0}$ <b>&amp; \u202e\U0001f600\uffff漢字 " + "x" * 60


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_files_are_equal_every_time_and_hold_no_date(plot_folders: list[Path], form: str) -> None:
    of = open_group(plot_folders)
    plots = [difference(compare(plot_folders))]
    if form == "svg":
        plots += [*every_plot(of), training(open_group(plot_folders[1:]))]
    for plot in plots:
        one, two = picture(plot, form), picture(plot, form)
        assert one == two
        assert b"CreationDate" not in one
        if form == "svg":
            assert b"<dc:date>" not in one
            root = ElementTree.fromstring(one)
            assert any(e.text == plot.alt for e in root.iter() if e.tag.endswith("description"))
        if form == "png":
            image = Image.open(io.BytesIO(one))
            assert image.text["Description"] == plot.alt  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", ["png", "svg"])
def test_hostile_names_are_drawn_as_they_are(made: Callable[..., ResultGroup], form: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of = made(HOSTILE, (HOSTILE, "$x", "_hidden\x07\x1b[31m\n"), n=2)
        plots = every_plot(of) if form == "svg" else [labels(of)]
        report = compare_of(of)
        for plot in [*plots, difference(report)]:
            drawn = picture(plot, form)
            if form == "svg":
                text = drawn.decode()
                ElementTree.fromstring(text)
                assert "<b>" not in text
                assert "\u202e" not in text
                assert "\x1b" not in text
                assert "$\\frac{1}{0}$" in text
            assert len({len(row) for row in csv.reader(io.StringIO(data(plot)))}) == 1
    svg = picture(labels(of), "svg").decode()
    assert ">$x<" in svg
    assert "_hidden" in svg  # in the legend as well as on the axis
    assert plain(HOSTILE).startswith(" _=$")
    assert plain("x" * 90 + " (seed=1)").endswith("(seed=1)")
    assert len(plain(HOSTILE)) <= 49
    assert plain("_a") == " _a"


def compare_of(of: ResultGroup) -> CompareReport:
    """A comparison of methods that lie in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlfsic_bench.analysis.compare.open_group", lambda *a, **k: of)
        report = compare([Path("a"), Path("b")])
    assert len(report.metrics[0].pairs) == 1
    return report


def test_a_subset_and_a_part_of_the_episodes_stand_in_the_title(
    made: Callable[..., ResultGroup], tmp_path: Path
) -> None:
    split = fake_split(subset={"available_only": True})
    folder = fake_run(tmp_path / "a", Trained, episodes=6, count=4, split=split)
    other = fake_run(tmp_path / "b", Mean, episodes=6, count=4, split=split)
    write_history(folder)
    mark = "(SUBSET of the split's images) (first 4 of 6 episodes)"
    of = open_group([folder])
    plots = [*every_plot(of), difference(compare([folder, other]))]
    plots = [plot for plot in plots if not plot.title.startswith("Training")]
    assert all(mark in plot.title for plot in plots)
    title = training(of).title  # neither of its curves knows of novel episodes
    assert "SUBSET" in title
    assert "episodes" not in title
    assert "SUBSET" in picture(plots[0], "svg").decode()
    assert "SUBSET" not in labels(made()).title


def test_what_is_too_much_for_a_picture(made: Callable[..., ResultGroup]) -> None:
    many = made(n=7)
    for make in (precision_recall, labels, calibration, training):
        with pytest.raises(BenchError, match="7 runs are too many"):
            make(many)
    crowd = made(names=tuple(f"l{i}" for i in range(81)))
    for draw in (precision_recall, labels):
        with pytest.raises(BenchError, match="81 labels are too many"):
            draw(crowd)
        with pytest.raises(BenchError, match="unknown label"):
            draw(crowd, only=["l99"])
    assert {row["label"] for row in table(labels(crowd, ["l3", "l1"]))} == {"l1", "l3"}
    with pytest.raises(BenchError, match="unknown pooling"):
        precision_recall(made(), "poled")
    with pytest.raises(BenchError, match="can't draw into"):
        form_of(Path("a.gif"))
