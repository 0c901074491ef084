"""The ids of splits: which ones ship, and which copies of them are `-unofficial`.

A split that is built from annotations bears the id of its definition. Where the data set has
official counts (`data.official`) and what was read differs from them, or nothing says that it was
compared, the id ends in `-unofficial`. That is for people to see: the hash of a split is over its
content and the id without that ending, and whoever looks a split up does so without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated

from pydantic import Field, model_validator

from mlfsic_bench.data.official import in_short
from mlfsic_bench.data.registry import anchors_of
from mlfsic_bench.schema import Line, Name, Sha256, ShortSchema

UNOFFICIAL = "-unofficial"
MARK = "UNOFFICIAL"  # how the sentence begins that says why
# What differs from the official counts of a dataset, a line each.
Differences = Annotated[list[Line], Field(max_length=1000)]
_FILE = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*-v[0-9]+)\.json")


def shipped_ids() -> tuple[str, ...]:
    """The ids of the shipped splits, sorted; episode files beside them have other names."""
    names = (_FILE.fullmatch(entry.name) for entry in files("mlfsic_splits").iterdir())
    return tuple(sorted(name[1] for name in names if name))


def plain_id(split_id: str) -> str:
    """The id without `-unofficial`: what a definition, a file of episodes or a folder is called.

    >>> plain_id("coco-52-12-16-v1-unofficial"), plain_id("voc-8-6-6-v1")
    ('coco-52-12-16-v1', 'voc-8-6-6-v1')
    """
    return split_id.removesuffix(UNOFFICIAL)


def has_official(split_id: str, dataset: str) -> bool:
    """Whether there is something official to compare a built split of that id with."""
    # In this order: a name in a file that anybody wrote is looked up for shipped ids alone.
    return plain_id(split_id) in shipped_ids() and anchors_of(dataset) is not None


def official_id(split_id: str, dataset: str, differences: Sequence[str] | None) -> str:
    """The id of a built split, by how its annotations differ from the official ones.

    Parameters
    ----------
    split_id: with the ending or without; an id that does not ship is returned as it is.
    differences: from the official counts; none: official. None: nothing says that anybody compared.
    """
    if not has_official(split_id, dataset):
        return split_id
    return plain_id(split_id) + ("" if differences is not None and not differences else UNOFFICIAL)


def unofficial(split_id: str, differences: Sequence[str] | None) -> list[str]:
    """A sentence on a split whose annotations are not known to be the official ones; else none."""
    if not split_id.endswith(UNOFFICIAL):
        return []
    said = (
        f"the annotations differ from the official ones: {in_short(differences)}"
        if differences
        else "nothing says that the annotations were compared with the official ones"
    )
    return [f"{MARK}: {said}; not comparable to runs on {plain_id(split_id)}."]


class NamedSplit(ShortSchema):
    """What a record, a scores file or an entry says of its split.

    `differs_from_official` is as in a split file: empty where the annotations have the official
    counts, else what differs. Without the key, as in all that was written before there was one,
    nobody compared, and the split is `-unofficial` if there is something to compare with. `hash`
    None is for reported values, which name the definition alone.
    """

    absent = ("differs_from_official",)
    id: Name
    hash: Sha256 | None
    dataset: Name
    differs_from_official: Differences | None = None

    @model_validator(mode="after")
    def _named(self) -> NamedSplit:
        if self.hash is not None:
            named = official_id(self.id, self.dataset, self.differs_from_official)
            object.__setattr__(self, "id", named)
        return self
