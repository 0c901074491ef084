"""What is said about values: titles in words, marks of what is partial, sentences below tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.registry import registered
from mlfsic_bench.evaluation.identity import method_version
from mlfsic_bench.evaluation.meta import BaseImages, EpisodesMeta, SplitMeta
from mlfsic_bench.evaluation.plan import UNVERSIONED
from mlfsic_bench.metrics.intervals import SMALL_POOL, coded
from mlfsic_bench.splits.names import UNOFFICIAL, plain_id, shipped_ids, unofficial

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.record import Record
    from mlfsic_bench.evaluation.scores import StoredTargets
    from mlfsic_bench.results.result import Result, Targets

SUBSET = "SUBSET: made on part of the split's images; not comparable to full runs."
OFF_DEFAULTS = "not at its defaults"


def limits_of(split: SplitMeta) -> list[str]:
    """Sentences below a table: what keeps results on this split from being compared with others."""
    subset = [SUBSET] if split.subset else []
    return subset + unofficial(split.id, split.differs_from_official)


def split_title(split_id: str) -> str:
    """The name of a split in words: labels of base, val and novel, and its rule or variant.

    >>> split_title("coco-52-12-16-open-v1"), split_title("voc-8-6-6-v1"), split_title("mine-v2")
    ('COCO 52/12/16 (open)', 'VOC 8/6/6', 'mine-v2')
    >>> split_title("coco-52-12-16-v1-unofficial")
    'COCO 52/12/16 (unofficial)'
    """
    found = re.fullmatch(
        r"([a-z][a-z0-9]*(?:-[a-z][a-z0-9]*|-\d+k)*)((?:-\d+)+)(?:-([a-z]+(?:-[a-z]+)*))?-v(\d+)",
        plain_id(split_id),
    )
    if found is None:
        return split_id
    dataset, numbers, variant, version = found.groups()
    said = [variant] if variant else []
    said += [f"version {version}"] if version != "1" else []
    said += [UNOFFICIAL[1:]] if split_id.endswith(UNOFFICIAL) else []
    known = registered(dataset)
    name = (known.title if known else "") or dataset
    counts = numbers.strip("-").replace("-", "/")
    return f"{name} {counts}" + (f" ({', '.join(said)})" if said else "")


def conditions_title(result: Result, targets: Targets) -> str:
    """What a table is of, as a sentence: split, labels, episodes, images."""
    split, episodes = result.meta.split, result.meta.episodes
    record = result.record
    labels = count_labels(
        split.id,
        result.meta.labels,
        subset=split.subset,
        of_record=record.subset if record else None,
        noun="novel labels",
        part=episodes.part,
    )
    queries = targets.targets.shape[1]
    protocol = episodes.drawn_by
    if protocol.queries is None:
        support = f"{protocol.shots} support image{'s' if protocol.shots > 1 else ''} per label"
        images = f"at least {support} and the same {queries:,} query images"
        images += " (drawn with repeats)" if len(set(targets.query[0])) < queries else ""
    else:
        images = f"{protocol.shots} support and {protocol.queries} query images per label"
    count = (
        f"the first {episodes.count} of {episodes.total} episodes"
        if episodes.count < episodes.total
        else f"{episodes.count} episodes"
    )
    said = f"{split_title(split.id)}, {labels}, {images}, {count}"
    if not split.subset:
        return said
    used = set(targets.query.ravel().tolist())
    used.update(i for support in targets.support or () for i in support)
    subset = (record.subset or {}) if record else {}
    missing = (subset.get("images_missing") or {}).get("novel")
    excluded = ((subset.get("excluded") or {}).get("images") or {}).get("novel")
    gone = f"; {missing:,} novel images missing" if missing else ""
    gone += f"; {excluded:,} novel images excluded" if excluded else ""
    return f"{said}, part of the images ({len(used):,} novel images used{gone})"


def small_pools(targets: Targets | StoredTargets, labels: Sequence[str]) -> list[str]:
    """A sentence on the labels that fewer than SMALL_POOL distinct query images show, if any do."""
    few = {label: n for label, n in zip(labels, pools_of(targets), strict=True) if n < SMALL_POOL}
    counted = [f"{label} {n}" for label, n in sorted(few.items(), key=lambda one: one[1]) if n]
    if not counted:
        return []
    return [
        f"SMALL POOL: fewer than {SMALL_POOL} query images show: {', '.join(counted)}. There 95 % "
        "intervals over images are too short and may cover less than 90 %, since the mean itself "
        "depends on the size of the pool (docs/metrics.md)."
    ]


def pools_of(targets: Targets | StoredTargets) -> list[int]:
    """How many distinct query images show each of the L labels."""
    names, code = coded(targets.query.ravel().tolist())
    shown: npt.NDArray[np.bool_] = np.zeros((len(names), targets.targets.shape[2]), np.bool_)
    np.logical_or.at(shown, code, targets.targets.reshape(-1, shown.shape[1]) > 0)
    return [int(n) for n in shown.sum(axis=0)]


def disjoint_note(episodes: EpisodesMeta) -> list[str]:
    """A sentence where no image is in two episodes: which interval that makes complete."""
    if not episodes.drawn_by.disjoint:
        return []
    return [
        "Disjoint episodes: no image is in two of them, so the interval over episodes covers other "
        "images as well."
    ]


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


def count_labels(
    split_id: str,
    labels: Sequence[str],
    *,
    subset: bool,
    of_record: Mapping[str, Any] | None = None,
    noun: str = "labels",
    part: str = "novel",
) -> str:
    """How many novel labels there are, and which, where some have left the part.

    Parameters
    ----------
    labels: those that are left.
    subset: whether the split was limited at all.
    of_record: what a record says of that; without it the shipped split of this id tells the rest.
    part: of the split; of `val`, which a trial scores, only the number is said, and that.

    >>> count_labels("scenes-12-6-6-v1", ["disc", "cross"], subset=False)
    '2 labels'
    """
    if part == "val":
        return f"{len(labels)} val labels (a trial, not a result)"
    gone = _gone(split_id, labels, of_record) if subset else []
    if not gone:
        return f"{len(labels)} {noun}"
    of = f"{len(labels)} of {len(labels) + len(gone)} {noun}"
    few = len(gone) < len(labels)
    return f"{of} ({'without ' * few}{', '.join(gone if few else labels)})"


def _gone(
    split_id: str, labels: Sequence[str], of_record: Mapping[str, Any] | None
) -> Sequence[str]:
    from mlfsic_bench.splits.resolve import shipped_file

    left = (of_record or {}).get("labels_left")
    if isinstance(left, Mapping) and isinstance(left.get("novel"), Mapping):
        return [str(label) for label in left["novel"]]
    if plain_id(split_id) not in shipped_ids():
        return []
    return [label for label in shipped_file(plain_id(split_id)).labels.novel if label not in labels]


def doubts(runs: Iterable[tuple[str, Record]]) -> list[str]:
    """Why runs, by their names in the report, are not to be relied on.

    A sentence for each run whose audit failed, and one for all methods without a file.
    """
    runs = list(runs)
    lines = [
        f"AUDIT FAILED: {name}. In a fresh process its scores did not come again; it looks like: "
        f"{record.audit.kind}. Not comparable."
        for name, record in runs
        if record.audit is not None and record.audit.status == "failed"
    ]
    names = dict.fromkeys(n for n, r in runs if method_version(r.identity) == UNVERSIONED)
    if names:
        lines.append(
            f"UNVERSIONED: {', '.join(names)}. A class without a file: nobody can run it again, "
            "and no audit was made."
        )
    return lines


def picture_title(
    what: str,
    split: SplitMeta,
    labels: Sequence[str],
    cuts: Iterable[BaseImages | None],
    episodes: EpisodesMeta | None = None,
) -> str:
    """What a picture says above itself, with a mark for each thing that is not whole.

    Parameters
    ----------
    what: what the picture shows.
    split, labels: a subset of its images is marked, and which novel labels it is left with.
    cuts: on how many base images the methods were trained; None are all.
    episodes: a part of them is marked; left out for pictures that are not of novel episodes.
    """
    count = count_labels(
        split.id,
        labels,
        subset=split.subset,
        noun="novel labels",
        part=episodes.part if episodes else "novel",
    )
    marks = ["SUBSET of the split's images"] if split.subset else []
    marks += [count] if " of " in count else []
    known = [cut.of for cut in cuts if cut is not None]
    if known:
        marks.append(f"LEARNING CURVE: base_images=N of {max(known):,}")
    if episodes is not None and episodes.count < episodes.total:
        marks.append(f"first {episodes.count} of {episodes.total} episodes")
    return f"{what}\n{split.id}" + "".join(f" ({mark})" for mark in marks)
