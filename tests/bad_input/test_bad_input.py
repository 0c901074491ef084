"""Bad input of every kind: one clear error, exit code 2, nothing half-written."""

from __future__ import annotations

import importlib
import json
import pickle
from contextlib import nullcontext
from fnmatch import fnmatch

import numpy as np
import pytest

from mlfsic_bench.cli.main import main
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.features.store.store import FeatureStore
from tests.bad_input.cases import CASES, SCENES, main_ok, tree

pytestmark = pytest.mark.slow

for _module in ("data", "split", "feature", "run", "table", "score"):
    importlib.import_module(f"tests.bad_input.{_module}_cases")


# What is found out once and kept is right, whatever the command comes to afterwards.
KEPT = ["cache"] + [f"cache/{kind}{rest}" for kind in ("networks", "images", "labels", "vectors")
                    for rest in ("", "/*")]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name, tmp_path, monkeypatch, capsys):
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    args = case.prepare(tmp_path, monkeypatch)
    capsys.readouterr()
    before = tree(tmp_path)
    with (case.around or nullcontext)(), pytest.raises(SystemExit) as end:
        main(args)
    captured = capsys.readouterr()
    assert end.value.code == 2, captured.err
    assert captured.out == ""
    notes, marker, error = captured.err.partition("error: ")
    assert marker, captured.err
    assert "error:" not in error
    assert notes == "" or notes.endswith("\n")
    assert "Traceback" not in captured.err
    for entry in ("expected", "found", "to do"):
        assert error.count(f"\n  {entry}:") == 1, error
    for word in case.says:
        assert word in error, f"{word!r} not in:\n{error}"
    after = tree(tmp_path)
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    leaves = (*case.leaves, *KEPT)
    wrong = [path for path in changed if not any(fnmatch(path, kept) for kept in leaves)]
    assert wrong == []
    assert not [path for path in after if path.endswith(".tmp")]
    for store in {(tmp_path / path).parent for path in changed if path.startswith("cache/")}:
        if (store / "manifest.json").exists():
            FeatureStore(store)  # what was extracted before the error is whole
    if "out/record.json" in changed:
        record = json.loads((tmp_path / "out" / "record.json").read_text())
        assert record["status"] == "error"
        assert error.startswith(record["failure"]["message"].splitlines()[0])


def test_the_payload_would_execute(tmp_path, monkeypatch):
    """What "must not execute" rests on: read carelessly, the payload does."""
    from tests.bad_input.feature_cases import Payload

    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Payload()))
    assert (tmp_path / "executed").is_dir()


@pytest.mark.parametrize("room", [500, 20_000, 50_000])
def test_after_a_full_disk_the_same_command_finishes(room, tmp_path, monkeypatch, capsys):
    """The run fails at its record, its features or its scores; with room again it goes on."""
    from tests.bad_input.feature_cases import full_disk

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    command = ["run", "protonet", *SCENES, "--out"]
    with full_disk(room), pytest.raises(SystemExit, match="2"):
        main([*command, "out"])
    main_ok(*command, "out")
    main_ok(*command, "undisturbed", "--cache", "other")
    again, once = (read_scores(tmp_path / name / "scores.npz") for name in ("out", "undisturbed"))
    assert again.meta == once.meta
    np.testing.assert_allclose(again.scores, once.scores, rtol=1e-4, atol=1e-4)


def test_a_full_disk_in_a_test_leaves_no_code_cut_off(tmp_path, monkeypatch):
    from tests.bad_input.feature_cases import full_disk

    (tmp_path / "imported_late.py").write_text("names = " + repr([*map(str, range(50))]))
    monkeypatch.syspath_prepend(tmp_path)
    with full_disk(50):
        import imported_late
    assert len(imported_late.names) == 50
    assert not (tmp_path / "__pycache__").exists()
