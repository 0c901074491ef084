"""The golden gate: the scores of every shipped method on a tiny made-up world, and what is stored.

`python -m tests.golden.gate` (`make golden`) stores the scores of new methods and new versions. It
refuses to store other scores, defaults or presets under a version that is stored already.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.evaluation.predict import adapt_all, score
from mlfsic_bench.methods.contract import FitContext, Method
from mlfsic_bench.methods.params import build_params
from mlfsic_bench.methods.registry import find_method, method_names
from mlfsic_bench.testing.core import same_global_state
from mlfsic_bench.testing.world import check_world

Array = npt.NDArray[np.float32]

EPISODES = 4
SELECTION = 4  # val episodes that weights are selected on: metrics are part of what is guarded
SEED = 20220222
ARRAYS = Path(__file__).with_name("scores.npz")
FACTS = Path(__file__).with_name("methods.json")

# The largest difference, as a share of the spread (largest minus smallest) of the stored scores.
# Measured between 1 and 2 threads and between instruction sets (AVX-512, AVX2, SSE): 6e-7. The
# first steps of Adam turn a gradient's rounding into a step of full length where it is almost
# zero, as in LaSO's networks: 2e-3.
TOLERANCE = 1e-4
TOLERANCES = {"laso": 0.02}


# Small and short. A change here, or of the world of the contract tests, moves every stored score.
# A method that is not named runs under its defaults.
SETTINGS = {
    "kggr": {"d_joint": "12", "d_hidden": "10", "d_out": "8", "epochs": "2", "tune_epochs": "5"},
    "laso": {"classifier_epochs": "2", "epochs": "2", "tune_epochs": "4"},
    "bcr": {"steps": "4", "select_every": "2", "projection": "8", "hidden": "6"},
    "ml-decoder": {"d": "16", "heads": "2", "d_ff": "16", "epochs": "2"},
    "multipf": {"steps": "3", "select_every": "2", "hidden": "8", "prompts": "3", "pairs": "6"},
    "relation-network": {"steps": "4", "select_every": "2", "channels": "6", "ways": "4"},
    "lpn": {"steps": "4", "select_every": "2"},
    "mmci": {
        "epochs": "2", "warmup_epochs": "1", "steps_per_epoch": "3", "select_every": "1",
        "d_j": "16", "d_mlp": "16", "n_a": "2", "lcm_steps": "5",
    },
    "pla": {
        "hidden": "16", "attention": "16", "embedding": "8", "epochs": "2", "tune_epochs": "10",
    },
    "word-guided-attention": {
        "epochs": "2", "warmup_epochs": "1", "steps_per_epoch": "3", "select_every": "1",
        "d_j": "16", "d_mlp": "16", "n_a": "2",
    },
}  # fmt: skip
# What a preset does not go together with.
WITHOUT = {("pla", "glove"): ("embedding",)}


@dataclass(frozen=True)
class Case:
    """A method under its settings above, with one of its presets or none."""

    method: str
    preset: str | None

    @property
    def id(self) -> str:
        """`method` or `method+preset`."""
        return f"{self.method}+{self.preset}" if self.preset else self.method


def cases() -> list[Case]:
    """Every registered method of this project, alone and with each of its presets.

    Left out is linear+paper, which tunes the backbone: features of the tiny world are frozen.
    """
    found = []
    for name in method_names():
        method = find_method(name)
        if method.__module__.partition(".")[0] in ("mlfsic_bench", "mlfsic_baselines"):
            found += [Case(name, preset) for preset in (None, *method.presets)]
    return [case for case in found if case != Case("linear", "paper")]


def facts_of(method: type[Method]) -> dict[str, Any]:
    """What a version stands for beside the scores: defaults and presets."""
    value = {
        "version": method.version,
        "defaults": method.Params().model_dump(mode="json"),
        "presets": method.presets,
    }
    facts: dict[str, Any] = json.loads(json.dumps(value))
    return facts


def scores_of(method: type[Method], preset: str | None) -> Array:
    """float32 [EPISODES, q, L]: fitted, saved, loaded afresh and scored, as a run does it."""
    world = check_world(text_side=method.needs_text_side)
    given = SETTINGS.get(method.name, {})
    idle = WITHOUT.get((method.name, preset or ""), ())
    params = build_params(method, {k: v for k, v in given.items() if k not in idle}, preset)
    with same_global_state():
        fitted, loaded = method(params), method(params)
        if method.trains:
            val = world.val.training(SELECTION)
            fitted.fit(world.base.training(None), val, FitContext(SEED))
        loaded.load_state({name: tensor.clone() for name, tensor in fitted.state().items()})
        episodes = [world.novel.episode(i) for i in range(EPISODES)]
        predictors = adapt_all(loaded, [episode.support for episode in episodes], 0)
        rows = []
        for i, (predictor, one) in enumerate(zip(predictors, episodes, strict=True)):
            images, labels = one.support.images, len(one.support.labels)
            rows.append(score(method.name, i, predictor, images, one.query, labels)[0])
        return np.stack(rows)


def read_stored() -> tuple[dict[str, Array], dict[str, Any]]:
    """(score arrays by case id, facts by method), empty where nothing is stored yet."""
    if not FACTS.exists():
        return {}, {}
    with np.load(ARRAYS) as arrays:
        return {name: arrays[name] for name in arrays.files}, json.loads(FACTS.read_text())


def moved(
    method: type[Method],
    preset: str | None,
    arrays: dict[str, Array],
    facts: dict[str, Any],
) -> str:
    """What differs from the stored scores, with what to do; empty when nothing does."""
    case, now = Case(method.name, preset), facts_of(method)
    known = facts.get(method.name)
    if known is None or case.id not in arrays:
        return f"no scores of {case.id} are stored: run `make golden`"
    if now["version"] != known["version"]:
        return (
            f"stored are scores of {method.name} version {known['version']}, the class says "
            f"version {now['version']}: run `make golden`, and tell of it in CHANGELOG.md"
        )
    remedy = (
        "undo the change; or, if it is meant, raise `version` in the class, run `make golden` and "
        "tell of it in CHANGELOG.md"
    )
    for kind in ("defaults", "presets"):
        # a parameter or preset that is not stored is new: the scores below say that it changes none
        own, before = now[kind], known[kind]
        changed = sorted(n for n in before if n not in own or own[n] != before[n])
        if changed:
            return f"{kind} of {method.name} changed ({', '.join(changed)}): {remedy}"
    stored, found = arrays[case.id], scores_of(method, preset)
    if found.shape != stored.shape:
        return f"{case.id}: shape {found.shape}, stored {stored.shape}: {remedy}"
    spread = float(stored.max() - stored.min()) or 1.0
    largest = float(np.abs(found - stored).max()) / spread
    limit = TOLERANCES.get(method.name, TOLERANCE)
    if not largest <= limit:
        share = f"by {largest:.2g} of their spread (at most {limit:g})"
        return f"scores of {case.id} moved {share}: {remedy}"
    return ""


def main() -> int:
    """Store what is new; 1 when something moved under a version that is stored."""
    arrays, facts = read_stored()
    wrong = 0
    for case in cases():
        method = find_method(case.method)
        known = facts.get(case.method)
        if known is not None and known["version"] == method.version and case.id in arrays:
            problem = moved(method, case.preset, arrays, facts)
            if problem:
                print(f"refused: {problem}", file=sys.stderr)
                wrong = 1
            continue
        arrays[case.id] = scores_of(method, case.preset)
        print(f"stored {case.id}, version {method.version}")
    ids = {case.id for case in cases()}
    for gone in set(arrays) - ids:
        del arrays[gone]
    if not wrong:
        named = {case.method: facts_of(find_method(case.method)) for case in cases()}
        np.savez(ARRAYS, **arrays)  # type: ignore[arg-type]
        FACTS.write_text(json.dumps(named, indent=2, sort_keys=True) + "\n")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
