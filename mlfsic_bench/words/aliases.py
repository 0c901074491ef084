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
    2. for VOC's joined spelling: its spaced form as one entry;
    3. the words: lower case, split on spaces;
    4. for a spaced form: VOC's joined spelling as one entry.

    >>> lookups("hot dog")
    [('hot_dog',), ('hot', 'dog')]
    >>> lookups("tvmonitor")
    [('tvmonitor',), ('tv_monitor',), ('tv', 'monitor')]
    >>> lookups("tv monitor")
    [('tv_monitor',), ('tv', 'monitor'), ('tvmonitor',)]
    """
    spaced = VOC_ALIASES.get(label)
    ways: list[tuple[str, ...]] = [("_".join(label.split()),)]
    if spaced is not None:
        ways.append(("_".join(spaced.split()),))
    ways.append(tuple((spaced or label).lower().split()))
    if label in _BACK:
        ways.append((_BACK[label],))
    return list(dict.fromkeys(ways))
