"""What a run is (identity) and the hash that names it (key): the meaning of its scores.

In it is what the scores depend on: hashes of the split, the episodes, the label embeddings and the
backbone's weights; the method's name, version and parameters; the training seed. Not in it are
device, threads, workers, batch size of extraction, paths and the state of the code: the `version`
of a method says when its scores change, and the golden gate of the tests (tests/golden) guards it.
Nobody guards the version of a method in a file of its own: its identity has the file's hash. A
class without a file, defined in a notebook, is unversioned: a random number makes each run its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlfsic_bench.evaluation.plan import UNVERSIONED
from mlfsic_bench.hashing import hash_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlfsic_bench.evaluation.inputs import Inputs

IDENTITY_VERSION = 2
SCORES_VERSION = 1
"""Raised when scores come to mean something else for every method."""
_OWN = "mlfsic-bench "  # how identities of version 1 name the code of this project's methods


def identity(inputs: Inputs) -> dict[str, object]:
    """Everything the scores of a run depend on, as a JSON object of names, numbers and hashes."""
    features, selection = inputs.features, inputs.selection
    # A key of its own rather than null: what was run before there was such a cut keeps its name.
    part = selection.base_images if selection else None
    cut = {"base_images": part.used} if part else {}
    cut |= {"base_labels": part.labels} if part and part.labels else {}
    source = inputs.method_source
    together = {"transductive": True} if inputs.method.transductive else {}
    return {
        "identity_version": IDENTITY_VERSION,
        "scores_version": SCORES_VERSION,
        "split": inputs.split.hash,
        "episodes": {"hash": inputs.episodes.hash, "count": inputs.count},
        "selection": selection.hash if selection else None,
        **cut,
        "method": {
            "name": inputs.method.name,
            **_version(source, inputs.method.version),
            **together,
            "parameters": inputs.method.params.model_dump(mode="json"),
        },
        "features": {
            "mode": features.mode,
            "backbone": features.backbone,
            "weights": features.weights_hash,
            "transform": features.transform,
            "precision": features.precision,
            **({"vector": features.vector} if features.vector else {}),
            **({"rounded": features.rounded} if features.rounded else {}),
            **(features.training.changes if features.training else {}),
        },
        "words": inputs.embeddings.hash if inputs.embeddings else None,
        "seed": inputs.seed,
    }


def _version(source: str, version: int) -> dict[str, object]:
    """What says which code a method is: its version, the hash of its file, or that nothing does."""
    if source.startswith(UNVERSIONED):
        return {UNVERSIONED: source.removeprefix(UNVERSIONED).strip()}
    return {"source": source} if source else {"version": version}


def run_key(run_identity: Mapping[str, object]) -> str:
    """The key of a run: SHA-256 of its identity."""
    return hash_json(run_identity)


def fit_key(run_identity: Mapping[str, object]) -> str:
    """What a fit depends on: all of the identity but the episodes that are scored after it."""
    return hash_json({name: one for name, one in run_identity.items() if name != "episodes"})


def meaning(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored identity as this version writes it, so that old and new runs can be compared.

    Version 1 had hashes of source files. All scores that this project's methods made under it are
    those of version 1 of the method.
    """
    if stored.get("identity_version") != 1:
        return dict(stored)
    result = {name: value for name, value in stored.items() if name != "package"}
    method = result.get("method")
    if isinstance(method, dict) and str(method.get("source", "")).startswith(_OWN):
        kept = {name: value for name, value in method.items() if name != "source"}
        result["method"] = kept | {"version": 1}
    return result | {"identity_version": IDENTITY_VERSION, "scores_version": 1}


def method_version(stored: Mapping[str, Any]) -> str:
    """The method's version in a stored identity, the hash of its file, or `unversioned`.

    >>> method_version({"identity_version": 2, "method": {"version": 3}})
    '3'
    >>> method_version({"identity_version": 2, "method": {"unversioned": "0c"}})
    'unversioned'
    """
    method = meaning(stored).get("method")
    if not isinstance(method, dict):
        return ""
    if UNVERSIONED in method:
        return UNVERSIONED
    return str(method.get("version", method.get("source", "")))


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """`name: old -> new` for every entry in which two identities differ, nested names dotted."""
    lines: list[str] = []
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += [f"{name}.{line}" for line in differences(a, b)]
        elif a != b:
            lines.append(f"{name}: {_short(a)} -> {_short(b)}")
    return lines


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else text
