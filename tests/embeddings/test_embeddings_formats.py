"""Files in every layout, written here byte by byte, and what can be wrong with them."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfsic_bench.embeddings import formats
from mlfsic_bench.embeddings.formats import read_entries
from mlfsic_bench.embeddings.label_embeddings import load_embeddings, look_up
from mlfsic_bench.errors import BenchError
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
    words = load_embeddings(path, LABELS)
    expected = np.array([VECTORS["dog"], [1.625, 2.0, 3.0], VECTORS["cat"]], np.float32)
    assert np.allclose(words.vectors, expected, rtol=1e-6)
    assert words.hash == load_embeddings(put(tmp_path, LAYOUTS["text"][0], "t"), LABELS).hash
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
    before = formats.BLOCK
    formats.BLOCK = block
    try:
        entries = read_entries(path, set(vectors), "binary")
    finally:
        formats.BLOCK = before
    assert {w: v.tolist() for w, v in entries.vectors.items()} == vectors


@pytest.mark.slow
def test_entries_across_the_border_of_blocks(tmp_path):
    rng = np.random.default_rng(0)
    vectors = {f"w{i}": rng.normal(size=300).astype(np.float32).tolist() for i in range(3000)}
    path = put(tmp_path, binary(vectors))
    assert path.stat().st_size > 3 * formats.BLOCK
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
    assert load_embeddings(path, ["dog"]).vectors.tolist() == [[7, 8, 9]]


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
        (b"4 3\ncat 1 2 3\ndog 4 5 6\n", ["4 entries", "2"]),
        (b"3 3\ncat 1 2 3\ndog 4 5 6", ["3 entries", "2, the last line without an end"]),
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
        load_embeddings(put(tmp_path, data), ["cat"])
    for words in says:
        assert words in str(error.value)


BIRDS = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
HEN = [
    ("text", b"hen 1 2 3\njay 4 5 6\nowl 7 8 9\n"),
    ("text with header", b"3 3\nhen 1 2 3\njay 4 5 6\nowl 7 8 9\n"),
    ("word2vec binary", binary(dict(zip(("hen", "jay", "owl"), BIRDS, strict=True)))),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("layout", "data"), HEN)
def test_a9_a_byte_order_mark_is_skipped(tmp_path, layout, data, packed):
    data = b"\xef\xbb\xbf" + data
    path = put(tmp_path, pack(data) if packed else data)
    assert load_embeddings(path, ["hen", "jay", "owl"]).vectors.tolist() == BIRDS
    entries = look_up(path, ["hen"]).entries
    assert (entries.layout, entries.count) == (layout + ", gzip" * packed, 3)


@pytest.mark.parametrize("number", ["1_0", "nan", "inf", "0x1", "1e", "١", "1,5", "--1", "1d5"])
@pytest.mark.parametrize("header", ["", "3 3\n"])
def test_a9_numbers_have_a_strict_grammar(tmp_path, number, header):
    data = f"{header}hen 1 2 3\njay 4 {number} 6\nowl 7 8 9\n".encode()
    with pytest.raises(BenchError, match=f"line {2 + bool(header)} is") as caught:
        load_embeddings(put(tmp_path, data), ["jay"])
    assert repr(number) in caught.value.found


def test_a9_the_same_number_on_line_1(tmp_path):
    with pytest.raises(BenchError, match="line 1 is") as caught:
        load_embeddings(put(tmp_path, b"hen 1_0 2 3\njay 4 5 6\n"), ["hen"])
    assert "'1_0'" in caught.value.found


@pytest.mark.parametrize("number", ["+1.5", "1.50", "15e-1", ".15E+1", "0001.5"])
def test_a9_the_ways_to_write_a_number(tmp_path, number):
    data = f"hen {number} 2.\n".encode()
    assert load_embeddings(put(tmp_path, data), ["hen"]).vectors.tolist() == [[1.5, 2]]


@pytest.mark.parametrize("data", [b"hen\t1 2 3\njay\t4 5 6\nowl\t7 8 9\n",
                                  b"3\t3\nhen\t1\t2\t3\njay\t4\t5\t6\nowl 7 8\t9\r\n"])  # fmt: skip
def test_a9_a_tab_separates_as_a_space_does(tmp_path, data):
    assert load_embeddings(put(tmp_path, data), ["hen", "jay", "owl"]).vectors.tolist() == BIRDS


def test_a9_two_separators_in_a_row_are_named(tmp_path):
    path = put(tmp_path, b"hen 1 2 3\njay\t 4 5 6\n")
    with pytest.raises(BenchError, match="line 2 is") as caught:
        load_embeddings(path, ["jay"])
    assert "two in a row" in caught.value.found


@pytest.mark.parametrize("packed", [False, True])
def test_a9_crlf_between_binary_entries(tmp_path, packed):
    data = HEN[2][1].replace(b"\njay", b"\r\njay").replace(b"\nowl", b"\r\nowl")
    data = data.replace(b"3 3\n", b"3 3\r\n")[:-1] + b"\r\n"
    path = put(tmp_path, pack(data) if packed else data)
    assert load_embeddings(path, ["hen", "jay", "owl"]).vectors.tolist() == BIRDS


@pytest.mark.parametrize("block", [1, 7, 16, 33])
def test_a9_crlf_across_the_border_of_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(formats, "BLOCK", block)
    monkeypatch.setattr(formats, "LONGEST_ENTRY", 4)
    words = [f"w{i}" for i in range(9)]
    data = binary({word: [i, 1.0] for i, word in enumerate(words)}, newline=False)
    for word in words[1:]:
        data = data.replace(word.encode(), b"\r\n" + word.encode())
    entries = read_entries(put(tmp_path, data), set(words))
    assert [entries.vectors[word].tolist() for word in words] == [[i, 1.0] for i in range(9)]


def test_a9_a_token_with_spaces_on_line_1_is_an_entry(tmp_path):
    path = put(tmp_path, b". . . 1 2 3\nhen 1 2 3\njay 4 5 6\n")
    assert load_embeddings(path, ["hen", "jay"]).vectors.tolist() == BIRDS[:2]
    assert look_up(path, []).entries.dimension == 3


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"hen 1 x 3\njay 4 5 6\n", 1),
        (b"hen 1 2\njay 4 5 6\n", 2),
        (b"some words about it\nhen 1 2 3\n", 1),
        (b"one two\nthree four\n", 1),
        (b"hen\njay 4 5 6\n", 1),
        (b"hen 1 2 3\njay 4 5\n", 2),
    ],
)
def test_a9_the_line_that_is_wrong_is_named(tmp_path, data, line):
    with pytest.raises(BenchError, match=f"line {line} is not a line of vectors"):
        load_embeddings(put(tmp_path, data), ["hen", "jay"])


def test_a9_a_header_one_too_high_as_in_files_of_fasttext(tmp_path):
    path = put(tmp_path, b"4" + HEN[1][1][1:])
    assert load_embeddings(path, ["hen", "jay", "owl"]).vectors.tolist() == BIRDS
    entries = look_up(path, ["hen"]).entries
    assert (entries.count, entries.promised) == (3, 4)


PRINTABLE = b"hen " + b"ABCD  ab...5" + b"\n"


def test_binary_that_reads_as_text_is_text_unless_the_user_says_otherwise(tmp_path):
    path = put(tmp_path, b"1 3\n" + PRINTABLE)
    with pytest.raises(BenchError, match="line 2") as caught:
        load_embeddings(path, ["hen"])
    assert "--embeddings-format binary" in caught.value.remedy
    expected = struct.unpack("<3f", PRINTABLE[4:16])
    assert load_embeddings(path, ["hen"], "binary").vectors.tolist() == [list(expected)]
    # One more entry of the usual kind is enough to tell.
    path = put(tmp_path, b"2 3\n" + PRINTABLE + b"jay " + struct.pack("<3f", 1, 2, 3))
    assert load_embeddings(path, ["hen", "jay"]).vectors.tolist() == [list(expected), [1, 2, 3]]


def test_the_user_may_say_what_a_file_is(tmp_path):
    path = put(tmp_path, b"1 1\nhen 12.5\n")  # also four bytes of a float32
    assert load_embeddings(path, ["hen"]).vectors.tolist() == [[12.5]]
    assert load_embeddings(path, ["hen"], "text").vectors.tolist() == [[12.5]]
    assert load_embeddings(path, ["hen"], "binary").vectors[0, 0] == struct.unpack("<f", b"12.5")[0]
    path = put(tmp_path, b"2 2\nhen \x01 2.5\njay 1 2.5\n")
    assert look_up(path, ["jay"], "text").entries.count == 2
    with pytest.raises(BenchError, match="can't be read as word2vec's binary") as caught:
        look_up(path, ["jay"])
    assert "--embeddings-format text" in caught.value.remedy
    with pytest.raises(BenchError, match="not in word2vec's binary format"):
        load_embeddings(put(tmp_path, b"hen 1 2\n"), ["hen"], "binary")


def test_a_hostile_header_costs_no_memory(tmp_path):
    import tracemalloc

    path = put(tmp_path, pack(b"999999999 100000\ncat " + b"\x01" * 1000))
    tracemalloc.start()
    with pytest.raises(BenchError, match="entry 1"):
        load_embeddings(path, ["cat"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_memory_does_not_grow_with_the_file(tmp_path):
    import tracemalloc

    rows = np.zeros((20_000, 256), "<f4")
    body = b"".join(b"w%d " % i + row.tobytes() for i, row in enumerate(rows))
    path = put(tmp_path, b"20000 256\n" + body)
    tracemalloc.start()
    load_embeddings(path, ["w19999"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 3


def test_missing_words_come_with_what_the_file_has_instead(tmp_path):
    path = put(tmp_path, b"doughnut 1 2\nFrisbee 3 4\nskis 5 6\nairplane 7 8\n")
    with pytest.raises(BenchError) as error:
        load_embeddings(path, ["donut", "frisbee", "ski", "aeroplane", "zebra"])
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
        load_embeddings(path, labels)
    assert all(label in error.value.found for label in labels)


@pytest.mark.parametrize("labels", [["cat", "cat"], ["cat", " "], ["hot dog", "hot_dog"]])
def test_a_list_of_labels_must_make_sense(tmp_path, labels):
    with pytest.raises(BenchError, match="not one to look up"):
        load_embeddings(put(tmp_path, b"cat 1 2\n"), labels)
