"""The label embeddings of a run: of a file, a backbone's text side, a sentence encoder, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlfsic_bench.embeddings.joined import join, sources
from mlfsic_bench.embeddings.label_embeddings import (
    RANDOM,
    LabelEmbeddings,
    built_in,
    embeddings_of,
    load_embeddings,
    random_embeddings,
)
from mlfsic_bench.embeddings.texts import TEMPLATES, SentenceEncoder, embed_labels
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import is_folder, note

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.methods.contract import Method
    from mlfsic_bench.splits.split import Split

BACKBONE = "backbone"  # the name of the embeddings that a backbone's text side makes
NO_FILES = (BACKBONE, RANDOM)  # what --embeddings takes that is no path


def label_embeddings(
    plan: RunPlan,
    split: Split,
    method: Method,
    dataset: Dataset | None,
    backbones: Callable[[], Sequence[Backbone]],
    device: object = "cpu",
) -> LabelEmbeddings | None:
    """What `plan.embeddings` says, for all labels of the split; None where there are none.

    Of several, `A+B`, unit vectors side by side (`joined`).

    A method that needs a text side gets the embeddings of the backbone's where none are named.
    BenchError where the method needs some and there are none, and for one that needs a text side
    where the embeddings named live in the space of another network.

    Parameters
    ----------
    backbones: gives the networks of the run; asked for only where their text side is needed.
    """
    labels = [label for part in split.parts.values() for label in part.labels]
    given = plan.embeddings
    if given is None and method.needs_text_side:
        given = Path(BACKBONE)
    named = sources(given) if isinstance(given, Path) else []
    _refuse_idle(plan, given, named)
    if given is None:
        return _of_dataset(dataset, labels, method)
    if isinstance(given, LabelEmbeddings):
        return embeddings_of(given, labels)
    return join([_of_source(one, labels, plan, backbones, device) for one in named])


def _of_source(
    given: Path,
    labels: Sequence[str],
    plan: RunPlan,
    backbones: Callable[[], Sequence[Backbone]],
    device: object,
) -> LabelEmbeddings:
    if str(given) == RANDOM:
        return random_embeddings(labels)
    note(given)  # what is kept of a file is read in its place
    if not _reads_texts(given):
        return load_embeddings(given, labels, plan.embeddings_format)
    templates = plan.templates or TEMPLATES
    if str(given) == BACKBONE:
        return from_backbone(backbones(), labels, templates)
    note(given, listed=True)
    encoder = SentenceEncoder(given, str(device))
    return embed_labels(labels, encoder, templates, name=given.name or "sentence encoder")


def _reads_texts(given: Path) -> bool:
    return str(given) == BACKBONE or is_folder(given)


def from_backbone(
    backbones: Sequence[Backbone], labels: Sequence[str], templates: Sequence[str]
) -> LabelEmbeddings:
    """The label embeddings that the text side of a backbone makes; BenchError without one."""
    names = "+".join(one.name for one in backbones)
    text = backbones[0].text if len(backbones) == 1 else None
    if text is None:
        raise BenchError(
            f"the backbone {names} has no text side",
            expected="one network with a text side, such as open_clip:ViT-B-32/openai or an hf: "
            "CLIP or SigLIP model, whose global vector is its projection",
            found="several networks" if len(backbones) > 1 else "images only",
            remedy="choose such a backbone, or name a file with --embeddings",
        )
    return embed_labels(labels, text, templates, name=f"text side of {names}", space=names)


def _of_dataset(
    dataset: Dataset | None, labels: Sequence[str], method: Method
) -> LabelEmbeddings | None:
    own = built_in(dataset, labels) if dataset is not None else None
    if own is not None:
        return own
    if method.needs_embeddings:
        raise BenchError(
            f"the method {method.name!r} needs label embeddings",
            expected="--embeddings FILE with a vector for every label, such as glove.6B.300d.txt; "
            "`backbone` for the backbone's own text side; or the folder of a sentence encoder",
            found="no --embeddings",
            remedy="name a file of label embeddings",
        )
    return None


def _refuse_idle(
    plan: RunPlan, given: Path | LabelEmbeddings | None, named: Sequence[Path]
) -> None:
    """BenchError for options that say how embeddings are read, where nothing is read so."""
    texts = any(_reads_texts(one) for one in named)
    files = isinstance(given, LabelEmbeddings) or any(
        not _reads_texts(one) and str(one) != RANDOM for one in named
    )
    if plan.templates and not texts:
        raise BenchError(
            "--template says how labels are written for an encoder, and there is none",
            expected="--embeddings backbone, or the folder of a sentence encoder, beside it",
            found="no --embeddings" if given is None else "a file of label embeddings",
            remedy="leave --template out, or name an encoder",
        )
    if plan.embeddings_format != "auto" and not files:
        raise BenchError(
            "--embeddings-format says how a file is written, and there is none",
            expected="--embeddings FILE beside it",
            found="no --embeddings" if given is None else "an encoder of texts",
            remedy="name the file of label embeddings, or leave --embeddings-format out",
        )
