"""`mlfsic-bench run` and `table`: exit codes, and errors that come before any computing."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli, main
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.inputs import open_inputs
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.features.compute import parse_device
from tests.fakes.voc import write_voc
from tests.fakes.world import fake_run

PLAIN = ("run", "random", "--split", "scenes-12-6-6-v1", "--backbone", "scenes-small")


def error_of(*args: str) -> str:
    """The message of the BenchError that these arguments lead to."""
    with pytest.raises(BenchError) as caught:
        CliRunner().invoke(cli, args, catch_exceptions=False)
    return str(caught.value)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("run", "randon", *PLAIN[2:]), "did you mean 'random'"),
        ((*PLAIN[:3], "scenes-12-6-6", *PLAIN[4:]), "scenes-12-6-6-v1"),
        ((*PLAIN[:5], "scenes-smal"), "did you mean 'scenes-small'"),
        (("run", "protonet", *PLAIN[2:], "--set", "tempurature=1"), "tempurature"),
        ((*PLAIN, "--set", "lr"), "name=value"),
        ((*PLAIN, "--set", "a=1", "--set", "a=2"), "each parameter set once"),
        ((*PLAIN, "--preset", "papr"), "papr"),
        ((*PLAIN, "--embeddings-format", "text"), "there is none"),
        ((*PLAIN, "--episodes", "0"), "from 1 to 200"),
        ((*PLAIN, "--episodes", "201"), "from 1 to 200"),
        ((*PLAIN, "--episodes-file", "none.json"), "none.json"),
        ((*PLAIN, "--embeddings", "none.txt"), "none.txt"),
        ((*PLAIN, "--features", "end-to-end"), "trains nothing"),
    ],
)
def test_bad_options(
    args: tuple[str, ...], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in error_of(*args)
    assert not (tmp_path / "runs").exists()


def test_labels_without_vectors(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("disc 1 2\nplain 2 3\n")
    assert "labels" in error_of(*PLAIN, "--embeddings", str(tmp_path / "words.txt"))


def test_split_file_with_a_wrong_hash(tmp_path: Path) -> None:
    from importlib.resources import files

    value = json.loads((files("mlfsic_splits") / "voc-8-6-6-v1.json").read_text())
    value["hash"] = "0" * 64
    path = tmp_path / "split.json"
    path.write_text(json.dumps(value))
    assert "hash" in error_of(*PLAIN[:3], str(path), *PLAIN[4:])


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "there is no cuda" in error_of(*PLAIN, "--device", "cuda")
    assert parse_device("auto").type == "cpu"


def test_words_are_asked_of_methods_that_need_them(tmp_path: Path) -> None:
    plugin = tmp_path / "needy.py"
    plugin.write_text(
        "from mlfsic_bench.methods.contract import Method\n"
        "class Needy(Method):\n"
        "    name = 'needy'\n"
        "    needs_embeddings = True\n"
        "    def adapt(self, support):\n"
        "        return lambda query: query.pooled()\n"
    )
    plan = RunPlan(
        method=f"{plugin}:Needy",
        split="voc-8-6-6-v1",
        backbone="none",
        data_root=write_voc(tmp_path / "data"),
    )
    with pytest.raises(BenchError, match="needs label embeddings"):
        open_inputs(plan)


def test_exit_code_of_an_error_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "no-such-method", *PLAIN[2:]])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: unknown method")


def test_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlfsic_bench.evaluation.runner.run_method", interrupted)
    result: Result = CliRunner().invoke(cli, PLAIN)
    assert result.exit_code == 130


def test_table_to_the_terminal_and_to_a_file(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    shown = CliRunner().invoke(cli, ["table", str(folder)], catch_exceptions=False)
    assert "fake-mean" in shown.output
    out = tmp_path / "table.md"
    options = ["table", str(folder), "--format", "markdown", "--interval=none", "--out", str(out)]
    assert CliRunner().invoke(cli, options, catch_exceptions=False).exit_code == 0
    assert "\n| Method | Micro P |" in out.read_text()


def test_the_program_ends_at_once_after_what_is_due_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[object] = []
    monkeypatch.setattr("sys.argv", ["mlfsic-bench", "--version"])
    monkeypatch.setattr("atexit._run_exitfuncs", lambda: done.append("atexit"))
    monkeypatch.setattr("os._exit", done.append)
    monkeypatch.setattr("threading.enumerate", lambda: [threading.current_thread()])
    with pytest.raises(SystemExit):
        main(["--version"])
    assert done == []  # called from Python, which goes on
    with pytest.raises(SystemExit):
        main()
    assert done == ["atexit", 0]
    waiting = threading.Thread(target=print)
    monkeypatch.setattr("threading.enumerate", lambda: [threading.current_thread(), waiting])
    with pytest.raises(SystemExit):
        main()
    assert done == ["atexit", 0]
