"""The verb `episodes` on a small split that stands in for a shipped one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli import episodes as verb
from mlfsic_bench.cli.main import cli
from mlfsic_bench.episodes import files
from mlfsic_bench.episodes.files import draw_episodes, read_episodes
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.splits import resolve
from mlfsic_bench.splits.split import Part, Split


def make_split() -> Split:
    def part(name: str, labels: tuple[str, ...]) -> Part:
        targets = np.arange(60)[:, None] % np.array([2, 3]) == 0
        targets[:, 0] |= ~targets.any(axis=1)
        return Part(labels, tuple(f"{name}/{i:02d}" for i in range(60)), targets)

    parts = {"base": part("b", ("a", "b")), "val": part("v", ("c", "d")),
             "novel": part("n", ("cat", "sofa"))}  # fmt: skip
    return Split("toy-v1", "f" * 64, "toy", "open", parts)  # type: ignore[arg-type]


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    made = make_split()

    def stand_in(name: str, **options: object) -> Split:
        if name != made.id:
            raise unknown_name("split", name, [made.id])
        return made

    monkeypatch.setattr(resolve, "resolve_split", stand_in)
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr(files, "shipped_folder", lambda: tmp_path / "shipped")
    monkeypatch.setattr(verb, "_needs_data", lambda *options: False)
    monkeypatch.chdir(tmp_path)
    return made


def call(*args: str) -> Result:
    return CliRunner().invoke(cli, ["episodes", *args], catch_exceptions=False)


def test_sample_writes_the_official_counts(split: Split, tmp_path: Path) -> None:
    for part, count in (("novel", 200), ("val", 100)):
        result = call("sample", "toy-v1", "--part", part)
        assert result.exit_code == 0
        read = read_episodes(tmp_path / f"toy-v1.{part}-episodes.json", split)
        assert len(read.episodes) == count
        assert read.hash in result.output


def test_sample_then_verify_a_file(split: Split, tmp_path: Path) -> None:
    assert call("sample", "toy-v1", "--count", "5", "--out", "my.json").exit_code == 0
    result = call("verify", "my.json")
    assert result.exit_code == 0
    assert "my.json: regenerates byte for byte" in result.output
    data = (tmp_path / "my.json").read_bytes()
    (tmp_path / "my.json").write_bytes(data + b"\n")
    result = call("verify", "my.json", "--split", "toy-v1")
    assert result.exit_code == 1
    assert "my.json: differs" in result.output


def test_verify_shipped_files_by_id_and_all(split: Split, tmp_path: Path) -> None:
    for part in ("val", "novel"):
        path = tmp_path / "shipped" / f"toy-v1.{part}-episodes.json"
        path.write_bytes(draw_episodes(ONE_PER_LABEL, split, part, 3).format())
    for args in ((), ("toy-v1",)):
        result = call("verify", *args)
        assert result.exit_code == 0
        assert result.output.count("regenerates byte for byte") == 2


def test_verify_refuses_what_is_neither(split: Split, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="nothing to verify"):
        call("verify", "toy-v2")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(BenchError, match="does not name its split"):
        call("verify", "x.json")


def test_show_by_split_and_by_file(split: Split, tmp_path: Path) -> None:
    call("sample", "toy-v1", "--count", "3", "--out", "my.json")
    by_split, by_file = call("show", "toy-v1", "2"), call("show", "my.json", "2")
    assert by_split.exit_code == 0
    assert by_split.output == by_file.output
    episode = draw_episodes(ONE_PER_LABEL, split, "novel", 3).episodes[2]
    for image in episode.support + episode.query:
        assert image in by_split.output
    assert "sofa" in by_split.output
    with pytest.raises(BenchError, match="no episode 3"):
        call("show", "my.json", "3")


def test_show_says_when_an_episode_is_not_official(split: Split) -> None:
    assert "note" not in call("show", "toy-v1", "199").output
    assert "not among the 200 official episodes" in call("show", "toy-v1", "200").output
    assert "not among the 100 official" in call("show", "toy-v1", "100", "--part", "val").output
