"""What a source was made with, beside its method's card: base images, backbone, words, version.

All of it is in a run's record; a scores file without one says little of it, or nothing.
"""

from __future__ import annotations

from mlfsic_bench.analysis.score import Source
from mlfsic_bench.evaluation.identity import method_version
from mlfsic_bench.evaluation.meta import BaseImages
from mlfsic_bench.hashing import hash_json

UNSTATED = "not stated, a run's scores without its record"


def traits_of(source: Source) -> dict[str, str]:
    """What a source was made with, beside method, parameters and training seed."""
    card = source.scores.meta.method
    traits = {"preset": str(card.preset)} if card.preset else {}
    cut = base_images_of(source)
    if cut:
        traits["base images"] = f"{cut.used:,} of {cut.of:,}"
    if source.run is None:
        if cut is None and source.scores.meta.run is not None:
            traits["base images"] = UNSTATED
        return traits
    record = source.run.record
    if record.features:
        features = record.features
        traits["backbone"] = features.backbone
        traits["weights"] = f"{features.weights} {features.weights_hash[:8]}"
        end_to_end = features.mode == "end-to-end"
        traits["features"] = "trained end to end" if end_to_end else "frozen"
        traits["precision"] = features.precision
    if record.words and card.uses_words:
        traits |= {"words": record.words.name, "words hash": record.words.hash[:8]}
    traits["method version"] = method_version(record.identity)
    return traits


def base_images_of(source: Source) -> BaseImages | None:
    """On how many base images the method was trained, by its record or else by its scores file."""
    return source.run.record.base_images if source.run else source.scores.meta.base_images


def group_key(source: Source) -> str:
    """Equal for sources that differ in the training seed alone."""
    card, traits = source.scores.meta.method, traits_of(source)
    same = {name: value for name, value in traits.items() if name != "preset"}
    return hash_json([card.name, card.parameters, same, source.run is not None])
