"""Under which entries of a vector file a label is looked for, and in which order."""

from __future__ import annotations

from collections.abc import Container

# PASCAL VOC writes three of its labels as one word.
VOC_ALIASES = {
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}
_BACK = {spaced: joined for joined, spaced in VOC_ALIASES.items()}

# Other words for the same thing. They are never used in place of a label, only named in the error
# when the label has no vector.
_OTHER_WORDS = (
    ("aeroplane", "airplane"),
    ("motorbike", "motorcycle"),
    ("sofa", "couch"),
    ("donut", "doughnut"),
    ("tv", "television"),
    ("drier", "dryer"),
    ("cellphone", "phone"),
)


def spaced_form(label: str) -> str:
    """The label with VOC's joined spellings taken apart.

    >>> spaced_form("tvmonitor"), spaced_form("hot dog")
    ('tv monitor', 'hot dog')
    """
    return VOC_ALIASES.get(label, label)


def joined_form(label: str) -> str | None:
    """VOC's joined spelling of a label that has one.

    >>> joined_form("tv monitor"), joined_form("tvmonitor"), joined_form("dog")
    ('tvmonitor', 'tvmonitor', None)
    """
    return _BACK.get(spaced_form(label))


def lookups(label: str) -> list[tuple[str, ...]]:
    """The ways to look a label up, best first; each is a tuple of entries to be averaged.

    A label of one word: as it is written, then in lower case. A label of several words:

    1. its words, in lower case: their mean, whatever else the file has (docs/methodology.md, M15);
    2. the whole label as one entry, spaces written `_`, as it is written, then in lower case;
    3. VOC's joined spelling as one entry.

    VOC's joined labels are read as their spaced form first, in 1 and 2.

    >>> lookups("hot dog")
    [('hot', 'dog'), ('hot_dog',)]
    >>> lookups("tvmonitor") == lookups("tv monitor")
    True
    >>> lookups("TV monitor")
    [('tv', 'monitor'), ('TV_monitor',), ('tv_monitor',)]
    """
    spaced = spaced_form(label)
    words = spaced.split()
    whole = "_".join(words)
    ways: list[tuple[str, ...]] = [(whole,), (whole.lower(),)]
    if len(words) > 1:
        ways.insert(0, tuple(spaced.lower().split()))
    joined = joined_form(label)
    if joined is not None:
        ways.append((joined,))
    return list(dict.fromkeys(way for way in ways if way and way[0]))


def resembling(word: str) -> list[str]:
    """Entries that a file may have where it lacks `word`: other capitals, number, or words.

    >>> resembling("donut")
    ['Donut', 'DONUT', 'donuts', 'doughnut']
    """
    number = [word[:-1]] if word.endswith("s") and len(word) > 2 else [f"{word}s"]
    others = [b if word == a else a for a, b in _OTHER_WORDS if word in (a, b)]
    near = [word.capitalize(), word.upper(), *number, *others]
    return list(dict.fromkeys(entry for entry in near if entry != word))


def missing_words(label: str, entries: Container[str]) -> list[str]:
    """The words (or the one joined spelling) of a label without a vector that `entries` lacks."""
    words = dict.fromkeys(word for way in lookups(label) for word in way if "_" not in word)
    return [word for word in words if word not in entries]
