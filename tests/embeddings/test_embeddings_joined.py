"""Several sets of label embeddings as one: `--embeddings A+B`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.embeddings.joined import join, name_of, sources
from mlfsic_bench.embeddings.label_embeddings import load_embeddings, make_label_embeddings
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.inputs import open_inputs
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.recall import recall_run, remember_run
from mlfsic_bench.experiments.sweep import Sweep
from mlfsic_bench.splits.resolve import split_file

SPLIT = "scenes-12-6-6-v1"


def table(folder: Path, name: str, dimension: int, scale: float = 1.0) -> Path:
    """A file with a vector for every label of the scenes."""
    labels = [label for part in split_file(SPLIT).labels for label in part[1]]
    rng = np.random.default_rng(dimension)
    lines = [
        " ".join([label.replace(" ", "_"), *map(str, scale * rng.normal(size=dimension))])
        for label in labels
    ]
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def plan(embeddings: Path, **options: object) -> RunPlan:
    base = RunPlan("word-prior", SPLIT, "scenes-small", episodes=2, embeddings=embeddings)
    return replace(base, **options)  # type: ignore[arg-type]


def test_cosines_of_what_is_joined_are_the_mean_of_the_cosines(tmp_path: Path) -> None:
    given = [table(tmp_path, "a.txt", 5, 100.0), table(tmp_path, "b.txt", 8, 0.01)]
    joined = open_inputs(plan(tmp_path / f"a.txt+{given[1]}")).embeddings
    assert joined is not None
    assert (joined.name, joined.dimension) == ("a.txt+b.txt", 13)

    def cosines(vectors: np.ndarray) -> np.ndarray:
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return units @ units.T

    sets = [load_embeddings(path, joined.labels).vectors.astype(float) for path in given]
    expected = (cosines(sets[0]) + cosines(sets[1])) / 2
    np.testing.assert_allclose(cosines(joined.vectors.astype(float)), expected, atol=1e-6)


def test_one_set_stays_as_it_is_and_zeros_stay_zeros() -> None:
    one = make_label_embeddings(["a", "b"], np.array([[3.0, 4.0], [0.0, 0.0]]), "one")
    other = make_label_embeddings(["b", "a"], np.array([[0.0, 2.0], [5.0, 0.0]]), "other")
    assert join([one]) is one
    assert join([one, other]).vectors.tolist() == pytest.approx(
        np.array([[0.6, 0.8, 1, 0], [0, 0, 0, 1]])
    )


def test_a_file_with_a_plus_in_its_name_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "a+b.txt"
    assert [one.name for one in sources(path)] == ["a", "b.txt"]
    path.write_text("cat 1 2\n", encoding="utf-8")
    assert sources(path) == [path]
    assert name_of(path) == "a+b.txt"
    assert sources(Path(f"{path}+c.txt+{path}")) == [path, Path("c.txt"), path]


def test_a_folder_with_a_plus_in_its_name_holds_several(tmp_path: Path) -> None:
    for name in ("c++", "a+b"):
        folder = tmp_path / name
        folder.mkdir()
        first, second = table(folder, "a.txt", 5), table(folder, "b.txt", 8)
        given = Path(f"{first}+{second}+random")
        assert sources(given) == [first, second, Path("random")]
        assert name_of(given) == "a.txt+b.txt+random"


def test_nothing_on_one_side_of_a_plus_is_no_second_set() -> None:
    for text in ("a.txt+", "+a.txt", "a.txt++b.txt", "+"):
        assert sources(Path(text)) == [Path(text)]


def test_the_one_that_is_missing_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, "a.txt", 5)
    with pytest.raises(BenchError, match=r"none\.txt") as caught:
        open_inputs(plan(Path(f"{path}+{tmp_path / 'none.txt'}")))
    assert "a.txt" not in str(caught.value)


def test_words_and_files_are_joined_and_options_of_files_are_taken(tmp_path: Path) -> None:
    path = table(tmp_path, "a.txt", 5)
    made = open_inputs(plan(Path(f"{path}+random+scenes"), embeddings_format="text")).embeddings
    assert made is not None
    own = Scenes().label_embeddings(made.labels).shape[1]
    assert (made.name, made.dimension) == ("a.txt+random+scenes", 5 + 300 + own)
    with pytest.raises(BenchError, match="--embeddings-format says"):
        open_inputs(plan(Path("random+random"), embeddings_format="text"))
    with pytest.raises(BenchError, match="has no text side"):
        open_inputs(plan(Path(f"{path}+backbone")))


def test_a_changed_file_among_several_is_read_again(tmp_path: Path) -> None:
    from mlfsic_bench.evaluation.resources import ResourceCache

    first, second = table(tmp_path, "a.txt", 5), table(tmp_path, "b.txt", 8)
    opened, asked = ResourceCache(), plan(Path(f"{first}+{second}"))
    before = open_inputs(asked, opened).embeddings
    assert open_inputs(asked, opened).embeddings is before
    table(tmp_path, "b.txt", 9)
    after = open_inputs(asked, opened).embeddings
    assert after is not None
    assert after.dimension == 5 + 9


def test_each_is_remembered_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    remember_run("0" * 64, plan(Path("a.txt+random+b.txt")))
    assert recall_run("0" * 64)["embeddings"] == f"{tmp_path / 'a.txt'}+random+{tmp_path / 'b.txt'}"


def test_a_sweep_takes_several_and_no_path_out_of_the_data_root() -> None:
    made = {"schema_version": 1, "title": "t", "methods": [{"method": "word-prior"}]}
    assert Sweep(**made, embeddings=["a.txt+v/b.txt", "a.txt"]).embeddings[0] == "a.txt+v/b.txt"
    for bad in ("a.txt+../b.txt", "a.txt+/b.txt", "a.txt+"):
        with pytest.raises(ValueError, match="embeddings"):
            Sweep(**made, embeddings=[bad])
