"""Case A4: a nasty name through every verb and every format that shows names from files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest

from mlfsic_bench.analysis import compare as comparing
from mlfsic_bench.analysis import curve_tables, paper_table
from mlfsic_bench.analysis import score as scoring
from mlfsic_bench.analysis.attention import picture as attention_picture
from mlfsic_bench.analysis.attention import pointing
from mlfsic_bench.analysis.attention.pointing import Estimate, Pointing
from mlfsic_bench.analysis.attention.pointing import Line as PointingLine
from mlfsic_bench.analysis.compare import compare
from mlfsic_bench.analysis.curve import Curve, Level, Line, Point
from mlfsic_bench.analysis.paper_table import PaperTable, Row, Value
from mlfsic_bench.analysis.plots import curve as curve_picture
from mlfsic_bench.analysis.plots.difference import difference
from mlfsic_bench.analysis.plots.frame import data, picture
from mlfsic_bench.analysis.score import score_files
from mlfsic_bench.cli.leaderboard import board_files
from mlfsic_bench.cli.main import COMMANDS, cli
from mlfsic_bench.experiments import render
from mlfsic_bench.experiments import table as reproduced
from mlfsic_bench.metrics.registry import columns
from mlfsic_bench.results.targets import SplitPlace
from tests.analysis.foreign_scores import E, L, Q, foreign
from tests.fakes.entries import entry, fake_value, reported_value
from tests.text.nasty import NASTY, PLAIN, check, poisoned

Writers = dict[tuple[str, str], Callable[[str], str]]


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Writers:
    """(verb, format) -> a function from a name to what is printed of things of that name."""
    folder = tmp_path_factory.mktemp("names")
    other = np.random.default_rng(3).normal(size=(E, Q, L))
    files = [
        foreign(folder / "a.npz", method={"name": PLAIN}),
        foreign(folder / "b.npz", method={"name": PLAIN, "seed": 1}),
        foreign(folder / "c.npz", other, method={"name": f"other {PLAIN}"}),
    ]
    scored = score_files(files[:2], SplitPlace(), by="label", conventions=True)
    label = scored.labels[0]
    compared = compare(files, SplitPlace())
    values = (Value(-1.5, 0.5, best=True), *(Value(-1.5, tie=True),) * 7)
    table = PaperTable(f"On {PLAIN}", columns(), (Row(PLAIN, values, (PLAIN,)),), (f"{PLAIN}.",))
    made: Writers = {}
    for verb, module, report in (
        ("table", paper_table, [table]),
        ("sweep collect", paper_table, [table]),
        ("score", scoring, scored),
        ("compare", comparing, compared),
        ("pointing", pointing, _pointing()),
    ):
        for form, write in module.WRITERS.items():
            made[verb, form] = lambda name, w=write, r=report: w(
                poisoned(poisoned(r, name), name, label)
            )
    for form, write in curve_tables.WRITERS.items():
        made["curve", form] = lambda name, w=write: w(_curve(name), "macro_ap", None)
    result = _reproduced()
    for form in ("text", "markdown", "csv", "json"):
        write = getattr(render, f"render_{'terminal' if form == 'text' else form}")
        made["reproduce", form] = lambda name, w=write: w(poisoned(result, name))
    values = [fake_value(PLAIN), reported_value("printed", name=f"printed {PLAIN}")]
    entries = [entry(value) for value in values]
    for form, file in (("html", "index.html"), ("markdown", "leaderboard.md"),
                       ("latex", "leaderboard.tex"), ("csv", "leaderboard.csv")):  # fmt: skip
        made["leaderboard build", form] = lambda name, f=file: board_files(
            poisoned(entries, name), Path("results"), Path("results/board")
        )[1][f]
    made["plot", "csv"] = lambda name: data(difference(poisoned(compared, name)))
    return made


def _pointing() -> Pointing:
    one = Estimate(0.5, 0.1, 0.3, 0.2, 0.0, 0.1)
    line = PointingLine(PLAIN, 12, 10, 0.2, 7.0, one, one, one, one)
    return Pointing(
        PLAIN, PLAIN, PLAIN, PLAIN, 0, True, 3, 10, 12, 1, (7, 7), line, (line, line), (line,),
        (line,), (line,), line,
    )  # fmt: skip


def _curve(name: str) -> Curve:
    point = Point(200, (0, 1), dict.fromkeys(("macro_ap", "micro_ap"), (1.0, 2.0)),
                  dict.fromkeys(("macro_ap", "micro_ap"), 0.5))  # fmt: skip
    return Curve(name, "0" * 64, True, 3, 4, 2, name, name, 400, {"macro_ap": 1.0, "micro_ap": 2.0},
                 (Line(name, (point,)),), (Level(name, point),), notes=(name,))  # fmt: skip


def _reproduced() -> reproduced.ReproducedTable:
    cells = {"macro_ap": reproduced.Cell(measured=-1.5)}
    nothing = {"macro_ap": reproduced.Cell()}
    rows = (
        reproduced.TableRow(PLAIN, PLAIN, "", (PLAIN,), None, (), cells),
        reproduced.TableRow(PLAIN, PLAIN, f"not run: {PLAIN}", (), PLAIN, (), nothing),
    )
    return reproduced.ReproducedTable(PLAIN, None, None, (PLAIN,), rows)


def formats() -> set[tuple[str, str]]:
    """(verb, format) of every command that has the option --format."""
    found = set()

    def visit(command: click.Command, words: list[str]) -> None:
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                inner = command.get_command(click.Context(command), name)
                assert inner is not None
                visit(inner, [*words, name])
        for option in command.params:
            if "--format" in option.opts:
                assert isinstance(option.type, click.Choice)
                if option.type.choices != ("text", "json"):  # those are in test_text_verbs
                    found.update((" ".join(words), form) for form in option.type.choices)

    for verb in COMMANDS:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        visit(command, [verb])
    return found


def test_a4_every_format_of_every_verb_is_tried(writers: Writers) -> None:
    assert formats() <= set(writers)


def test_a4_no_format_lets_a_name_act(writers: Writers) -> None:
    for (verb, form), write in writers.items():
        try:
            check(form, write(NASTY))
        except Exception as error:
            raise AssertionError(f"{verb} --format {form}") from error


@pytest.mark.parametrize("name", ["[1ex]", "*", "*[2ex] a"])
def test_a4_a_latex_row_begins_with_braces(name: str, writers: Writers) -> None:
    for (_, form), write in writers.items():
        if form == "latex":
            check(form, write(name))


def test_d8_every_table_keeps_its_names_in_40_columns(
    writers: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for (verb, form), write in writers.items():
        if form == "text":
            lines = [line.split() for line in write("ibis").splitlines()]
            assert ["ibis"] in [line[:1] for line in lines] or verb == "compare", verb
            assert any("ibis" in line for line in lines), verb
    text = pointing.WRITERS["text"](_pointing())
    assert text.count("±10.0") == 3 * 7  # no value is cut
    assert len(re.findall(rf"(?m)^{PLAIN} ", text)) == 7


def test_a4_pictures_show_names_as_text(tmp_path: Path, writers: Writers) -> None:
    files = [foreign(tmp_path / f"{i}.npz", method={"name": f"{PLAIN}{i}"}) for i in range(2)]
    plot = difference(poisoned(compare(files, SplitPlace())))
    strip = attention_picture.Strip(
        NASTY[:17], np.zeros((8, 8, 3), np.uint8),
        (attention_picture.Panel(NASTY, np.eye(2), None),),
    )  # fmt: skip
    for svg in (
        picture(plot, "svg"),
        curve_picture.picture(_curve(NASTY), "macro_ap", "svg"),
        attention_picture.draw([strip], f"{NASTY}\nsecond line", "svg"),
    ):
        text = svg.decode()
        assert "<img" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
