"""Learning curves: values against the runs', slopes against known lines, text and picture."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import stats

from mlfsic_bench.analysis.curve import Curve, Level, Line, Point, curve
from mlfsic_bench.analysis.curve_tables import as_csv, as_table, sentences, slope
from mlfsic_bench.analysis.plots.curve import draw
from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import largest_base_labels, select_parts
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.results.result import Result, open_result
from mlfsic_bench.results.table import to_markdown
from tests.analysis.compared import values
from tests.fakes.world import Mean, Trained, fake_inputs, fake_split

pytestmark = pytest.mark.slow


def run_of(
    folder: Path, images: int | None, seed: int = 0, method: type = Trained, **options: object
) -> Path:
    split = options.pop("split", None) or fake_split()
    labels = options.pop("labels", None)
    inputs = fake_inputs(method, split=split, episodes=3, seed=seed, **options)  # type: ignore[arg-type]
    if images is not None or labels is not None:
        inputs = replace(inputs, selection=select_parts(split, images, labels))  # type: ignore[arg-type]
    return execute(inputs, folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds on 40, 60 and all 80 base images, and a method that does not train."""
    top = tmp_path_factory.mktemp("curve")
    found = [run_of(top / f"{n}-{s}", n, s) for n in (60, 40, None) for s in (1, 0)]
    return [*found, run_of(top / "mean", None, method=Mean)]


@pytest.fixture(scope="module")
def runs(folders: list[Path]) -> list[Result]:
    return [open_result(folder) for folder in folders]


def point(images: int, *values: float, half: float = 1.0) -> Point:
    both = {"macro_ap": values, "micro_ap": tuple(v / 2 for v in values)}
    return Point(images, tuple(range(len(values))), both, {"macro_ap": half, "micro_ap": half})


def made(*lines: Line, levels: tuple[Level, ...] = (), subset: bool = False) -> Curve:
    return Curve(
        split="fake-v1",
        split_hash="0" * 64,
        subset=subset,
        episodes=200,
        of_episodes=200,
        labels="3 novel labels",
        backbone="fake",
        embeddings="none",
        base_images=20_000,
        chance={"macro_ap": 30.0, "micro_ap": 20.0},
        lines=lines,
        levels=levels,
    )


def markdown(curve: Curve, metric: str = "macro_ap") -> str:
    return to_markdown([as_table(curve, metric)])


def log_line(a: float, b: float, offsets: tuple[float, ...] = (0.0,)) -> Line:
    sizes = (200, 1000, 5000, 20_000)
    return Line(
        "exact", tuple(point(n, *(a + b * math.log10(n) + o for o in offsets)) for n in sizes)
    )


def test_points_are_those_of_the_runs(runs: list[Result]) -> None:
    found = curve(runs)
    (line,), (level,) = found.lines, found.levels
    assert line.name == "fake-trained"
    assert [p.images for p in line.points] == [40, 60, 80]
    assert all(p.seeds == (0, 1) for p in line.points)
    assert (level.name, level.point.images) == ("fake-mean", 0)
    assert found.base_images == 80
    by = {
        (r.record.base_images.used if r.record.base_images else 80, r.record.method.seed): r
        for r in runs
        if r.record.method.trains
    }
    for p in line.points:
        for metric in ("macro_ap", "micro_ap"):
            each = np.stack([values(by[p.images, s].path, metric) for s in p.seeds])
            assert p.values[metric] == pytest.approx(100 * each.mean(1))
            assert p.mean(metric) == pytest.approx(100 * each.mean())
            assert p.half_width[metric] == pytest.approx(100 * t_interval(each.mean(0))[1])
            assert (p.low(metric), p.high(metric)) == (min(p.values[metric]), max(p.values[metric]))


def test_other_parameters_make_another_line(runs: list[Result], tmp_path: Path) -> None:
    other = run_of(tmp_path / "other", 40, params={"steps": 3})
    names = [line.name for line in curve([*runs, open_result(other)]).lines]
    assert names == ["fake-trained (steps=30)", "fake-trained (steps=3)"]


def test_images_and_labels_that_were_trained_on(runs: list[Result], tmp_path: Path) -> None:
    split = fake_split()
    few = open_result(run_of(tmp_path / "few", 12, split=split))
    selection = select_parts(split, 12)
    assert selection.base.labels != split.base.labels
    assert len(selection.base.image_ids) < 12
    found = curve([*runs, few], [split])
    first, second = found.lines[0].points[:2]
    assert (first.images, first.used) == (12, len(selection.base.image_ids))
    assert first.labels == len(selection.base.labels) < found.base_labels
    assert (second.used, second.labels) == (40, found.base_labels)
    (row,) = (line for line in markdown(found).splitlines() if "| 12 |" in line)
    assert row.startswith(f"| fake-trained | 12 | {first.used} | {first.labels} | 1 |")
    line = next(csv.DictReader(io.StringIO(as_csv(found))))
    assert (line["base_images_used"], line["labels_used"]) == (str(first.used), str(first.labels))
    assert "the others are excluded" in markdown(found)
    assert "the others are excluded" not in markdown(curve(runs))
    alone = curve([*runs, few])  # this split can't be made anew from its name
    assert (alone.lines[0].points[0].used, alone.lines[0].points[1].used) == (None, 40)
    assert "Used is empty" in markdown(alone)


def test_a_number_of_base_labels_makes_another_line(runs: list[Result], tmp_path: Path) -> None:
    split = fake_split()
    few = len(split.base.labels) - 1
    cut = [open_result(run_of(tmp_path / f"{n}", n, labels=few)) for n in (40, None)]
    found = curve([*runs, *cut], [split])
    assert [line.name for line in found.lines] == [
        "fake-trained",
        f"fake-trained, base_labels={few}",
    ]
    left = largest_base_labels(split, few)
    assert [p.images for p in found.lines[1].points] == [40, len(left.image_ids)]
    assert {p.labels for p in found.lines[1].points} == {few}
    assert [p.used for p in found.lines[1].points] == [40, len(left.image_ids)]
    assert "the same labels at every number" in markdown(found)
    assert "the same labels at every number" not in markdown(curve(runs))
    assert found.base_images == 80
    scarce = open_result(run_of(tmp_path / "12", 12, labels=few))
    point = curve([scarce], [split]).lines[0].points[0]
    selection = select_parts(split, 12, few)
    assert (point.labels, point.used) == (
        len(selection.base.labels),
        len(selection.base.image_ids),
    )


def test_what_makes_no_curve(runs: list[Result], tmp_path: Path) -> None:
    whole = [run for run in runs if run.record.base_images is None]
    with pytest.raises(BenchError, match="no learning curve"):
        curve(whole)
    with pytest.raises(BenchError, match="nothing to compare"):
        curve([])
    again = open_result(run_of(tmp_path / "again", 80, 0))  # all 80, which a run without N has too
    with pytest.raises(BenchError, match="second run of the same point"):
        curve([*runs, again])
    split = fake_split(novel=9)
    with pytest.raises(BenchError, match="another content of the split"):
        curve([*runs, open_result(run_of(tmp_path / "split", 40, split=split))])
    card = runs[0].record.features
    assert card is not None
    weights = card.model_copy(update={"weights_hash": "1" * 64})
    record = runs[0].record.model_copy(update={"features": weights})
    foreign = replace(runs[0], record=record, sha256="1" * 64)
    with pytest.raises(BenchError, match="differ in their backbone"):
        curve([*runs, foreign])


def test_the_slope_of_an_exact_line() -> None:
    fitted = slope(log_line(10, 8, offsets=(-1.0, 0.0, 1.0)))
    assert fitted is not None
    assert fitted.images == (1000, 5000, 20_000)
    value, spread = fitted.per_doubling()
    assert value == pytest.approx(8 * math.log10(2))
    assert spread == pytest.approx((value, value))  # seeds differ in height only
    assert fitted.last == pytest.approx(value)
    at, ends = fitted.at(26_700)
    assert at == pytest.approx(10 + 8 * math.log10(26_700))
    half = 4.302653 / math.sqrt(3)  # Student's quantile with two degrees of freedom
    assert ends == pytest.approx((at - half, at + half))


def test_the_interval_of_a_slope_is_students_over_the_seeds_slopes() -> None:
    steep = [(0.0, 2.0), (0.0, 4.0), (0.0, 6.0), (0.0, 8.0)]  # (a, b) of each seed
    sizes = (1000, 10_000)
    line = Line("x", tuple(point(n, *(a + b * math.log10(n) for a, b in steep)) for n in sizes))
    fitted = slope(line)
    assert fitted is not None
    assert fitted.seeds == 4
    assert fitted.lines[:, 1] == pytest.approx([2, 4, 6, 8])
    low, high = stats.t.interval(0.95, 3, 5, math.sqrt(20 / 3) / 2)
    value, spread = fitted.per_doubling()
    assert value == pytest.approx(5 * math.log10(2))
    assert spread == pytest.approx((low * math.log10(2), high * math.log10(2)))
    assert slope(Line("y", line.points[:1])) is None


def test_the_interval_of_a_slope_covers_it_with_three_seeds() -> None:
    rng = np.random.default_rng(7)
    sizes = (1000, 5000, 20_000)
    covered = 0
    for _ in range(400):
        slopes, noise = 5 + rng.normal(size=3), rng.normal(size=(3, 3))
        points = (
            point(n, *(slopes * math.log10(n) + e)) for n, e in zip(sizes, noise, strict=True)
        )
        fitted = slope(Line("x", tuple(points)))
        assert fitted is not None
        spread = fitted.per_doubling()[1]
        assert spread is not None
        covered += spread[0] <= 5 * math.log10(2) <= spread[1]
    assert 0.92 <= covered / 400 <= 0.98


def test_sentences_say_what_is_measured_and_what_is_not() -> None:
    curve_of = made(log_line(10, 8, offsets=(0.0, 0.5)))
    (alone,) = sentences(curve_of)
    assert "+2.41 points of macro-AP per doubling" in alone
    assert "[+2.41, +2.41] (95 % Student-t interval over 2 training seeds)" in alone
    assert "1,000 to 20,000" in alone
    assert alone.endswith("+2.41 between the last two points, +2.41 over all points from 200.")
    level = Line("bent", (point(200, 40.0), *(point(n, 30.0) for n in (1000, 5000, 20_000))))
    assert sentences(made(level))[0].startswith("bent: +0.00 points")
    assert "+0.00 between the last two points, -1.37 over" in sentences(made(level))[0]
    outside = sentences(curve_of, at=26_700)[1]
    assert "EXTRAPOLATION outside the measured range (1,000 to 20,000)" in outside
    assert "26,700" in outside
    inside = sentences(curve_of, at=5000)[1]
    assert "EXTRAPOLATION" not in inside
    assert "inside the range" in inside
    assert "EXTRAPOLATION" in sentences(curve_of, at=500)[1]
    assert "no interval" in sentences(made(log_line(10, 8)))[0]
    assert "+1.20 points of micro-AP" in sentences(curve_of, "micro_ap")[0]
    with pytest.raises(BenchError, match="0 base images"):
        sentences(curve_of, at=0)


def test_markdown_and_csv(runs: list[Result]) -> None:
    found = curve(runs)
    text = markdown(found)
    rows = [line for line in text.splitlines() if line.startswith("| fake-")]
    assert [row.split(" | ")[1] for row in rows] == ["40", "60", "80", "any"]
    first = found.lines[0].points[0]
    assert f"{first.mean('macro_ap'):.2f} ± {first.half_width['macro_ap']:.2f}" in rows[0]
    assert f"{first.low('macro_ap'):.2f} to {first.high('macro_ap'):.2f}" in rows[0]
    assert text.index("macro-AP") < text.index("micro-AP")
    swapped = markdown(found, "micro_ap")
    assert swapped.index("micro-AP") < swapped.index("macro-AP")
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [(line["base_images"], line["seed"]) for line in lines[:3]] == [
        ("40", "0"),
        ("40", "1"),
        ("40", "mean"),
    ]
    assert float(lines[1]["macro_ap"]) == pytest.approx(first.values["macro_ap"][1], abs=1e-4)
    assert lines[-1]["base_images"] == lines[-1]["labels_used"] == ""
    assert rows[0].startswith("| fake-trained | 40 | 40 | 4 | 2 |")
    assert rows[-1].startswith("| fake-mean | any |  |  | 1 |")
    assert {line["of_base_images"] for line in lines} == {"80"}


def test_a_subset_is_marked_everywhere(tmp_path: Path) -> None:
    marked = made(log_line(10, 8), subset=True)
    assert "SUBSET" in markdown(marked)
    assert "SUBSET" not in markdown(made(log_line(10, 8)))
    assert ",true," in as_csv(marked).splitlines()[1][-30:]
    draw(marked, tmp_path / "subset.svg")
    assert "SUBSET" in (tmp_path / "subset.svg").read_text()


def test_the_picture_names_what_it_shows(tmp_path: Path) -> None:
    names = ["exact", "protonet (does not train)", "chance"]
    shown = made(log_line(10, 8, (0.0, 1.0)), levels=(Level("protonet", point(0, 25.0)),))
    path = tmp_path / "curve.svg"
    draw(shown, path)
    text = path.read_text()
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    for name in (
        *names,
        "200",
        "1,000",
        "20,000",
        "novel macro-AP (per cent)",
        "base images trained on (number, logarithmic)",
        "Novel macro-AP on fake-v1",
    ):
        assert name in texts, name
    draw(shown, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == path.read_bytes()
    draw(shown, path, "micro_ap")
    assert "novel micro-AP (per cent)" in path.read_text()
    with pytest.raises(BenchError, match="can't draw into"):
        draw(shown, tmp_path / "curve.jpg")


def test_values_stand_where_they_belong(tmp_path: Path) -> None:
    """Of two level lines the one with the higher values is drawn above the other."""
    low, high = log_line(45, 0), log_line(60, 0)
    shown = made(Line("low", low.points), Line("high", high.points))
    draw(shown, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    upper = pixels[: pixels.shape[0] * 3 // 4]  # without the legend
    blue = np.abs(upper - [0x00, 0x72, 0xB2]).sum(2) < 30
    orange = np.abs(upper - [0xD5, 0x5E, 0x00]).sum(2) < 30
    assert blue.sum() > 500
    assert orange.sum() > 500
    assert np.nonzero(orange)[0].mean() < np.nonzero(blue)[0].mean() - 100


def test_names_are_data(tmp_path: Path) -> None:
    line = Line("_odd $x^2$ | <b>", log_line(10, 8).points)
    draw(made(line), tmp_path / "odd.svg")
    assert "_odd $x^2$ | &lt;b&gt;" in (tmp_path / "odd.svg").read_text()
    assert r"\_odd \$x^2\$ \| &lt;b&gt;" in markdown(made(line))


def test_the_verb(folders: list[Path], tmp_path: Path) -> None:
    names = [str(folder) for folder in folders]
    pictures = [tmp_path / "c.png", tmp_path / "c.svg"]
    outs = [word for path in pictures for word in ("--plot", str(path))]

    def output(*options: str) -> str:
        return CliRunner().invoke(cli, ["curve", *names, *options], catch_exceptions=False).output

    text = output()
    assert text.splitlines()[0].split()[:2] == ["Method", "Base"]
    plain = output(*outs, "--format", "markdown")
    assert plain.startswith("| Method | Base images | Used | Labels | Seeds | macro-AP |")
    with Image.open(pictures[0]) as picture:
        assert picture.size[0] > 800
    assert pictures[1].read_bytes().startswith(b"<?xml")
    assert "EXTRAPOLATION" not in plain
    assert "at 26,700 base images" in " ".join(output("--at", "26700").split())
    assert output("--metric", "micro_ap", "--format", "markdown").startswith(
        "| Method | Base images | Used | Labels | Seeds | micro-AP |"
    )
    assert output("--format", "csv").startswith("method,trains,base_images,")


def test_a_wrong_option_leaves_no_picture(folders: list[Path], tmp_path: Path) -> None:
    names = [str(folder) for folder in folders]
    for options, reason in ((["--metric", "makro_ap"], "macro_ap"), (["--at", "0"], "at least 1")):
        with pytest.raises(BenchError) as caught:
            CliRunner().invoke(
                cli,
                ["curve", *names, "--plot", str(tmp_path / "c.png"), *options],
                catch_exceptions=False,
            )
        assert reason in str(caught.value)
    assert not list(tmp_path.iterdir())
