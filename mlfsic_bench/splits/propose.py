"""Proposing a split of a dataset: which labels are base, val and novel, and what that leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlfsic_bench.data.dataset import PART_NAMES, Annotations, PartName
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.files import read_json
from mlfsic_bench.randomness import splitmix64, stream_seed
from mlfsic_bench.schema import load
from mlfsic_bench.splits.build import apply_rule
from mlfsic_bench.splits.files import (
    EXCLUDED_BY,
    FORMAT,
    LabelLists,
    PerPart,
    Provenance,
    Rule,
    SplitFile,
)

RuleName = Literal["open", "strict"]
RULES: tuple[RuleName, ...] = ("open", "strict")
Lists = dict[PartName, list[str]]


def random_lists(dataset: str, labels: Sequence[str], sizes: Sequence[int], seed: int) -> Lists:
    """As many labels as `sizes` says for base, val and novel, drawn at random.

    The same on every machine and in every year: a Fisher-Yates shuffle of `labels` by the stream
    of this purpose, dataset and seed (`randomness`). The lists are in the order of `labels`.
    """
    _check_sizes(labels, sizes)
    start = stream_seed("splits new", dataset, seed)
    order = list(range(len(labels)))
    for i in range(len(order) - 1):
        j = i + (splitmix64(start, i) * (len(order) - i) >> 64)
        order[i], order[j] = order[j], order[i]
    lists: Lists = {}
    for part, size in zip(PART_NAMES, sizes, strict=True):
        lists[part] = [labels[i] for i in sorted(order[:size])]
        order = order[size:]
    return lists


def balanced_lists(annotations: Annotations, sizes: Sequence[int]) -> Lists:
    """As many labels as `sizes` says, so that each list has frequent and rare ones alike.

    Labels are dealt out from the most frequent on (of equal ones, the first in the dataset's
    order), each to the list that lacks most of its share so far. Where `sizes` are fewer labels
    than there are, the least frequent are left out.
    """
    labels = annotations.labels
    _check_sizes(labels, sizes)
    pools = annotations.present.sum(axis=0).tolist()
    total = sum(sizes)
    order = sorted(range(len(labels)), key=lambda i: (-pools[i], i))[:total]
    given: dict[PartName, list[int]] = {part: [] for part in PART_NAMES}
    share = dict(zip(PART_NAMES, sizes, strict=True))
    for place, label in enumerate(order, start=1):
        open_parts = [part for part in PART_NAMES if len(given[part]) < share[part]]
        # in whole numbers: what the list would have by now, less what it has, times the total
        lacking = max(open_parts, key=lambda p: share[p] * place - len(given[p]) * total)
        given[lacking].append(label)
    return {part: [labels[i] for i in sorted(given[part])] for part in PART_NAMES}


def read_lists(path: Path, labels: Sequence[str]) -> Lists:
    """The lists in a JSON file: base, novel, and perhaps val; BenchError for what is none."""
    value = read_json(path, kind="file of label lists")
    if isinstance(value, dict):
        value.setdefault("val", [])
    found = load(LabelLists, value, str(path), page="docs/datasets.md", remedy="correct the lists")
    seen: set[str] = set()
    for part in PART_NAMES:
        for label in found.of(part):
            if label not in labels:
                raise unknown_name(f"label in {path},", label, labels)
            if label in seen:
                raise BenchError(
                    f"{path} names the label {label!r} twice",
                    expected="each label in one list, once",
                    found=repr(label),
                    remedy="remove it from one of the lists",
                )
            seen.add(label)
    return {part: list(found.of(part)) for part in PART_NAMES}


def _check_sizes(labels: Sequence[str], sizes: Sequence[int]) -> None:
    base, val, novel = sizes
    if base < 1 or novel < 1 or val < 0 or sum(sizes) > len(labels):
        raise BenchError(
            f"can't make lists of {base}, {val} and {novel} labels",
            expected=f"at least 1 base and 1 novel label, in all at most {len(labels)}",
            found=f"{sum(sizes)} labels",
            remedy="correct --labels BASE VAL NOVEL",
        )


def define(
    dataset: str, lists: Lists, rule: RuleName, labels_from: str, split_id: str | None = None
) -> SplitFile:
    """The definition of a split with these lists, without images.

    Parameters
    ----------
    labels_from: where the lists come from, in words.
    split_id: its id; None: `<dataset>-<base>-<val>-<novel>[-strict]-v1`.
    """
    sizes = "-".join(str(len(lists[part])) for part in PART_NAMES)
    variant = "" if rule == "open" else f"-{rule}"
    name = "-".join(word for word in dataset.replace("_", "-").split("-") if word)
    value = {
        "format": FORMAT,
        "id": split_id or f"{name}-{sizes}{variant}-v1",
        "version": _version(split_id),
        "dataset": dataset,
        "rule": Rule(
            name=rule,
            excluded_by=PerPart[list[PartName]](**EXCLUDED_BY[rule]),
            difficult_is_present=False,
            difficult_excludes=True,
        ).model_dump(mode="json"),
        "labels": lists,
        "provenance": Provenance(
            labels=labels_from,
            rule=f"The rule {rule} of docs/splits.md.",
            images=f"Built from the annotations of the dataset {dataset}.",
        ).model_dump(mode="json"),
    }
    remedy = "name another id with --id"
    return load(SplitFile, value, "the split", page="docs/splits.md", remedy=remedy)


def _version(split_id: str | None) -> int:
    digits = (split_id or "-v1").rpartition("-v")[2]
    return int(digits) if digits.isdigit() and digits.isascii() else 1


@dataclass(frozen=True)
class Outlook:
    """What a rule leaves to a part.

    Attributes
    ----------
    rule, part: which.
    images: how many images the part has.
    pools: how many images each of its labels has.
    """

    rule: RuleName
    part: PartName
    images: int
    pools: dict[str, int]

    def too_few(self, need: int) -> dict[str, int]:
        """The labels with fewer than `need` images."""
        return {label: n for label, n in self.pools.items() if n < need}


def outlook(definition: SplitFile, annotations: Annotations) -> list[Outlook]:
    """What each rule leaves to each part, with the label lists of a definition."""
    found = []
    for rule in RULES:
        ruled = definition.rule.model_copy(
            update={
                "name": rule,
                "excluded_by": PerPart[list[PartName]](**EXCLUDED_BY[rule]),
            }
        )
        parts = apply_rule(definition.model_copy(update={"rule": ruled}), annotations)
        for name in PART_NAMES:
            part = parts[name]
            pools = dict(zip(part.labels, part.targets.sum(axis=0).tolist(), strict=True))
            found.append(Outlook(rule, name, len(part.image_ids), pools))
    return found
