"""Vectors of a big file are found once for a list of words, and then taken from the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlfsic_bench import kept_arrays as kept
from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.embeddings import kept_vectors
from mlfsic_bench.embeddings.label_embeddings import load_embeddings, look_up
from mlfsic_bench.errors import BenchError

TEXT = "the 0.1 0.2\ndog 1 2\nhot 3 4.5\ndog 9 9\ncat -1 1e-3\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "LEAST_BYTES", 0)
    return tmp_path / "cache" / "vectors"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read."""
    files: list[Path] = []
    real = kept_vectors.read_entries

    def spy(path: Path, *said: Any) -> Any:
        files.append(path)
        return real(path, *said)

    monkeypatch.setattr(kept_vectors, "read_entries", spy)
    return files


def put(folder: Path, text: str = TEXT) -> Path:
    path = folder / "vectors.txt"
    path.write_text(text)
    return path


def test_a_second_look_opens_no_file_and_finds_the_same(
    tmp_path: Path, cache: Path, read: list[Path]
) -> None:
    path = put(tmp_path)
    first, again = (look_up(path, ["hot dog", "cat", "dogs"]) for _ in range(2))
    assert len(read) == 1
    assert again.found == first.found
    assert again.missing == first.missing
    assert again.missing[0].near == ("dog",)
    own, kept_ones = first.entries, again.entries
    assert list(kept_ones.vectors) == list(own.vectors)
    for name, vector in own.vectors.items():
        assert kept_ones.vectors[name].tobytes() == vector.tobytes()
    for name in ("dimension", "count", "undecodable", "repeated", "layout", "promised"):
        assert getattr(kept_ones, name) == getattr(own, name)
    one, other = (load_embeddings(path, ["dog", "cat"]) for _ in range(2))
    assert one.hash == other.hash
    assert len(read) == 2  # other words
    assert len(list(cache.iterdir())) == 2


def test_a_changed_file_is_read_anew(tmp_path: Path, cache: Path, read: list[Path]) -> None:
    first = load_embeddings(put(tmp_path), ["dog"])
    second = load_embeddings(put(tmp_path, TEXT.replace("dog 1 2", "dog 1 20")), ["dog"])
    assert first.hash != second.hash
    assert len(read) == 2
    assert len(list(cache.iterdir())) == 1


def test_a_file_with_a_fault_is_not_kept(tmp_path: Path, cache: Path, read: list[Path]) -> None:
    path = put(tmp_path, TEXT + "end 1\n")
    for _ in range(2):
        with pytest.raises(BenchError, match="line 6"):
            load_embeddings(path, ["dog"])
    assert len(read) == 2
    assert not cache.is_dir()


@pytest.mark.parametrize(
    "change",
    [
        {"entries": ["dog", "cow"]},
        {"entries": ["dog", "dog"]},
        {"entries": ["dog"]},
        {"entries": None},
        {"repeated": "dog"},
        {"repeated": ["cow"]},
        {"dimension": 3},
        {"dimension": None},
        {"count": True},
        {"undecodable": "0"},
        {"layout": 1},
        {"promised": "1"},
        {"about": {}},
        {"vectors": np.full((2, 2), np.nan)},
        {"vectors": np.zeros((2, 2), np.float32)},
        {"vectors": np.zeros(2)},
    ],
)
def test_damaged_vectors_are_found_anew(
    tmp_path: Path, cache: Path, read: list[Path], change: dict[str, Any]
) -> None:
    path = put(tmp_path)
    first = load_embeddings(path, ["dog", "cat"])
    (place,) = cache.iterdir()
    arrays = read_arrays(place, kind="kept", required=["said", "vectors"])
    if "vectors" in change:
        arrays |= change
    else:
        said = kept.parse_json(arrays["said"].tobytes().decode()) | change
        arrays["said"] = np.frombuffer(kept.canonical_json(said), np.uint8)
    write_arrays(place, arrays)
    assert load_embeddings(path, ["dog", "cat"]).hash == first.hash
    assert len(read) == 2
    assert load_embeddings(path, ["dog", "cat"]).hash == first.hash
    assert len(read) == 2


def test_words_that_are_no_text_are_looked_up_all_the_same(tmp_path: Path, cache: Path) -> None:
    assert look_up(put(tmp_path), ["dog", "\ud800"]).missing[0].label == "\ud800"
