"""`mlfsic-bench reproduce`: what is run and with what, and runs that fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from tests.experiments.reproduced import FILE, reproduce, result_of, runs_of, small

pytestmark = pytest.mark.slow


def test_only_runs_the_rows_named_and_shows_what_is_there(tmp_path: Path) -> None:
    file = small(tmp_path)
    text = reproduce(file, "--only", "Random").stdout
    assert [name.split("-")[0] for name in runs_of(file)] == ["random"]
    assert "Linear: not run: left out by --only" in text
    reproduce(file, "--only", "ProtoNet")
    rows = result_of(file)
    assert rows["Random"]["cells"]["macro_ap"]["measured"] is not None
    assert rows["Linear"]["state"] == "not run: left out by --only"
    with pytest.raises(BenchError, match="did you mean 'Random'"):
        reproduce(file, "--only", "Randon")


BROKEN = """
from mlfsic_bench.methods.contract import Method
class Broken(Method):
    name = "broken"
    def adapt(self, support):
        raise RuntimeError("this one breaks")
"""


def test_a_failing_run_does_not_stop_the_other_rows(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    row = "  - {name: Broken, method: mine, episodes: 4}\nrows_end"
    text = FILE.replace("rows:\n", "rows:\n" + row).replace("rows_end", "")
    file = small(tmp_path, text)
    keep = tmp_path / "kept"
    given = ("--method", f"mine={tmp_path}/broken.py:Broken")
    result = reproduce(file, "--seeds", "1", "--archive", str(keep), *given, code=1)
    assert "this one breaks" in result.stderr
    assert "nothing was archived" in result.stderr
    assert not keep.exists()
    assert "1 run failed" in result.stderr
    rows = result_of(file)
    assert rows["Broken"]["state"].startswith("failed: ")
    assert rows["Broken"]["cells"]["macro_ap"]["measured"] is None
    assert rows["Linear"]["cells"]["macro_ap"]["measured"] is not None
    assert "failed" in result.stdout


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((), "unknown method in a file 'mine'(.|\n)*--method NAME=path/to/file.py:Class"),
        (("mine=broken.py:Broken", "other=broken.py:Broken"), "unknown method of the file"),
        (("mine=protonet",), "'protonet'"),
        (("mine=broken.py:Broken", "random=broken.py:Broken"), "'random' is registered"),
        (("mine=a.py:A", "mine=b.py:B"), "'mine' twice"),
        (("broken.py:Broken",), "NAME=path/to/file.py:Class, each name once"),
        (("mine=none.py:Broken",), "no readable file none.py"),
    ],
)
def test_what_a_name_stands_for_is_said_once(
    given: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    row = "  - {name: Broken, method: mine, episodes: 4}\n  - {name: Random, method: random}\n"
    file = small(tmp_path, FILE[: FILE.index("reference")] + "rows:\n" + row)
    options = [word for one in given for word in ("--method", one)]
    with pytest.raises(BenchError, match=says):
        reproduce(file, "--dry-run", *options)


def test_backbone_and_weights_change_what_is_run(tmp_path: Path) -> None:
    rows = FILE[: FILE.index("  - name: Linear")].replace("reference: Linear\n", "")
    file = small(tmp_path, rows)
    seen = []
    for args in ((), ("--backbone", "scenes-patch"), ("--weights", "none")):
        text = reproduce(file, "--only", "ProtoNet", *args).stdout
        stem = "small-scenes_patch" if "scenes-patch" in args else "small"
        seen.append(result_of(file, stem)["ProtoNet"]["cells"]["macro_ap"]["measured"])
        assert ("scenes-patch for resnet50" in text) == ("scenes-patch" in args)
    assert len(set(seen)) == 3


def test_features_and_cache(tmp_path: Path) -> None:
    rows = "  - {name: L, method: linear, settings: {tune_epochs: 1}, episodes: 1}\n"
    file = small(tmp_path, FILE[: FILE.index("reference")] + "rows:\n" + rows)
    cache = ("--cache", str(tmp_path / "cache"))
    reproduce(file, "--seeds", "1", "--features", "live", *cache)
    assert not (tmp_path / "cache").exists()
    reproduce(file, "--seeds", "1", *cache)
    assert (tmp_path / "cache").is_dir()
    modes = set()
    for path in (tmp_path / "out" / "scenes" / "runs").glob("*/record.json"):
        modes.add(json.loads(path.read_text())["features"]["mode"])
    assert modes == {"live", "stored"}


def test_device_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = small(tmp_path)
    with pytest.raises(BenchError, match="there is no cuda"):
        reproduce(file, "--dry-run", "--device", "cuda")
    result = reproduce(file, "--only", "Random", "--device", "cuda", code=1)
    assert "no cuda here" in result.stderr


def test_a_data_root_is_asked_for_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    args = ["reproduce", "table1", "--dataset", "coco-subset", "--out", str(tmp_path / "out")]
    for more, says in (([], "needs a data root"), (["--data-root", "none"], "none")):
        for dry in ([], ["--dry-run"]):
            with pytest.raises(BenchError, match=says):
                CliRunner().invoke(cli, [*args, *more, *dry], catch_exceptions=False)
    with pytest.raises(BenchError, match="needs a data root"):  # no row of it has a run
        CliRunner().invoke(cli, ["reproduce", "table3", *args[2:]], catch_exceptions=False)
    command = [*args, "--data-root", str(tmp_path), "--dry-run"]
    with pytest.raises(BenchError, match="there is no"):
        CliRunner().invoke(cli, command, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_runs_of_one_command_share_split_and_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.features.backbones import known
    from mlfsic_bench.splits import resolve

    counts = {"split": 0, "network": 0}

    def counted(name: str, whole: object) -> object:
        def call(*args: object, **given: object) -> object:
            counts[name] += 1
            return whole(*args, **given)  # type: ignore[operator]

        return call

    monkeypatch.setattr(resolve, "resolve_file", counted("split", resolve.resolve_file))
    monkeypatch.setattr(known, "known_backbones", counted("network", known.known_backbones))
    reproduce(small(tmp_path), "--seeds", "2")
    assert counts == {"split": 1, "network": 1}
