import gzip
import random

import pytest

from mlfsic_bench.embeddings.text_encoder import LONGEST_SENTENCE, collect_mentions, mention_pattern
from mlfsic_bench.errors import BenchError


def found(labels, sentence):
    return [
        (labels[int(m.lastgroup[1:])], m[0]) for m in mention_pattern(labels).finditer(sentence)
    ]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The Dog and dogs", [("dog", "Dog"), ("dog", "dogs")]),
        ("dogma, bulldog, dog_house", []),
        ("a dog's life; dog-friendly", [("dog", "dog"), ("dog", "dog")]),
        (
            "a hot dog, HOT  dogs, hot-dog",
            [("hot dog", s) for s in ("hot dog", "HOT  dogs", "hot-dog")],
        ),
        ("hot, dog", [("dog", "dog")]),
        ("bus buses busses", [("bus", "bus"), ("bus", "buses")]),
        ("he cares for cars", [("car", "cars")]),
        ("wine glasses", [("wine glass", "wine glasses")]),
        ("tv monitor, TVmonitors", [("tvmonitor", "tv monitor"), ("tvmonitor", "TVmonitors")]),
        ("c++ a.b", []),
    ],
)
def test_what_counts_as_a_mention(sentence, expected):
    labels = ["dog", "hot dog", "bus", "car", "wine glass", "tvmonitor"]
    assert found(labels, sentence) == expected


def test_characters_of_a_pattern_are_letters_in_a_label():
    assert found(["a.b"], "a.b axb") == [("a.b", "a.b")]


def test_more_than_a_hundred_labels():
    labels = [f"label{i}" for i in range(300)]
    assert found(labels, "label299 label7") == [("label299", "label299"), ("label7", "label7")]


def corpus(folder, lines, name="c.txt"):
    path = folder / name
    data = b"".join(line if isinstance(line, bytes) else f"{line}\n".encode() for line in lines)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def test_the_choice_depends_on_neither_order_nor_repetition(tmp_path):
    lines = [f"dog number {i} saw a cat" for i in range(200)]
    some = collect_mentions(corpus(tmp_path, lines), ["dog", "cat"], 20)
    mixed = [*lines, *lines[:50]]
    random.Random(1).shuffle(mixed)
    again = collect_mentions(corpus(tmp_path, mixed, "d.txt.gz"), ["cat", "dog"], 20)
    assert some.taken["dog"] == again.taken["dog"]
    assert len({m.sentence for m in some.taken["dog"]}) == 20
    assert {m.sentence for m in some.taken["dog"]} != {m.sentence for m in some.taken["cat"]}
    assert (some.sentences["dog"], again.sentences["dog"]) == (200, 250)
    fewer = collect_mentions(tmp_path / "c.txt", ["dog"], 5)
    assert fewer.taken["dog"] == some.taken["dog"][:5]
    every = collect_mentions(tmp_path / "c.txt", ["dog"], 1000)
    assert {m.sentence for m in every.taken["dog"]} == set(lines)


def test_one_mention_a_sentence_and_where_it_stands(tmp_path):
    path = corpus(tmp_path, ["  a Dog met two dogs  "])
    (mention,) = collect_mentions(path, ["dog"], 10).taken["dog"]
    assert (mention.sentence, mention.start, mention.end) == ("a Dog met two dogs", 2, 5)


def test_lines_that_are_no_sentences_are_counted(tmp_path):
    lines = [
        "a dog",
        "",
        "dog " + "x" * LONGEST_SENTENCE,
        b"dog \xff\n",
        "dog" + " y" * (1 << 20),
        b"one more dog",
    ]
    mentions = collect_mentions(corpus(tmp_path, lines), ["dog"], 10)
    assert (mentions.lines, mentions.too_long, mentions.undecodable) == (5, 2, 1)
    assert {m.sentence for m in mentions.taken["dog"]} == {"a dog", "one more dog"}


def test_a_corpus_that_is_not_text(tmp_path):
    with pytest.raises(BenchError, match="is not text"):
        collect_mentions(corpus(tmp_path, [b"dog\0"]), ["dog"], 1)
    with pytest.raises(BenchError, match="can't read the corpus"):
        collect_mentions(tmp_path / "absent", ["dog"], 1)
    path = corpus(tmp_path, ["dog"], "e.gz")
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(BenchError, match="not a whole gzip"):
        collect_mentions(path, ["dog"], 1)


def test_a9_a_byte_order_mark_is_no_part_of_a_sentence(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"\xef\xbb\xbfdog runs\ndog runs\n")
    mentions = collect_mentions(path, ["dog"], 9)
    assert [mention.sentence for mention in mentions.taken["dog"]] == ["dog runs"]
