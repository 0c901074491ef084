"""Plots: the numbers in them against the stored scores, the files, hostile names, every option."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner, Result
from PIL import Image
from sklearn.metrics import average_precision_score

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.scores import read_scores
from mlfsic_bench.metrics.average_precision import expected_random_ap
from mlfsic_bench.report import lineup
from mlfsic_bench.report.compare import compare
from mlfsic_bench.report.lineup import Entry, Lineup, line_up
from mlfsic_bench.report.plot_calibration import calibration
from mlfsic_bench.report.plot_difference import difference
from mlfsic_bench.report.plot_frame import Plot, data, form_of, picture, plain
from mlfsic_bench.report.plot_labels import labels
from mlfsic_bench.report.plot_pr import precision_recall
from mlfsic_bench.report.plot_training import training
from mlfsic_bench.report.runs import read_run
from mlfsic_bench.report.truth import SplitPlace, Truth, stored_truth
from tests.fakes.world import Mean, Trained, fake_run, fake_split

EPISODES = 7
HOSTILE = "_=$\\frac{1}{0}$ <b>&amp; \u202e\U0001f600\uffff漢字 " + "x" * 60


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    top = tmp_path_factory.mktemp("plots")
    found = [
        fake_run(top / "mean", Mean, episodes=EPISODES),
        fake_run(top / "trained", Trained, episodes=EPISODES),
    ]
    write_history(found[1])
    return found


def write_history(folder: Path, *rows: tuple[int, float, float | None]) -> None:
    rows = rows or ((10, 2.0, None), (20, 0.5, 0.61), (30, 0.15, 0.72), (40, 0.1, 0.72))
    lines = [json.dumps({"step": s, "loss": x, "lr": 0.1, "value": v}) for s, x, v in rows]
    (folder / "history.jsonl").write_text("\n".join(lines))


def table(plot: Plot) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data(plot))))


def stored(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    run = read_run(folder)
    return run.scores.scores, run.answers.targets.astype(bool)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def made(
    method: str = "hostile",
    names: tuple[str, ...] = ("a", "b", "c"),
    subset: bool = False,
    n: int = 1,
) -> Lineup:
    """A lineup in memory with any names, which no reader has looked at."""
    E, Q, L = 4, 12, len(names)
    e, q, label = np.indices((E, Q, L))
    y = (e + 2 * q + label) % 3 == 0
    query = np.array([[f"q{e}{q}" for q in range(Q)] for e in range(E)])
    entries = []
    for i in range(n):
        rng = np.random.default_rng(i)
        meta = read_scores_meta().model_copy(update={"labels": list(names)})
        meta = meta.model_copy(
            update={
                "method": meta.method.model_copy(update={"name": method, "seed": i}),
                "split": meta.split.model_copy(update={"subset": subset, "id": method}),
                "episodes": meta.episodes.model_copy(update={"count": E, "total": E + subset}),
            }
        )
        scores = read_scores_of(rng.normal(size=(E, Q, L)).astype(np.float32), meta)
        source = lineup.Source(Path(f"{i}.npz"), scores, None, str(i))
        entries.append(Entry(f"{method}{i}", (source,)))
    result = Lineup(tuple(entries), SplitPlace(), ())
    result.__dict__["truth"] = Truth(y, query, None, None, None, "stored")
    return result


def read_scores_meta() -> object:
    return META[0].meta


def read_scores_of(array: np.ndarray, meta: object) -> object:
    return replace(META[0], scores=array, meta=meta)


META: list[object] = []


@pytest.fixture(autouse=True)
def _meta(folders: list[Path]) -> None:
    META[:] = [read_scores(folders[0] / "scores.npz")]


def every_plot(of: Lineup) -> list[Plot]:
    return [precision_recall(of), precision_recall(of, "episodes"), labels(of), calibration(of)]


def test_labels_are_the_means_of_scikit_learns(folders: list[Path]) -> None:
    rows = table(labels(line_up(folders, seeds_apart=True)))
    assert len(rows) == 6
    order = list(dict.fromkeys(row["label"] for row in rows))
    means = {}
    for row in rows:
        folder = folders[["fake-mean", "fake-trained"].index(row["run"])]
        s, y = stored(folder)
        i = ("hen", "ibis", "jay").index(row["label"])
        each = [100 * average_precision_score(y[e, :, i], s[e, :, i]) for e in range(EPISODES)]
        assert float(row["ap"]) == pytest.approx(np.mean(each))
        half = scipy.stats.t.ppf(0.975, EPISODES - 1) * scipy.stats.sem(each)
        assert float(row["over_episodes"]) == pytest.approx(half)
        assert float(row["over_images"]) >= float(row["over_episodes"]) - 1e-12
        chance = [expected_random_ap(int(y[e, :, i].sum()), y.shape[1]) for e in range(EPISODES)]
        assert float(row["chance"]) == pytest.approx(100 * np.mean(chance))
        assert int(row["episodes"]) == EPISODES
        means.setdefault(row["label"], []).append(np.mean(each))
    assert order == sorted(means, key=lambda label: -np.mean(means[label]))


@pytest.mark.parametrize("pooling", ["pooled", "episodes"])
def test_precision_recall_is_read_off_the_thresholds(folders: list[Path], pooling: str) -> None:
    rows = table(precision_recall(line_up(folders), pooling))
    assert len(rows) == 2 * 4 * 200
    s, y = stored(folders[1])
    if pooling == "pooled":
        s, y = s.reshape(1, -1, 3), y.reshape(1, -1, 3)
    own = [row for row in rows if row["run"] == "fake-trained"]
    found: dict[str, list[float]] = {}
    for row in own:
        found.setdefault(row["label"], []).append(float(row["precision"]))
    for i, label in enumerate(("hen", "ibis", "jay")):
        curves = []
        for scores, targets in zip(s[:, :, i], y[:, :, i], strict=True):
            at = []
            for k in range(1, 201):
                for threshold in np.unique(scores)[::-1]:
                    chosen = scores >= threshold
                    if targets[chosen].sum() * 200 >= k * targets.sum():
                        break
                at.append(100 * targets[chosen].mean())
            curves.append(at)
        assert found[label] == pytest.approx(np.mean(curves, axis=0).tolist())
        ap = [100 * average_precision_score(t, x)
              for x, t in zip(s[:, :, i], y[:, :, i], strict=True)]  # fmt: skip
        one = next(row for row in own if row["label"] == label)
        assert float(one["ap"]) == pytest.approx(np.mean(ap))
        assert float(one["prevalence"]) == pytest.approx(100 * y[:, :, i].mean())
    mean = np.mean([found[label] for label in ("hen", "ibis", "jay")], axis=0)
    assert found[""] == pytest.approx(mean.tolist())
    if pooling == "episodes":
        macro = 100 * read_run(folders[1]).values(("macro_ap",))["macro_ap"].mean()
        assert float(own[0]["ap"]) == pytest.approx(macro)


def test_calibration_is_counted_cell_by_cell(folders: list[Path]) -> None:
    rows = table(calibration(line_up(folders), bins=4))
    assert [row["run"] for row in rows] == ["fake-mean"] * 4 + ["fake-trained"] * 4
    for folder, own in ((folders[0], rows[:4]), (folders[1], rows[4:])):
        s, y = stored(folder)
        p = 1 / (1 + np.exp(-s.astype(float)))
        ece = 0.0
        for row in own:
            low, high = float(row["bin_low"]), float(row["bin_high"])
            inside = (p >= low) & ((p < high) | (high == 1.0))
            assert int(row["cells"]) == inside.sum()
            if not inside.any():
                assert row["confidence"] == row["positive"] == ""
                continue
            assert float(row["confidence"]) == pytest.approx(p[inside].mean())
            assert float(row["positive"]) == pytest.approx(y[inside].mean())
            ece += inside.mean() * abs(p[inside].mean() - y[inside].mean())
        assert float(own[0]["ece"]) == pytest.approx(ece)
        assert f"above 0.5: {100 * (s > 0).mean():.1f} % of cells" in own[0]["note"]
        assert f"positive: {100 * y.mean():.1f} %" in own[0]["note"]


def test_what_the_threshold_measures_is_told() -> None:
    base = made()
    source = base.entries[0].sources[0]

    def note(scores: np.ndarray, decisions: np.ndarray | None = None) -> str:
        new = replace(source.scores, scores=scores.astype(np.float32), decisions=decisions)
        entry = Entry("x", (replace(source, scores=new),))
        changed = Lineup((entry,), SplitPlace(), ())
        changed.__dict__["truth"] = base.truth
        return table(calibration(changed))[0]["note"]

    s = source.scores.scores
    assert "All scores lie above 0" in note(np.abs(s) + 1)
    assert "All scores lie at or below 0" in note(np.zeros_like(s))
    assert "a rule of its own: yes to 100.0 %" in note(s, np.ones(s.shape, bool))
    assert re.search("says yes [0-9.]+ times as often", note(s))


def test_differences_are_those_of_compare(folders: list[Path]) -> None:
    report = compare(folders, metrics=["macro_ap", "micro_f1"])
    rows = table(difference(report))
    assert [row["metric"] for row in rows] == ["macro_ap", "micro_f1"]
    for row, metric in zip(rows, report.metrics, strict=True):
        (pair,) = metric.pairs
        figures = [100 * (x or 0) for x in (pair.mean, pair.episodes, pair.images)]
        assert [float(row[n]) for n in ("difference", "over_episodes", "over_images")] == figures
    many = report.metrics[0].pairs[0]
    pairs = [many.model_copy(update={"mean": (7 * i % 10) / 10}) for i in range(10)]
    metric = report.metrics[0].model_copy(update={"pairs": pairs})
    plotted = table(difference(report.model_copy(update={"metrics": [metric]})))
    shown = [float(row["difference"]) for row in plotted]
    assert shown == sorted(shown, reverse=True)
    metric = metric.model_copy(update={"pairs": pairs * 7})
    with pytest.raises(BenchError, match="70 pairs are too many") as error:
        difference(report.model_copy(update={"metrics": [metric]}))
    assert "--against" in error.value.remedy


def test_training_shows_the_history(folders: list[Path]) -> None:
    plot = training(line_up(folders[1:]))
    rows = table(plot)
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40]
    assert [float(row["loss"]) for row in rows] == [2.0, 0.5, 0.15, 0.1]
    assert [row["val_macro_ap"] for row in rows] == ["", "61.0", "72.0", "72.0"]
    # the earliest of equals; whether it was kept is not known of this method
    assert [row["marked"] for row in rows] == ["", "", "highest on val", ""]
    assert "highest on val, step: 30, val macro-AP 72.0." in plot.alt


@pytest.mark.parametrize(
    ("select", "valued", "marks"),
    [
        ("best", True, ["", "kept", ""]),
        ("last", True, ["", "", "kept"]),
        ("best", False, ["", "", "kept"]),
        (None, False, ["", "", "kept"]),
    ],
)
def test_which_step_was_kept(
    folders: list[Path], tmp_path: Path, select: str | None, valued: bool, marks: list[str]
) -> None:
    folder = shutil.copytree(folders[1], tmp_path / "run")
    (folder / "history.jsonl").unlink()
    (folder / "checkpoints").mkdir(exist_ok=True)
    rows = [(i, 1.0, v if valued else None) for i, v in ((1, 0.1), (2, 0.3), (3, 0.2))]
    write_history(folder / "checkpoints", *rows)  # where a run leaves it
    of = line_up([folder])
    source = of.first
    card = source.scores.meta.method
    parameters = {**card.parameters, **({"select": select} if select else {})}
    meta = source.scores.meta.model_copy(
        update={"method": card.model_copy(update={"parameters": parameters})}
    )
    new = replace(source, scores=replace(source.scores, meta=meta))
    plot = training(Lineup((Entry("x", (new,)),), SplitPlace(), ()))
    assert [row["marked"] for row in table(plot)] == marks
    assert ("nothing was evaluated" in picture(plot, "svg").decode()) is not valued


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"step": 1}',
        '{"step": 1, "loss": "a", "lr": 0.1, "value": null}',
        '{"step": 0, "loss": 1.0, "lr": 0.1, "value": null}',
        '{"step": 1, "loss": NaN, "lr": 0.1, "value": null}',
        '{"step": 1, "loss": 1.0, "lr": 0.1, "value": 7}',
        '{"step": true, "loss": 1.0, "lr": 0.1, "value": null}',
        '{"step": 2, "loss": 1.0, "lr": 0.1, "value": null}\n' * 2,
    ],
)
def test_a_history_that_makes_no_sense(folders: list[Path], tmp_path: Path, text: str) -> None:
    folder = shutil.copytree(folders[1], tmp_path / "run")
    (folder / "history.jsonl").write_text(text)
    with pytest.raises(BenchError, match="not a readable training history"):
        training(line_up([folder]))


def test_what_has_no_history(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="has no training history") as error:
        training(line_up(folders[:1]))
    assert "no history.jsonl" in error.value.found
    file = shutil.copy(folders[1] / "scores.npz", tmp_path / "scores.npz")
    with pytest.raises(BenchError, match="has no training history") as error:
        training(line_up([Path(file)]))
    assert error.value.found == "a scores file"


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_files_are_equal_every_time_and_hold_no_date(folders: list[Path], form: str) -> None:
    of = line_up(folders)
    plots = [difference(compare(folders))]
    if form == "svg":
        plots += [*every_plot(of), training(line_up(folders[1:]))]
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
def test_hostile_names_are_drawn_as_they_are(form: str) -> None:
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


def compare_of(of: Lineup) -> object:
    """A comparison of entries that lie in memory."""
    report = compare_report(of)
    assert len(report.metrics[0].pairs) == 1  # type: ignore[attr-defined]
    return report


def compare_report(of: Lineup) -> object:
    from mlfsic_bench.report import compare as module

    original = module.line_up
    module.line_up = lambda *a, **k: of  # type: ignore[assignment]
    try:
        return compare([Path("a"), Path("b")])
    finally:
        module.line_up = original


def test_a_subset_and_a_part_of_the_episodes_stand_in_the_title(tmp_path: Path) -> None:
    split = fake_split(subset={"available_only": True})
    folder = fake_run(tmp_path / "a", Trained, episodes=6, count=4, split=split)
    other = fake_run(tmp_path / "b", Mean, episodes=6, count=4, split=split)
    write_history(folder)
    mark = "(SUBSET of the split's images) (first 4 of 6 episodes)"
    of = line_up([folder])
    plots = [*every_plot(of), difference(compare([folder, other]))]
    plots = [plot for plot in plots if not plot.title.startswith("Training")]
    assert all(mark in plot.title for plot in plots)
    title = training(of).title  # neither of its curves knows of novel episodes
    assert "SUBSET" in title
    assert "episodes" not in title
    assert "SUBSET" in picture(plots[0], "svg").decode()
    assert "SUBSET" not in labels(made()).title


def test_what_is_too_much_for_a_picture() -> None:
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
    with pytest.raises(BenchError, match="form of a picture"):
        form_of(Path("a.gif"))


def test_labels_that_no_query_has_are_left_out() -> None:
    of = made(n=2)
    of.truth.targets[:, :, 1] = False
    rows = [row for row in table(labels(of)) if row["label"] == "b"]
    assert [(row["ap"], row["chance"], row["episodes"]) for row in rows] == [("", "", "0")] * 2
    for plot in every_plot(of):
        assert picture(plot, "svg")  # without a warning
    curve = [row for row in table(precision_recall(of)) if row["run"] == "hostile0"]
    at = [float(row["precision"]) for row in curve if row["label"] in ("a", "c")]
    mean = [float(row["precision"]) for row in curve if row["curve"] == "macro"]
    assert mean == pytest.approx((np.array(at[:200]) / 2 + np.array(at[200:]) / 2).tolist())


KINDS: dict[str, Callable[[list[Path]], Plot]] = {
    "pr": lambda folders: precision_recall(line_up(folders)),
    "labels": lambda folders: labels(line_up(folders)),
    "calibration": lambda folders: calibration(line_up(folders)),
    "difference": lambda folders: difference(compare(folders)),
    "training": lambda folders: training(line_up(folders)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_writes_picture_and_numbers(
    folders: list[Path], tmp_path: Path, kind: str
) -> None:
    runs = folders[1:] if kind == "training" else folders
    plot = KINDS[kind](runs)
    files = [tmp_path / "a.pdf", tmp_path / "b.svg"]
    result = run("plot", kind, *runs, "--out", files[0], "--out", files[1], "--data",
                 tmp_path / "c.csv")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output == plot.alt + "\n"
    assert files[0].read_bytes() == picture(plot, "pdf")
    assert files[1].read_bytes() == picture(plot, "svg")
    assert (tmp_path / "c.csv").read_text() == data(plot)
    bad = run("plot", kind, *runs, "--out", tmp_path / "a.gif", "--data", tmp_path / "d.csv")
    assert isinstance(bad.exception, BenchError)
    assert not (tmp_path / "d.csv").exists()
    assert run("plot", kind, *runs).exit_code == 2  # --out is required


@pytest.mark.parametrize(
    ("arguments", "make"),
    [
        (["pr", "--pooling", "episodes"], lambda f: precision_recall(line_up(f), "episodes")),
        (["pr", "--label", "jay"], lambda f: precision_recall(line_up(f), only=["jay"])),
        (["labels", "--label", "jay", "--label", "hen"], lambda f: labels(line_up(f),
                                                                         ["hen", "jay"])),
        (["calibration", "--bins", "3"], lambda f: calibration(line_up(f), 3)),
        (["difference", "--metric", "micro_ap"], lambda f: difference(
            compare(f, metrics=["micro_ap"]))),
        (["difference", "--against", "fake-mean"], lambda f: difference(
            compare(f, against="fake-mean"))),
    ],
)  # fmt: skip
def test_every_option_changes_the_picture(
    folders: list[Path], tmp_path: Path, arguments: list[str], make: Callable[[list[Path]], Plot]
) -> None:
    out = tmp_path / "a.svg"
    table = tmp_path / "a.csv"
    result = run("plot", arguments[0], *folders, *arguments[1:], "--out", out, "--data", table)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == picture(make(folders), "svg")
    assert table.read_text() == data(make(folders))
    assert table.read_text() != data(KINDS[arguments[0]](folders))


def test_seeds_apart(folders: list[Path], tmp_path: Path) -> None:
    again = fake_run(tmp_path / "seed", Trained, episodes=EPISODES, seed=1)
    out, table = tmp_path / "a.png", tmp_path / "a.csv"
    for flag, rows in (([], 1), (["--seeds-apart"], 3)):
        result = run("plot", "difference", *folders, again, "--out", out, "--data", table, *flag)
        assert result.exit_code == 0, result.output
        assert len(table.read_text().splitlines()) == 1 + rows


@pytest.mark.parametrize("kind", ["pr", "labels", "calibration", "difference"])
def test_where_split_and_episodes_are_is_handed_on(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    asked = []

    def truth_of(sources: list[object], place: SplitPlace) -> object:
        asked.append(place)
        return stored_truth(read_run(folders[0]))

    monkeypatch.setattr(lineup, "truth_of", truth_of)
    result = run("plot", kind, *folders, "--out", tmp_path / "a.png", "--split", "s",
                 "--data-root", "d", "--available-only", "--min-pool", "2", "--episodes-file",
                 "e")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert asked == [SplitPlace("s", Path("d"), True, 2, Path("e"))]


def test_what_can_not_be_compared_is_not_drawn(folders: list[Path], tmp_path: Path) -> None:
    other = fake_run(tmp_path / "other", Mean, episodes=5)
    for kind in ("pr", "labels", "calibration", "difference"):
        result = run("plot", kind, folders[0], other, "--out", tmp_path / "a.png")
        assert isinstance(result.exception, BenchError)
        assert "another set of episodes" in str(result.exception)
        assert not (tmp_path / "a.png").exists()
