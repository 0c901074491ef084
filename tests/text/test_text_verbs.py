"""Case A3: what a file or a plug-in says, through every verb that repeats it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlfsic_bench.cli.main import main
from mlfsic_bench.methods.registry import Listed
from tests.analysis.foreign_scores import ROOT, foreign
from tests.fakes.entries import fake_value, reported_value
from tests.hostile.sound import SPLIT, binary_words
from tests.text.nasty import NASTY, UNSEEN

TEXT = NASTY.replace("\ud800", "")  # which neither a YAML nor a JSON file of ours may hold
PLUGIN = """
from mlfsic_bench.methods.contract import Method

TEXT = {text!r}

class Raising(Method):
    name = "raising"
    def adapt(self, support):
        raise ValueError(TEXT * {times})

class Named(Method):
    name = TEXT
    def adapt(self, support):
        return None

class Documented(Method):
    __doc__ = "A method.\\n\\n" + TEXT.replace("\\ud800", "")  # which Python refuses
    name = "documented"
    citation = TEXT
    presets = {{TEXT: {{TEXT: TEXT}}}}
    def adapt(self, support):
        return None
"""
Case = Callable[[Path], list[str]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def yaml(folder: Path, **changes: object) -> str:
    """A YAML file (JSON is YAML) of an experiment."""
    value = {"schema_version": 1, "kind": "table", "title": "T",
             "rows": [{"name": "a", "method": "random", "episodes": 2}], **changes}  # fmt: skip
    (folder / "mine.yaml").write_text(json.dumps(value))
    return str(folder / "mine.yaml")


def plugin(folder: Path, name: str, times: int = 1, text: str = NASTY) -> str:
    (folder / "methods.py").write_text(PLUGIN.format(text=text, times=times))
    return f"{folder / 'methods.py'}:{name}"


def dry(file: str, dataset: str = "scenes") -> list[str]:
    return ["reproduce", file, "--dataset", dataset, "--dry-run"]


@case
def experiment_not_on(folder: Path) -> list[str]:
    return dry(yaml(folder, not_on={"scenes": TEXT}))


@case
def experiment_row(folder: Path) -> list[str]:
    return dry(yaml(folder, rows=[{"name": TEXT, "method": "random", "backbone": TEXT}]))


@case
def experiment_method(folder: Path) -> list[str]:
    return dry(yaml(folder, rows=[{"name": "a", "method": TEXT}]))


@case
def experiment_key(folder: Path) -> list[str]:
    return dry(yaml(folder, **{TEXT: 1}))


@case
def experiment_split(folder: Path) -> list[str]:
    return dry(yaml(folder, splits={"scenes": TEXT}))


def split(folder: Path, **changes: object) -> str:
    value = json.loads((ROOT / f"splits/{SPLIT}.json").read_text())
    value = {**value, "images": None, "hash": None, "counts": None, **changes}
    (folder / "split.json").write_text(json.dumps(value))
    return str(folder / "split.json")


def provenance() -> dict[str, str]:
    value = json.loads((ROOT / f"splits/{SPLIT}.json").read_text())["provenance"]
    return dict.fromkeys(value, TEXT)


@case
def split_provenance(folder: Path) -> list[str]:
    return ["splits", "show", split(folder, provenance=provenance())]


@case
def split_provenance_json(folder: Path) -> list[str]:
    return ["splits", "show", "--format=json", split(folder, provenance=provenance())]


@case
def split_id(folder: Path) -> list[str]:
    return ["splits", "show", split(folder, id=TEXT)]


@case
def split_labels(folder: Path) -> list[str]:
    return [
        "splits",
        "show",
        split(folder, labels={p: [f"{p} {TEXT}"] for p in ("base", "val", "novel")}),
    ]


@case
def split_audited(folder: Path) -> list[str]:
    return ["splits", "audit", split(folder, dataset=TEXT)]


@case
def episodes_of_a_split(folder: Path) -> list[str]:
    (folder / "episodes.json").write_text(json.dumps({"split_id": TEXT, "schema": TEXT}))
    return ["episodes", "verify", str(folder / "episodes.json")]


@case
def episodes_shown(folder: Path) -> list[str]:
    (folder / "episodes.json").write_text(json.dumps({"split_id": TEXT, "part": TEXT}))
    return ["episodes", "show", str(folder / "episodes.json"), "0"]


@case
def method_shown(folder: Path) -> list[str]:
    return ["methods", "show", plugin(folder, "Documented")]


@case
def method_named(folder: Path) -> list[str]:
    return ["methods", "show", plugin(folder, "Named")]


@case
def method_missing(folder: Path) -> list[str]:
    return ["methods", "show", f"{folder / 'no'}{NASTY}.py:{NASTY}".replace("\0", "")]


@case
def scores_method(folder: Path) -> list[str]:
    return ["score", str(foreign(folder / "a.npz", method={"name": TEXT}))]


@case
def scores_key(folder: Path) -> list[str]:
    return ["score", str(foreign(folder / "a.npz", **{TEXT: TEXT}))]


@case
def scores_path(folder: Path) -> list[str]:
    return ["score", str(folder / "a\x1b[2J\u202e\n.npz")]


@case
def scores_path_that_is_there(folder: Path) -> list[str]:
    path = foreign(folder / "a.npz")
    return ["score", str(path.rename(folder / "a\x1b[2J\u202e\n.npz")), "--conventions"]


@case
def words_labels(folder: Path) -> list[str]:
    (folder / "words.bin").write_bytes(binary_words())
    return ["embeddings", "show", str(folder / "words.bin"), "--labels", NASTY]


@case
def words_entry(folder: Path) -> list[str]:
    word = "".join(TEXT.split()).replace(",", "")
    (folder / "words.txt").write_text(f"{word} 0.5 1.0\nhen 1.0 2.0\n{word} 0.5 1.0\n")
    return ["embeddings", "show", str(folder / "words.txt"), "--labels", f"hen,{word}"]


@case
def entry_name(folder: Path) -> list[str]:
    write_entry(folder, fake_value("mine", name=TEXT[:120], citation=TEXT))
    return ["leaderboard", "build", "--results", str(folder), "--out", str(folder / "board")]


@case
def entry_row(folder: Path) -> list[str]:
    value = reported_value("mine", id=TEXT)
    write_entry(folder, value, "mine")
    return ["leaderboard", "check", "--results", str(folder)]


@case
def entry_checked(folder: Path) -> list[str]:
    write_entry(folder, fake_value("mine", **{TEXT: TEXT}))
    return ["submit", "check", str(folder)]


def write_entry(folder: Path, value: dict[str, object], name: str = "mine") -> None:
    place = folder / "leaderboard" / "fake-4-3-3-v1"
    place.mkdir(parents=True)
    (place / f"{name}.json").write_text(json.dumps(value))


@case
def store_manifest(folder: Path) -> list[str]:
    from mlfsic_bench.features.store.manifest import Manifest

    (folder / "cache" / "store").mkdir(parents=True)
    Manifest(TEXT, TEXT, "0" * 64, TEXT, 4, (2, 2)).write(folder / "cache" / "store")
    return ["features", "info", str(folder / "cache")]


@case
def run_record(folder: Path) -> list[str]:
    (folder / "record.json").write_text(json.dumps({"key": TEXT, "method": {"name": TEXT}}))
    return ["table", str(folder)]


@case
def card(folder: Path) -> list[str]:
    (folder / "card.yaml").write_text(json.dumps({"name": TEXT, TEXT: 1}))
    return ["submit", "pack", str(foreign(folder / "a.npz")), "--card", str(folder / "card.yaml"),
            "--out", str(folder / "out")]  # fmt: skip


@case
def argument_no_verb(folder: Path) -> list[str]:
    return [NASTY]


@case
def argument_extra(folder: Path) -> list[str]:
    return ["methods", "show", "linear", NASTY]


@case
def argument_form(folder: Path) -> list[str]:
    return ["score", "--format", NASTY, "a.npz"]


@case
def argument_setting(folder: Path) -> list[str]:
    return ["run", "linear", "--split", SPLIT, "--backbone", NASTY, "--set", f"{NASTY}=1"]


@pytest.mark.parametrize("name", CASES)
def test_a3_nothing_hidden_is_printed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = called(CASES[name](tmp_path), capsys)
    assert code in (0, 1, 2)
    assert printed
    assert not UNSEEN.search(printed), ascii(UNSEEN.sub(lambda found: f"<<{found[0]}>>", printed))
    assert "Traceback" not in printed
    for path in (tmp_path / "board").glob("*"):
        assert not UNSEEN.search(path.read_text("utf-8")), path


def test_a3_a_broken_method_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Listed(NASTY, NASTY, None, NASTY * 10_000)
    monkeypatch.setattr("mlfsic_bench.methods.registry.list_methods", lambda: [row])
    _, printed = called(["methods", "list"], capsys)
    assert not UNSEEN.search(printed)
    assert len(printed) < 20_000
    assert json.loads(called(["methods", "list", "--format=json"], capsys)[1])[0]["name"] == NASTY


def test_a3_a_long_message_of_a_plug_in_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # `methods check` once printed 96 MB of one message.
    spec = plugin(tmp_path, "Raising", times=20_000)
    code, printed = called(["methods", "check", spec], capsys)
    assert code == 1
    assert not UNSEEN.search(printed)
    assert "ValueError: =cmd" in printed
    assert "..." in printed
    assert len(printed) < 200_000


def called(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """(exit code, everything printed) of a call of the program."""
    code: object = 0
    try:
        main(args)
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code or 0, out + err


def test_sound_neighbours_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The cases above fail for what was changed in these files, not for what they are made of.
    shutil.copyfile(ROOT / f"splits/{SPLIT}.json", tmp_path / "split.json")
    for args in (
        ["splits", "show", split(tmp_path)],
        dry(yaml(tmp_path)),
        ["methods", "show", plugin(tmp_path, "Documented", text="plain")],
        ["score", str(foreign(tmp_path / "a.npz"))],
    ):
        assert called(args, capsys)[0] == 0, args
