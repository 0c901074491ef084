"""A contextual vector for each label: the mean over a model's vectors of its mentions.

After the BERT row of the paper's Table 4: "BERT-base with masking", the average of 1000
contextualised vectors a label. What the paper leaves open is in docs/methodology.md, M42.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlfsic_bench.embeddings.bert import Bert, transformers_version
from mlfsic_bench.embeddings.bert_folder import tokenizer_paths, weight_path
from mlfsic_bench.embeddings.lookup import check_labels
from mlfsic_bench.embeddings.mentions import Mentions, collect_mentions
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import write_json, write_text
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.paths import resolved

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AveragePlan:
    """What to average.

    Attributes
    ----------
    model: folder of a BERT model.
    corpus: text with one sentence a line, or such text gzip'd.
    labels: L different labels.
    mentions: most mentions of a label that count (N).
    min_mentions: fewest; a label with fewer is an error.
    masked: whether the label's words are replaced by [MASK].
    layer: whose output is taken, from 1; None for the last.
    """

    model: Path
    corpus: Path
    labels: tuple[str, ...]
    mentions: int = 1000
    min_mentions: int = 1
    masked: bool = True
    layer: int | None = None


def side_file(out: Path) -> Path:
    """Where it is written down what the table `out` was made of."""
    return out.with_name(f"{out.name}.json")


def average(plan: AveragePlan, out: Path, device: torch.device) -> Mentions:
    """Write the label-level table `out` and beside it `out`.json; the mentions they rest on.

    The table has one line per label, spaces written `_`, numbers that give the float32 vector
    back exactly; means are taken in float64. Raises BenchError, and writes nothing, for a model
    or corpus that can't be read and for labels with fewer than `min_mentions` mentions.
    """
    check_labels(plan.labels)
    bert = Bert(plan.model, device)
    layer = _layer(plan, bert)
    mentions = collect_mentions(plan.corpus, plan.labels, plan.mentions)
    _check_counts(plan, mentions)
    lines = []
    for label in plan.labels:
        rows = bert.vectors(mentions.taken[label], masked=plan.masked, layer=layer)
        numbers = " ".join(f"{value:.9g}" for value in rows.mean(axis=0).astype(np.float32))
        lines.append(f"{'_'.join(label.split())} {numbers}\n")
    write_json(side_file(out), _provenance(plan, layer, mentions))
    write_text(out, "".join(lines))
    return mentions


def _layer(plan: AveragePlan, bert: Bert) -> int:
    layer = bert.layers if plan.layer is None else plan.layer
    if layer > bert.layers:
        raise BenchError(
            f"the model {plan.model} has no layer {layer}",
            expected=f"a layer from 1 to {bert.layers}",
            found=str(layer),
            remedy="choose another with --layer, or leave it out for the last",
        )
    return layer


def _check_counts(plan: AveragePlan, mentions: Mentions) -> None:
    few = {label: len(mentions.taken[label]) for label in plan.labels}
    few = {label: count for label, count in few.items() if count < plan.min_mentions}
    if few:
        raise BenchError(
            f"{plan.corpus} mentions {len(few)} of {len(plan.labels)} labels too seldom",
            expected=f"at least {plan.min_mentions} different sentences with each label",
            found=", ".join(f"{label} {count}" for label, count in few.items()),
            remedy="name a larger corpus, or lower --min-mentions where that is above 1",
        )


def _provenance(plan: AveragePlan, layer: int, mentions: Mentions) -> dict[str, Any]:
    files = [plan.model / "config.json", weight_path(plan.model), *tokenizer_paths(plan.model)]
    return {
        "made_by": "mlfsic-bench words average",
        "model": {path.name: hash_file(path) for path in files},
        "model_name": resolved(plan.model).name,
        "corpus": {
            "name": plan.corpus.name,
            "sha256": hash_file(plan.corpus),
            "lines": mentions.lines,
            "lines_too_long": mentions.too_long,
            "lines_undecodable": mentions.undecodable,
        },
        "masked": plan.masked,
        "layer": layer,
        "mentions": plan.mentions,
        "min_mentions": plan.min_mentions,
        "labels": {
            label: {"sentences": mentions.sentences[label], "taken": len(mentions.taken[label])}
            for label in plan.labels
        },
        "transformers": transformers_version(),
    }
