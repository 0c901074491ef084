"""What an entry can be: its state, its tracks, and the kinds of its intervals."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """What stands behind the figures."""

    REPORTED = "reported"
    STORED = "scores stored"
    SCORES = "scores verified"
    RERUN = "rerun verified"


class Pretraining(str, Enum):
    """Which images the backbone had seen before `fit`.

    `BASE`: none but the split's base images. `EXTERNAL`: others, be they of the same data set.
    """

    EXTERNAL = "external images"
    BASE = "base images only"
    UNKNOWN = "not stated"


class WordTrack(str, Enum):
    """Whether the method was given label embeddings."""

    VECTORS = "word vectors"
    NONE = "no word vectors"
    UNKNOWN = "not stated"


class Adaptation(str, Enum):
    """Whether parameters take gradient steps on the support set."""

    GRADIENT = "by gradient"
    NONE = "without gradient"
    UNKNOWN = "not stated"


class ImageTrack(str, Enum):
    """Whether all images of the split were used."""

    FULL = "full"
    SUBSET = "subset"


class Audited(str, Enum):
    """Whether a fresh process gave some of the scores again; only the first two are ranked."""

    YES = "audited"
    FOREIGN = "foreign scores, verified"
    FAILED = "audit failed"
    NO = "not audited"


class IntervalKind(str, Enum):
    """What a 95 % interval is over; docs/metrics.md says which question each answers."""

    IMAGES = "images"
    EPISODES = "episodes"
    SEEDS = "training seeds"
