"""Under which entries of a vector file a label is looked for, and in which order."""

from __future__ import annotations

# PASCAL VOC writes three of its labels as one word.
VOC_ALIASES = {
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}
_BACK = {spaced: joined for joined, spaced in VOC_ALIASES.items()}


def lookups(label: str) -> list[tuple[str, ...]]:
    """The ways to look a label up, best first; each is a tuple of entries to be averaged.

    1. the whole label as one entry, spaces written `_`;
    2. the words: lower case, split on spaces;
    3. VOC's joined spelling as one entry.

    VOC's joined labels are read as their spaced form first, in 1 and 2 (docs/methodology.md, M15):
    where a file has `tvmonitor` as a word of its own besides `tv` and `monitor`, the mean is taken.

    >>> lookups("hot dog")
    [('hot_dog',), ('hot', 'dog')]
    >>> lookups("tvmonitor") == lookups("tv monitor")
    True
    >>> lookups("tv monitor")
    [('tv_monitor',), ('tv', 'monitor'), ('tvmonitor',)]
    """
    spaced = VOC_ALIASES.get(label, label)
    ways: list[tuple[str, ...]] = [("_".join(spaced.split()),), tuple(spaced.lower().split())]
    if spaced in _BACK:
        ways.append((_BACK[spaced],))
    return list(dict.fromkeys(ways))
