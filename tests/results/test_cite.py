"""`cite`: BibTeX of what is behind runs, and the keys that LaTeX tables cite."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.methods.registry import find_method, method_names
from mlfsic_bench.results.references import citations, keys_of, printed_name
from mlfsic_bench.results.result import open_result
from tests.analysis.compared import run
from tests.analysis.foreign_scores import foreign
from tests.fakes.world import Mean, fake_run
from tests.text.nasty import NASTY, UNSEEN

BIBTEX = shutil.which("bibtex")
ENTRY = (
    "@article{{{key},\n  author = {{A and B}}, title = {{T}}, journal = {{J}}, year = {{2020}}\n}}"
)


class Cited(Mean):
    name = "cited"
    printed = "Cited"
    bibtex = ENTRY.format(key="cited2020") + "\n" + ENTRY.format(key="other2020")


class Noted(Mean):
    name = "noted"
    citation = "A work with {braces} and 50 %"


class Unwritten(Mean):
    name = "unwritten"


def shipped() -> list[str]:
    return [name for name in method_names() if ":" not in name]


def bibtex_of_all(folder: Path) -> str:
    files = [
        foreign(folder / f"{i}.npz", method={"name": name})
        for i, name in enumerate(shipped())
    ]  # fmt: skip
    runs = [fake_run(folder / each.name, each, episodes=2) for each in (Cited, Noted, Unwritten)]
    done = run("cite", *files, *runs)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_entry_stands_once(tmp_path: Path) -> None:
    text = bibtex_of_all(tmp_path)
    keys = keys_of(text)
    assert len(keys) == len(set(keys)) == text.count("\n@") + 1
    assert {"cited2020", "other2020", "noted", "yan2022inferring", "mlfsicbench"} <= set(keys)
    assert "unwritten" not in keys
    for name in shipped():
        assert set(keys_of(find_method(name).bibtex)) <= set(keys)
    entry = text[text.index("@misc{noted") :]
    assert "A work with braces and 50" in entry.split("\n}")[0]


def test_keys_in_latex_are_among_the_entries(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / each.name, each, episodes=2) for each in (Cited, Noted, Unwritten)]
    latex = run("table", *runs, "--format", "latex").output
    (found,) = re.findall(r"\\cite\{([^}]*)\}", latex)
    assert found.split(",") == ["cited2020", "other2020", "noted"]
    assert set(found.split(",")) <= set(keys_of(run("cite", *runs).output))
    assert "Cited" in latex
    alone = run("table", runs[-1], "--format", "latex").output
    assert r"\cite" not in alone


def test_a_plug_in_keeps_its_entries_in_its_record(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", Cited, episodes=2)
    assert keys_of(read_record(folder).method.bibtex) == ["cited2020", "other2020"]
    result = open_result(folder)
    assert printed_name(result) == "Cited"
    assert keys_of(citations([result, result])) == ["cited2020", "other2020", "yan2022inferring",
                                                    "mlfsicbench"]  # fmt: skip
    assert printed_name(open_result(fake_run(tmp_path / "b", Unwritten, episodes=2))) == "unwritten"


@pytest.mark.parametrize(
    "said", [NASTY.replace("\ud800", ""), r"\input{secret}", r"\immediate\write18{ls}", "\x1b[2J"]
)
def test_what_is_more_than_text_in_a_record_is_not_cited(said: str, tmp_path: Path) -> None:
    odd = ENTRY.format(key="odd2020").replace("T}", f"{said}}}")
    method = {"name": "odd", "bibtex": odd, "citation": f"A Work {said} 2020"}
    text = run("cite", foreign(tmp_path / "a.npz", method=method)).output
    assert keys_of(text)[0] == "odd"
    assert "A Work" in text
    assert "\\input" not in text
    assert "\\write" not in text
    assert not UNSEEN.search(text)


@pytest.mark.slow
@pytest.mark.skipif(BIBTEX is None, reason="needs bibtex")
def test_bibtex_reads_what_is_printed(tmp_path: Path) -> None:
    text = bibtex_of_all(tmp_path)
    (tmp_path / "all.bib").write_text(text, encoding="utf-8")
    aux = "\\citation{*}\n\\bibstyle{plain}\n\\bibdata{all}\n"
    (tmp_path / "page.aux").write_text(aux, encoding="utf-8")
    done = subprocess.run(
        [str(BIBTEX), "page"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout
    assert "error" not in done.stdout.lower()
    bbl = (tmp_path / "page.bbl").read_text("utf-8")
    assert bbl.count(r"\bibitem") == len(keys_of(text))
