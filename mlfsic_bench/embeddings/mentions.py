"""Sentences of a corpus that mention labels, and the few that are taken of the many."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlfsic_bench.embeddings.formats import open_packed
from mlfsic_bench.embeddings.lookup import joined_form, spaced_form
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import stream_seed

LONGEST_SENTENCE = 2000  # characters; a longer line is not one sentence
LONGEST_LINE = 1 << 20  # bytes


@dataclass(frozen=True)
class Mention:
    """A sentence and where in it the label stands: `sentence[start:end]`."""

    sentence: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Mentions:
    """What a corpus says of a list of labels.

    Attributes
    ----------
    taken: for each label, at most `most` mentions in different sentences, in the order of their
        keys (`collect_mentions`).
    sentences: for each label, how many lines mention it, repetitions included.
    lines, too_long, undecodable: lines of the corpus that are not empty; those of them that are
        longer than LONGEST_SENTENCE; those that are not UTF-8. The latter two are passed over.
    """

    taken: dict[str, list[Mention]]
    sentences: dict[str, int]
    lines: int
    too_long: int
    undecodable: int


def mention_pattern(labels: Sequence[str]) -> re.Pattern[str]:
    """A pattern whose group `l<i>` is a mention of label i.

    Whole words, capitals or not, one or more spaces or a hyphen between the words of a label, the
    last word also in its regular plural (-s; -es after s, x, z, ch, sh). Where labels overlap the
    one that begins first is taken, then the longer one: `hot dog` is no mention of `dog`.

    >>> pattern = mention_pattern(["dog", "hot dog", "bus"])
    >>> [m.lastgroup for m in pattern.finditer("Dogs on a bus eat hot dogs; no dogma, no buses")]
    ['l0', 'l2', 'l1', 'l2']
    """
    spellings = [
        (spelling, number)
        for number, label in enumerate(labels)
        for spelling in (spaced_form(label), joined_form(label))
        if spelling is not None
    ]
    spellings.sort(key=lambda pair: -len(pair[0]))
    one_each: dict[int, list[str]] = {}
    for spelling, number in spellings:
        words = r"(?:\s+|-)".join(re.escape(word) for word in spelling.split())
        plural = "(?:es)?" if re.search(r"(?:s|x|z|ch|sh)\Z", spelling, re.I) else "s?"
        one_each.setdefault(number, []).append(words + plural)
    groups = [f"(?P<l{number}>{'|'.join(forms)})" for number, forms in one_each.items()]
    return re.compile(rf"(?<!\w)(?:{'|'.join(groups)})(?!\w)", re.IGNORECASE)


def collect_mentions(corpus: Path, labels: Sequence[str], most: int) -> Mentions:
    """Read the corpus once, a sentence a line (UTF-8 text or gzip'd), and take mentions.

    Of each label the first mention in a sentence counts, and of all its different sentences the
    `most` with the smallest keys are taken, the key being the random stream named by label and
    sentence. So the choice depends neither on the order of the corpus nor on repeated lines, and a
    smaller `most` takes a part of what a larger one takes. Memory: twice `most` sentences a label.
    Raises BenchError when the corpus can't be read.
    """
    pattern = mention_pattern(labels)
    names = {f"l{number}": label for number, label in enumerate(labels)}
    kept: dict[str, dict[int, Mention]] = {label: {} for label in labels}
    sentences = dict.fromkeys(labels, 0)
    lines = too_long = undecodable = 0
    for raw in _lines(corpus):
        lines += 1
        if len(raw) == LONGEST_LINE:
            too_long += 1
            continue
        try:
            sentence = raw.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            undecodable += 1
            continue
        if len(sentence) > LONGEST_SENTENCE:
            too_long += 1
            continue
        seen: set[str] = set()
        for match in pattern.finditer(sentence):
            label = names[match.lastgroup or ""]
            if label not in seen:
                seen.add(label)
                sentences[label] += 1
                key = stream_seed("words", "mention", label, sentence)
                kept[label][key] = Mention(sentence, *match.span())
                if len(kept[label]) > 2 * most:
                    kept[label] = _first(kept[label], most)
    taken = {label: list(_first(mentions, most).values()) for label, mentions in kept.items()}
    return Mentions(taken, sentences, lines, too_long, undecodable)


def _first(mentions: dict[int, Mention], most: int) -> dict[int, Mention]:
    """The `most` mentions with the smallest keys, in their order."""
    return {key: mentions[key] for key in sorted(mentions)[:most]}


def _lines(corpus: Path) -> Iterator[bytes]:
    """The lines that are not empty; of a line beyond LONGEST_LINE, its beginning."""
    remedy = "check the path given as --corpus"
    with open_packed(corpus, "corpus", remedy) as (stream, _):
        whole = True
        while raw := stream.readline(LONGEST_LINE):
            if b"\0" in raw:
                raise BenchError(
                    f"the corpus {corpus} is not text",
                    expected="UTF-8 text, one sentence a line, or such text gzip'd",
                    found="a zero byte",
                    remedy="unpack the archive, or name another file",
                )
            if whole and not raw.isspace():
                yield raw
            whole = raw.endswith(b"\n")
