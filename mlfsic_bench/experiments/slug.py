"""The name of a run's folder, so that tables that need the same run find the same folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlfsic_bench.episodes.protocol import find_protocol
from mlfsic_bench.hashing import hash_json

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.methods.contract import Method


def slug_of(plan: RunPlan, method: Method) -> str:
    """Readable beginning, then 8 digits of a hash over all that a user chose about the run.

    Parameters are taken as `method` has them, so a default that one table spells out and another
    leaves out makes one run. A run's key still decides whether a folder holds the run in question.
    """
    protocol = plan.protocol or find_protocol()
    public = {
        "method": plan.method,
        "parameters": method.params.model_dump(mode="json"),
        "split": plan.split,
        "available_only": plan.available_only,
        "min_pool": plan.min_pool,
        "backbone": plan.backbone,
        "weights": plan.weights,
        "words": plan.embeddings.name if plan.embeddings else None,
        "features": plan.features,
        "precision": plan.precision,
        "protocol": protocol.name,
        **{"shots": None, **protocol.choices},
        "episodes": plan.episodes,
        "base_images": plan.base_images,
        "seed": plan.seed,
    }
    parts = [method.name, plan.backbone]
    if plan.embeddings:
        parts.append(plan.embeddings.name.removesuffix(".txt").removesuffix(".labels"))
    if protocol.tag:
        parts.append(protocol.tag.replace("-", ""))
    if plan.base_images:
        parts.append(f"{plan.base_images}images")
    parts += [f"seed{plan.seed}", hash_json(public)[:8]]
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part) for part in parts)
