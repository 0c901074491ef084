"""`make bench`: what a benchmark reports is collected, kept, and shown in one table of goals."""

import pytest

from benchmarks.goals import GOALS, WHY, line, parse
from mlfsic_bench.errors import BenchError
from tools import bench

SCRIPT = '''"""Something small.

    python benchmarks/bench_some.py
"""
print("ratio  3.0")
print({line!r})
'''


@pytest.fixture
def root(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    script = SCRIPT.format(line=line("linear", 12.0, "1 s (a) of 12 s"))
    (tmp_path / "benchmarks" / "bench_some.py").write_text(script)
    return tmp_path


@pytest.mark.parametrize("name", GOALS)
@pytest.mark.parametrize("value", [1e-15, 0.076, 12.5, 1549.0])
@pytest.mark.parametrize("detail", ["", "5.9 s (of one) of 4.1 s"])
def test_the_line_of_a_goal_can_be_read_again(name, value, detail):
    assert parse(f"before\n{line(name, value, detail)}\nafter") == {name: (value, detail)}


def test_the_reasons_are_of_goals():
    assert set(WHY) <= set(GOALS)


def test_what_a_benchmark_prints_is_kept_with_where_it_ran(root, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert bench.main(["--record"], root) == 0
    kept = (root / bench.TIMINGS / "some.txt").read_text().splitlines()
    assert kept[0].startswith("mlfsic-bench ")
    assert kept[3:6] == ["$ OMP_NUM_THREADS=1 python benchmarks/bench_some.py", "", "ratio  3.0"]
    assert bench.recorded(root) == {"linear": (12.0, "1 s (a) of 12 s")}
    table = capsys.readouterr().out.split("\n\n")
    assert "12x (1 s (a) of 12 s) | >= 10x" in table[1]
    assert len(table[1].splitlines()) == 2 + len(GOALS)
    assert f"not measured: {WHY['test-suite']}." in table[2]
    (root / "benchmarks" / "bench_some.py").write_text("raise SystemExit('no')\n")
    assert bench.main(["--record", "some"], root) == 1
    assert "failed: some" in capsys.readouterr().err
    assert "ratio  3.0" in (root / bench.TIMINGS / "some.txt").read_text()


def test_a_missed_goal_has_its_reason_below_the_table(monkeypatch):
    monkeypatch.setitem(WHY, "linear", "it waits for the disk")
    table = bench.goals_table({"linear": (2.0, ""), "table": (0.5, "")}, only_these=True)
    rows, reasons = table.split("\n\n")
    assert [row.split("|")[-2].strip() for row in rows.splitlines()[2:]] == ["yes", "**no**"]
    assert reasons == "- linear fine-tuning, faster than one by one, 2x: it waits for the disk."


def test_the_page_says_what_a_script_is_and_what_it_printed(root):
    (root / bench.TIMINGS).mkdir(parents=True)
    (root / bench.TIMINGS / "some.txt").write_text("ratio 3.0\n")
    (root / bench.TIMINGS / "tests.txt").write_text("elsewhere\n")
    assert bench.sections(root) == "### some\n\nSomething small.\n\n```text\nratio 3.0\n```"
    (root / bench.TIMINGS / "gone.txt").write_text("ratio 3.0\n")
    with pytest.raises(BenchError, match="has no script"):
        bench.sections(root)


def test_an_unknown_benchmark_is_refused(root, capsys):
    with pytest.raises(SystemExit):
        bench.main(["other"], root)
    assert "'other' is none of some, full, growth, estimate, tests" in capsys.readouterr().err
