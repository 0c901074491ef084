"""The verbs: each flag of the protocol does something, each misuse is one error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.coco import Coco
from mlfsic_bench.episodes.files import INDICES, draw_episodes, read_file
from mlfsic_bench.episodes.k_shot import LasoBalanced, LasoKShot
from mlfsic_bench.episodes.protocol import EpisodeSet
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.results.reopen import RunPaths, reopen
from mlfsic_bench.splits.split import Split
from tests.fakes.laso_world import SPLIT

LASO = ("--protocol", "laso_k_shot")


def drawn(split: Split, shots: int, count: int | None = None) -> EpisodeSet:
    return draw_episodes(LasoKShot(shots), split, "novel", count)


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], catch_exceptions=False)


def sample(root: Path, *args: object) -> Result:
    return call("episodes", "sample", SPLIT, "--data-root", root, *args)


def test_sample(root: Path, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = sample(root, *LASO, "--shots", 2).output
    assert f"10 novel episodes of {SPLIT}-unofficial, laso_k_shot-v1, K = 2" in output
    assert "query images: 48" in output
    content = read_file(tmp_path / f"{SPLIT}.2-shot-runs.json")
    assert content.on(split, "the file") == drawn(split, 2)
    sample(root, *LASO, "--shots", 1, "--count", 3, "--out", "mine.json")
    assert read_file(tmp_path / "mine.json").format() == drawn(split, 1, 3).format()


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (LASO, "any K from 1 on"),
        (("--protocol", "one_per_label", "--shots", 1), "leave out --shots, or --protocol"),
        ((*LASO, "--shots", 1, "--queries", 4), "--queries do not fit together"),
        ((*LASO, "--shots", 1, "--part", "val"), "unknown part that laso_k_shot draws from 'val'"),
        ((*LASO, "--shots", 9), "episodes with K = 9"),
    ],
)
def test_bad_samples(root: Path, tmp_path: Path, args: tuple[object, ...], reason: str) -> None:
    with pytest.raises(BenchError) as error:
        sample(root, *args, "--out", tmp_path / "none.json")
    assert reason in str(error.value)
    assert not list(tmp_path.iterdir())


def test_verify(root: Path, split: Split, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_bytes(drawn(split, 1).format())
    done = call("episodes", "verify", path, "--data-root", root)
    assert (done.exit_code, "regenerates byte for byte" in done.output) == (0, True)
    path.write_bytes(path.read_bytes() + b"\n")
    done = call("episodes", "verify", path, "--data-root", root)
    assert (done.exit_code, "same content, other bytes" in done.output) == (1, True)
    assert "1 file: 1 differ; 0 not compared" in done.output
    shipped = CliRunner(env={"MLFSIC_DATA": None}).invoke(cli, ["episodes", "verify", SPLIT])
    assert shipped.exit_code == 0
    assert shipped.output.count("no data root named") == 4
    assert shipped.output.endswith("4 files: 0 differ; 4 not compared with the split they name\n")


def test_show(root: Path, split: Split, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    content = drawn(split, 1)
    path.write_bytes(content.format())
    output = call("episodes", "show", path, 2, "--data-root", root).output
    assert all(image in output for image in content.episodes[2].support)
    assert "query: 48 images, the same in all episodes" in output
    assert "images of each label: bicycle" in output
    output = call("episodes", "show", SPLIT, 2, *LASO, "--shots", 1, "--data-root", root).output
    assert all(image in output for image in content.episodes[2].support)
    with pytest.raises(BenchError, match="has no episode 10"):
        call("episodes", "show", path, 10, "--data-root", root)


def test_import(root: Path, split: Split, tmp_path: Path) -> None:
    order = Coco(root).file_order("train2014")
    runs = [[order.index(image) for image in e.support] for e in drawn(split, 1, 2).episodes]
    path, out = tmp_path / "indices.json", tmp_path / "runs.json"
    path.write_text(json.dumps({"format": INDICES, "shots": 1, "runs": runs}))
    done = call("episodes", "import", SPLIT, path, "--out", out, "--data-root", root)
    assert "2 episodes of" in done.output
    assert not read_file(out).drawn
    assert "given" in call("episodes", "verify", out, "--data-root", root).output
    balanced = ("--protocol", "laso_k_shot_balanced")
    call("episodes", "import", SPLIT, path, "--out", out, "--data-root", root, *balanced)
    assert read_file(out).protocol == LasoBalanced(1)
    with pytest.raises(BenchError, match="say nothing about scenes"):
        call("episodes", "import", "scenes-12-6-6-v1", path, "--out", tmp_path / "no.json")
    assert not (tmp_path / "no.json").exists()


def test_run_and_table(root: Path, tmp_path: Path) -> None:
    images = ("--split", SPLIT, "--data-root", root, "--available-only")
    common = (*images, "--backbone", "scenes-small", "--device", "cpu", "--cache", tmp_path / "c")
    out = tmp_path / "run"
    done = call("run", "protonet", *common, *LASO, "--shots", 1, "--out", out)
    assert "(95 %, over episodes)" in done.output
    assert read_record(out).episodes.shots == 1
    table = " ".join(call("table", out).output.split())
    assert f"Split {SPLIT}-unofficial (" in table
    assert "laso_k_shot-v1, K = 1" in table
    assert (
        "UNOFFICIAL: the annotations differ from the official ones: images of train2014:" in table
    )
    again = reopen(out, RunPaths(data_root=root, cache=tmp_path / "c"))
    _, support = again.episode(3)
    assert support.images.ids == again.inputs.episodes.episodes[3].support
    with pytest.raises(BenchError, match="do not fit together"):
        call("run", "protonet", *common, *LASO, "--out", tmp_path / "no")
