"""What a user asks for: one run with all its options."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.features.training_options import PLAIN, Training

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.embeddings.formats import Form
    from mlfsic_bench.embeddings.label_embeddings import LabelEmbeddings
    from mlfsic_bench.episodes.protocol import Protocol
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.given import GivenFeatures
    from mlfsic_bench.methods.contract import Method
    from mlfsic_bench.splits.split import Split

T = TypeVar("T")
FeatureMode = Literal["stored", "live", "end-to-end"]
ScoredPart = Literal["novel", "val"]
Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
SCORED_PARTS: tuple[ScoredPart, ...] = ("novel", "val")
FEATURE_MODES: tuple[FeatureMode, ...] = ("stored", "live", "end-to-end")


RECORD = "record.json"  # of a run's folder: what the run is and how it went
METHOD = "method.pt"  # what its method learnt
UNVERSIONED = "unversioned"  # a method whose code no version and no file stands for


@dataclass(frozen=True)
class RunPlan:
    """One run as a user asks for it; the command line's options, one field each.

    Attributes
    ----------
    method: a method's name, `path/to/file.py:Class`, or a Method class or object (`maker`).
    split: a shipped split's id, a split file, or a Split.
    dataset: how the split's dataset is opened: a name, a file, `path/to/file.py:Class` or a
        Dataset; None for the name in the split.
    backbone, weights: as in `mlfsic-bench features`; or a Backbone with its weights.
    features_pack: a feature pack or an imported store, in place of a backbone and images.
    data_root: where the dataset lies; None: the environment variable MLFSIC_DATA.
    embeddings: a file of label embeddings; `backbone` for those of the backbone's text side; the
        folder of a sentence encoder; `random` for vectors that say nothing, a control; `A+B` for
        several of these; LabelEmbeddings of all labels of the split; or None.
    embeddings_format: how that file is written: `text`, `binary`, or `auto` to look at its content.
    templates: texts that labels are written into, where an encoder makes the embeddings.
    available_only, min_pool: limit the split to the images on disk.
    base_images: train on the first so many base images only (`parts.select_parts`); None for all.
    base_labels: train on the so many base labels with the most images only; None for all.
    preset, settings: the method's parameters, `settings` being name -> value or its text.
    seed: the training seed.
    part: which episodes are scored: `novel`, or `val` for a trial, on the selection episodes.
    protocol: how the novel episodes are drawn; None: as `episodes_file` says, else the default.
    episodes: only the first so many episodes of the set; None for all.
    episodes_file: an episode file instead of the split's own episodes.
    features: `stored`, `live`, or `end-to-end` (the backbone is trained too).
    precision: of the backbone, `fp32` or `bf16`; of one that is trained, of its products alone.
    training: how a live or trained backbone is computed; see `Training`.
    device: `auto`, `cpu` or `cuda`.
    cache: where extracted features are kept; None for the user's cache folder.
    batch_size, workers: images that go through a frozen backbone at once, and decoding threads;
        None for what suits the device.
    out: the run's folder; None for `runs/<method>-<split>[-subset]-<key>`.
    """

    method: str | type[Method] | Method
    split: str | Split
    backbone: str | Backbone = ""
    weights: str = "default"
    data_root: Path | None = None
    dataset: str | Dataset | None = None
    features_pack: Path | None = None
    embeddings: Path | LabelEmbeddings | None = None
    embeddings_format: Form = "auto"
    templates: tuple[str, ...] = ()
    available_only: bool = False
    min_pool: int | None = None
    base_images: int | None = None
    base_labels: int | None = None
    preset: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    part: ScoredPart = "novel"
    protocol: Protocol | None = None
    episodes: int | None = None
    episodes_file: Path | None = None
    features: FeatureMode = "stored"
    precision: Precision = "fp32"
    training: Training = PLAIN
    device: str = "auto"
    cache: Path | None = None
    batch_size: int | None = None
    workers: int | None = None
    out: Path | None = None

    @property
    def spec(self) -> str:
        """The method's name, of a plan that names it."""
        assert isinstance(self.method, str)
        return self.method

    @property
    def texts(self) -> dict[str, str]:
        """The settings as text."""
        return as_settings(self.settings)

    @property
    def network(self) -> str:
        """The name of the backbone, whether it is named or given."""
        return self.backbone if isinstance(self.backbone, str) else str(self.backbone.name)


def refuse_beside_given(plan: RunPlan, given: GivenFeatures | None) -> None:
    """BenchError for what a plan asks beside a feature pack although the pack has settled it."""
    if given is None:
        return
    given.check_name(plan.network)
    asked = {
        "--features": plan.features != "stored",
        "--precision": plan.precision not in ("fp32", given.precision),
        "--weights": plan.weights != "default",
        "--available-only": plan.available_only and not plan.split,
        "--min-pool": plan.min_pool is not None and not plan.split,
    }
    wrong = [option for option, one in asked.items() if one]
    if wrong:
        raise BenchError(
            f"{wrong[0]} is settled by the feature pack",
            expected="--features-pack alone: it says which network made it, of which images",
            found=f"{' and '.join(wrong)} beside --features-pack {plan.features_pack}",
            remedy=f"leave {' and '.join(wrong)} out",
        )


def settings_of(method: str, methods: Sequence[str], settings: Mapping[str, T]) -> dict[str, T]:
    """The settings of one of several methods: `name` is for all of them, `METHOD.name` for one.

    What is said for one goes before what is said for all. BenchError for a METHOD that is none of
    them.

    >>> settings_of("linear", ["linear", "ridge"], {"alpha": 1, "linear.alpha": 2, "ridge.l2": 3})
    {'alpha': 2}
    """
    chosen: dict[str, T] = {}
    for key, value in sorted(settings.items(), key=lambda item: "." in item[0]):
        whose, dot, name = key.rpartition(".")
        if dot and whose not in methods:
            raise unknown_name(f"method of the parameter {key!r}:", whose, methods)
        if not dot or whose == method:
            chosen[name] = value
    return chosen


def as_settings(settings: Mapping[str, object]) -> dict[str, str]:
    """Parameters as `--set` takes them; text stays as it is.

    >>> as_settings({"scale": 4.0, "order": "first", "layers": [1, 2], "limit": None, "on": True})
    {'scale': '4.0', 'order': 'first', 'layers': '[1, 2]', 'limit': 'none', 'on': 'true'}
    """
    return {name: _text(value) for name, value in settings.items()}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "none"
    try:
        return json.dumps(value)
    except TypeError:
        return str(value)


def default_folder(method: str, split_id: str, subset: bool, key: str) -> Path:
    """`runs/<method>-<split>[-subset]-<first 8 digits of the key>`."""
    parts = [method, split_id, *(["subset"] if subset else []), key[:8]]
    return Path("runs") / "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", part) for part in parts)
