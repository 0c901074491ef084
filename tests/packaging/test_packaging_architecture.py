"""The structure of the package: no cycle, no arrow upwards, and the page that shows it."""

from __future__ import annotations

import re
from pathlib import Path

from tools.architecture import BEGIN, END, LAYERS, PAGE, layer_of, measure, table

STRUCTURE = measure()
MOST_LINES = 500


def test_there_is_no_cycle_of_modules_and_no_arrow_upwards():
    assert STRUCTURE.cycles == []
    assert STRUCTURE.upward == []
    assert STRUCTURE.arrows > 500  # imports were found at all


def test_a_cycle_and_an_arrow_upwards_are_seen(tmp_path: Path):
    for name, text in {
        "mlfsic_bench/data/a.py": "from mlfsic_bench.cli import b\n",
        "mlfsic_bench/cli/b.py": "def f():\n    import mlfsic_bench.data.a\n",
        "baselines/c.py": "from mlfsic_baselines import d\n",
        "baselines/d.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from mlfsic_baselines.c import x\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = measure(tmp_path)
    assert found.upward == [("mlfsic_bench.data.a", "mlfsic_bench.cli.b")]
    assert sorted(found.cycles) == [
        ["baselines.c", "baselines.d"],
        ["mlfsic_bench.cli.b", "mlfsic_bench.data.a"],
    ]


def test_every_module_has_a_layer_of_its_folder():
    folders = {name.rpartition(".")[0].split(".")[1] for name in STRUCTURE.modules
               if name.count(".") > 1 and name.startswith("mlfsic_bench.")}  # fmt: skip
    assert folders <= {name.split(".")[1] for name, _ in LAYERS if "." in name}
    assert layer_of("mlfsic_bench.methods.word_guided.model") == "mlfsic_bench.methods.word_guided"


def test_a_file_has_at_most_500_lines():
    assert {m.name: m.lines for m in STRUCTURE.modules.values() if m.lines > MOST_LINES} == {}


def test_the_page_shows_the_rooms_as_they_are():
    shown = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    # Lines change with every commit; rooms, modules and imports of rooms are compared.
    assert _without_lines(shown) == _without_lines(table(STRUCTURE))


def _without_lines(text: str) -> list[str]:
    rows = [line.strip().split("|") for line in text.strip().split("\n") if line.startswith("|")]
    sums = re.findall(r"(\d+) modules|(\d+) cycles|(\d+) upward", text)
    return [*("|".join([*row[1:4], row[5]]) for row in rows), *map(str, sums)]
