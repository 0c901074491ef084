"""What sets the figures of `score` apart from whole ones, and which files are seeds of one method.

Backbone, label vectors, base images and code are not in a method's card but in its run's record, so
runs are taken together as training seeds only where the records' identities are equal but for the
seed. Files that come with no record have their description alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlfsic_bench.evaluation.identity import differences, meaning
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.metrics.image_interval import SMALL_POOL
from mlfsic_bench.results.marks import SUBSET, changed, failed_audits, off_defaults

if TYPE_CHECKING:
    from mlfsic_bench.analysis.score import Source
    from mlfsic_bench.evaluation.record import Record
    from mlfsic_bench.results.targets import Truth


def seed_groups(sources: Sequence[Source]) -> list[list[int]]:
    """Places in `sources` of files that differ in the training seed alone; each place once.

    A run's file that lies outside its folder does not say what it was made with, so it stays alone.
    """
    groups: dict[str, list[int]] = {}
    for place, source in enumerate(sources):
        known = source.run is not None or source.scores.meta.run is None
        key = hash_json(_made_with(source)) if known else f"alone {place}"
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def notes(sources: Sequence[Source], truth: Truth) -> list[str]:
    """Sentences below the figures: subset, episodes, answers, small pools, how files were made."""
    meta = sources[0].scores.meta
    lines = []
    if meta.split.subset:
        lines.append(SUBSET)
    if meta.episodes.count < meta.episodes.total:
        lines.append(
            f"Only the first {meta.episodes.count} of {meta.episodes.total} episodes were scored."
        )
    if truth.origin == "stored":
        lines.append(
            "The answers are those the run stored; name --data-root to make them anew from the "
            "split. Without the support images, intervals over images cover query images only."
        )
    lines += _small_pool(truth, meta.labels)
    lines += [line for source in sources for line in _origin(source)]
    lines += failed_audits((s.path.name, s.run.record) for s in sources if s.run is not None)
    cards = [source.scores.meta.method for source in sources]
    return [*lines, *_apart(sources), *off_defaults((card.name, changed(card)) for card in cards)]


def smallest_pool(truth: Truth) -> tuple[int, int]:
    """(n, label): the label that the fewest distinct query images show, of those shown at all."""
    names, code = np.unique(truth.query, return_inverse=True)
    shown = np.zeros((len(names), truth.targets.shape[2]), np.bool_)
    np.logical_or.at(shown, code.ravel(), truth.targets.reshape(-1, shown.shape[1]))
    count = shown.sum(axis=0)
    label = int(np.where(count > 0, count, len(names) + 1).argmin())
    return int(count[label]), label


def _small_pool(truth: Truth, labels: Sequence[str]) -> list[str]:
    count, label = smallest_pool(truth)
    if not 0 < count < SMALL_POOL:
        return []
    return [
        f"SMALL POOL: the query images show {labels[label]} in only {count} images. Below "
        f"{SMALL_POOL} images a label, 95 % intervals over images may cover less than 90 %, since "
        "the mean itself depends on the size of the pool (docs/metrics.md)."
    ]


def _origin(source: Source) -> list[str]:
    """How one file was made, as far as its record or description tells."""
    meta, name = source.scores.meta, source.path.name
    if source.run is not None:
        return [f"{name}: {_inputs(source.run.record)}."]
    lines = []
    if meta.base_images is not None:
        used, of = meta.base_images.used, meta.base_images.of
        lines.append(f"{name}: trained on {used:,} of {of:,} base images, as the file says.")
    if meta.run is not None:
        lines.append(
            f"{name} is a run's, without its folder: backbone and label vectors are not stated, so "
            "it is not taken together with others as training seeds."
        )
    return lines


def _inputs(record: Record) -> str:
    parts = []
    if record.features is not None:
        f = record.features
        how = "trained end to end" if f.mode == "end-to-end" else "frozen"
        parts.append(f"backbone {f.backbone} (weights {f.weights}, {how}, {f.precision})")
    else:
        parts.append("no backbone")
    unused = "" if record.method.uses_words else " (not used)"
    parts.append(f"words {record.words.name}{unused}" if record.words else "no words")
    if record.base_images is not None:
        parts.append(f"{record.base_images.used:,} of {record.base_images.of:,} base images")
    elif record.method.trains:
        parts.append("all base images")
    return ", ".join(parts)


def _made_with(source: Source) -> dict[str, object]:
    """All that must be equal among training seeds."""
    if source.run is not None:
        return dict(meaning(source.run.record.identity), seed=0)
    meta = source.scores.meta
    cut = meta.base_images
    return {
        "method": meta.method.model_dump(mode="json", exclude={"seed"}),
        "base_images": cut.model_dump(mode="json") if cut else None,
    }


def _apart(sources: Sequence[Source]) -> list[str]:
    """A sentence for runs of one method card that are no training seeds of one another."""
    first: dict[str, Source] = {}
    lines = []
    for group in seed_groups(sources):
        source = sources[group[0]]
        if source.run is None:
            continue
        card = hash_json(source.scores.meta.method.model_dump(mode="json", exclude={"seed"}))
        other = first.setdefault(card, source)
        if other is not source:
            found = "; ".join(differences(_made_with(other), _made_with(source)))
            lines.append(
                f"{other.path.name} and {source.path.name} are not taken together as training "
                f"seeds; they differ in {found}."
            )
    return lines
