"""Files in every layout, written here byte by byte, and what can be wrong with them."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfsic_bench.errors import BenchError
from mlfsic_bench.words import binary_vectors
from mlfsic_bench.words.load import load_words
from mlfsic_bench.words.lookup import look_up
from mlfsic_bench.words.read import read_entries
from tests.searches import examples


def pack(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # the time of day would stand in the tests' names


VECTORS = {"cat": [1.5, -2.0, 0.1], "dog": [3.25, 1e-7, 7.0], "hot": [0.0, 4.0, -1.0]}
LABELS = ["dog", "hot dog", "cat"]


def binary(vectors, *, header=None, newline=True):
    """word2vec's binary format, written with struct."""
    d_w = len(next(iter(vectors.values())))
    data = (header or f"{len(vectors)} {d_w}\n").encode()
    for word, values in vectors.items():
        name = word if isinstance(word, bytes) else word.encode()
        data += name + b" " + b"".join(struct.pack("<f", value) for value in values)
        data += b"\n" if newline else b""
    return data


def text(vectors, *, header=True):
    first = f"{len(vectors)} {len(next(iter(vectors.values())))}\n" if header else ""
    return (first + "".join(f"{w} {' '.join(map(repr, v))}\n" for w, v in vectors.items())).encode()


def put(folder: Path, data: bytes, name: str = "vectors.any") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


LAYOUTS = {
    "text": (text(VECTORS, header=False), "text"),
    "header": (text(VECTORS), "text with header"),
    "binary": (binary(VECTORS), "word2vec binary"),
    "no newlines": (binary(VECTORS, newline=False), "word2vec binary"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_vectors_and_hash(tmp_path, layout, packed):
    data, described = LAYOUTS[layout]
    path = put(tmp_path, pack(data) if packed else data)
    words = load_words(path, LABELS)
    expected = np.array([VECTORS["dog"], [1.625, 2.0, 3.0], VECTORS["cat"]], np.float32)
    assert np.allclose(words.vectors, expected, rtol=1e-6)
    assert words.hash == load_words(put(tmp_path, LAYOUTS["text"][0], "t"), LABELS).hash
    entries = look_up(path, LABELS).entries
    assert entries.layout == described + (", gzip" if packed else "")
    assert (entries.count, entries.dimension) == (3, 3)


@pytest.mark.slow
@examples(60)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters=" \n\0"), min_size=1, max_size=9),
        st.lists(st.floats(-1e9, 1e9, width=32), min_size=3, max_size=3),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
    st.integers(1, 40),
)
def test_binary_vectors_survive_exactly(tmp_path_factory, vectors, newline, block):
    path = put(tmp_path_factory.mktemp("w"), binary(vectors, newline=newline))
    before = binary_vectors.BLOCK
    binary_vectors.BLOCK = block
    try:
        entries = read_entries(path, set(vectors))
    finally:
        binary_vectors.BLOCK = before
    if entries.layout == "word2vec binary":  # a vector whose bytes are all printable is text
        assert {w: v.tolist() for w, v in entries.vectors.items()} == vectors


@pytest.mark.slow
def test_entries_across_the_border_of_blocks(tmp_path):
    rng = np.random.default_rng(0)
    vectors = {f"w{i}": rng.normal(size=300).astype(np.float32).tolist() for i in range(3000)}
    path = put(tmp_path, binary(vectors))
    assert path.stat().st_size > 3 * binary_vectors.BLOCK
    entries = read_entries(path, set(vectors))
    assert {word: vector.tolist() for word, vector in entries.vectors.items()} == vectors


@pytest.mark.parametrize("d_w", [1, 2, 300])
def test_binary_is_told_from_text_at_any_dimension(tmp_path, d_w):
    vectors = {"cat": [0.5] * d_w, "dog": [-1.25] * d_w}
    for data, layout in ((binary(vectors), "word2vec binary"), (text(vectors), "text with header")):
        entries = read_entries(put(tmp_path, data), {"dog"})
        assert entries.layout == layout
        assert entries.vectors["dog"].tolist() == vectors["dog"]


def test_the_first_of_equal_entries_counts_and_is_reported(tmp_path):
    vector = struct.pack("<2f", 1, 2), struct.pack("<2f", 3, 4)
    path = put(tmp_path, b"2 2\ncat " + vector[0] + b"\ncat " + vector[1])
    lookup = look_up(path, ["cat"])
    assert lookup.vector("cat").tolist() == [1, 2]
    assert lookup.entries.repeated == ("cat",)
    path = put(tmp_path, b"2 2\ncat 1 2\ncat 3 4\n")
    assert look_up(path, ["cat"]).entries.repeated == ("cat",)


@pytest.mark.parametrize("write", [binary, lambda v: text({"cat": [1, 2]}) + b"\xff\xe9 3 4\n"])
def test_entries_that_are_not_utf8_are_passed_over_and_counted(tmp_path, write):
    data = write({"cat": [1, 2], b"\xff\xe9": [3, 4]}).replace(b"1 2\n", b"2 2\n", 1)
    entries = look_up(put(tmp_path, data), ["cat"]).entries
    assert (entries.count, entries.undecodable) == (2, 1)
    assert entries.vectors["cat"].tolist() == [1, 2]


def test_an_entry_of_white_space_is_passed_over(tmp_path):
    path = put(tmp_path, b"3 3\ncat 1 2 3\n  4 5 6\ndog 7 8 9\n")
    assert load_words(path, ["dog"]).vectors.tolist() == [[7, 8, 9]]


GOOD = binary(VECTORS)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GOOD[:-30], ["shorter than its header says"]),
        (GOOD[:-5], ["entry 3", "end of the file within entry 3"]),
        (pack(GOOD[:-5]), ["entry 3", "end of the file within entry 3"]),
        (pack(GOOD)[:-20], ["not a whole gzip file"]),
        (b"\x1f\x8b\x08rest 1 2\n", ["not a whole gzip file"]),
        (GOOD + b"more", ["entry 4", "more bytes after the last entry"]),
        (binary(VECTORS, header="2 3\n"), ["entry 3", "more bytes"]),
        (binary(VECTORS, header="4 3\n"), ["shorter", "4 entries"]),
        (binary(VECTORS, header="2 5\n"), ["can't be read as word2vec's binary"]),
        (binary({"cat": [1.0, float("nan")]}), ["entry 1", "NaN or infinity", "'cat'"]),
        (binary({"cat": [1.0, float("inf")]}), ["entry 1", "NaN or infinity"]),
        (binary(VECTORS, header="9999999999 300\n"), ["shorter", "9999999999 entries"]),
        (binary(VECTORS, header="3 1000000000\n"), ["line 1", "dimension from 1 to 100000"]),
        (binary(VECTORS, header="3 0\n"), ["line 1", "dimension from 1 to 100000"]),
        (binary(VECTORS, header=f"{'9' * 30} 3\n"), ["line 1", "number of entries"]),
        (pack(b"9999999999 3\n" + GOOD[4:]), ["entry 4", "end of the file"]),
        (b"1 3\n" + b"x" * 5000, ["line 2 is not a line of vectors"]),
        (binary({"cat": [1.0], "x" * 5000: [2.0]}), ["entry 2", "no space within 4096 bytes"]),
        (b"1 3\na\0b " + struct.pack("<3f", 1, 2, 3), ["entry 1", "zero bytes"]),
        (b"3 3\ncat 1 2 3\ndog 4 5 6\n", ["3 entries", "2"]),
        (b"1 3\ncat 1 2 3\ndog 4 5 6\n", ["1 entries", "2"]),
        (b"9999999999 3\ncat 1 2 3\n", ["9999999999 entries"]),
        (b"2 3\ncat 1 x 3\ndog 4 5 6\n", ["line 2", "'x'"]),
        (b"\xba\x16O/" + bytes(40), ["fastText model (.bin)", ".vec"]),
        (b"PK\x03\x04" + bytes(40), ["a zip archive", "unpack"]),
        (b"\x80\x04\x95" + bytes(40), ["a pickle, which is never loaded"]),
        (b"\x93NUMPY" + bytes(40), ["a numpy array"]),
        (pack(pack(GOOD)), ["inside a gzip"]),
        (b"cat 1e60 1\n", ["'cat'", "float32"]),
    ],
)
def test_damage_is_one_error_that_names_it(tmp_path, data, says):
    with pytest.raises(BenchError) as error:
        load_words(put(tmp_path, data), ["cat"])
    for words in says:
        assert words in str(error.value)


def test_a_hostile_header_costs_no_memory(tmp_path):
    import tracemalloc

    path = put(tmp_path, pack(b"999999999 100000\ncat " + b"\x01" * 1000))
    tracemalloc.start()
    with pytest.raises(BenchError, match="entry 1"):
        load_words(path, ["cat"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_memory_does_not_grow_with_the_file(tmp_path):
    import tracemalloc

    rows = np.zeros((20_000, 256), "<f4")
    body = b"".join(b"w%d " % i + row.tobytes() for i, row in enumerate(rows))
    path = put(tmp_path, b"20000 256\n" + body)
    tracemalloc.start()
    load_words(path, ["w19999"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 3


def test_missing_words_come_with_what_the_file_has_instead(tmp_path):
    path = put(tmp_path, b"doughnut 1 2\nFrisbee 3 4\nskis 5 6\nairplane 7 8\n")
    with pytest.raises(BenchError) as error:
        load_words(path, ["donut", "frisbee", "ski", "aeroplane", "zebra"])
    found = error.value.found
    assert "'donut' (missing: donut; the file has 'doughnut')" in found
    assert "the file has 'Frisbee'" in found
    assert "the file has 'skis'" in found
    assert "the file has 'airplane'" in found
    assert "'zebra' (missing: zebra)" in found


def test_every_missing_label_is_named(tmp_path):
    path = put(tmp_path, b"cat 1 2\n")
    labels = [f"label{i}" for i in range(20)]
    with pytest.raises(BenchError) as error:
        load_words(path, labels)
    assert all(label in error.value.found for label in labels)


@pytest.mark.parametrize("labels", [["cat", "cat"], ["cat", " "], ["hot dog", "hot_dog"]])
def test_a_list_of_labels_must_make_sense(tmp_path, labels):
    with pytest.raises(BenchError, match="not one to look up"):
        load_words(put(tmp_path, b"cat 1 2\n"), labels)
