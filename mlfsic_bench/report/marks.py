"""What sets figures apart from whole ones: sentences below them, and short marks on pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mlfsic_bench.harness.cards import BaseImages, EpisodesCard, MethodCard, SplitCard

if TYPE_CHECKING:
    from mlfsic_bench.harness.record import Record

SUBSET = "SUBSET: made on part of the split's images; not comparable to full runs."
OFF_DEFAULTS = "not at its defaults"


def changed(card: MethodCard) -> dict[str, Any]:
    """The parameters that are not at the method's defaults, with their values."""
    return {name: card.parameters.get(name) for name in card.changed}


def off_defaults(methods: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A sentence for each pair of a method's name and its `changed` parameters, if there are any.

    >>> off_defaults([("protonet", {"scale": 9.0}), ("linear", {}), ("protonet", {"scale": 9.0})])
    ['protonet not at its defaults: scale=9.0.']
    """
    told = [
        f"{method} {OFF_DEFAULTS}: {', '.join(f'{k}={v}' for k, v in settings.items())}."
        for method, settings in methods
        if settings
    ]
    return list(dict.fromkeys(told))


def failed_audits(runs: Iterable[tuple[str, Record]]) -> list[str]:
    """A sentence for each run, by its name in the report, whose audit failed."""
    return [
        f"AUDIT FAILED: {name}. In a fresh process its scores did not come again; it looks like: "
        f"{record.audit.kind}. Not comparable."
        for name, record in runs
        if record.audit is not None and record.audit.status == "failed"
    ]


def picture_title(
    what: str,
    split: SplitCard,
    cuts: Iterable[BaseImages | None],
    episodes: EpisodesCard | None = None,
) -> str:
    """What a picture says above itself, with a mark for each thing that is not whole.

    Parameters
    ----------
    what: what the picture shows.
    split: a subset of its images is marked.
    cuts: on how many base images the methods were trained; None are all.
    episodes: a part of them is marked; left out for pictures that are not of novel episodes.
    """
    marks = ["SUBSET of the split's images"] if split.subset else []
    known = [cut.of for cut in cuts if cut is not None]
    if known:
        marks.append(f"LEARNING CURVE: base_images=N of {max(known):,}")
    if episodes is not None and episodes.count < episodes.total:
        over = "runs" if episodes.shots else "episodes"
        marks.append(f"first {episodes.count} of {episodes.total} {over}")
    return f"{what}\n{split.id}" + "".join(f" ({mark})" for mark in marks)
