"""Tiny methods of word-guided attention, untrained and trained, in all forms."""

from __future__ import annotations

import torch

from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.methods.word_guided.method import WordGuidedAttentionMethod
from mlfsic_bench.methods.word_guided.model import WordGuidedAttention
from mlfsic_bench.methods.word_guided.params import HEADS_AND_MLP, PRESETS, WordGuidedParams
from tests.fakes.source import learnable_part

TINY = {
    "d_j": 12,
    "d_mlp": 10,
    "n_a": 3,
    "epochs": 2,
    "warmup_epochs": 1,
    "steps_per_epoch": 6,
    "select_every": 1,
}
FORMS = {
    "paper": {},
    "authors-tomm": PRESETS["authors-tomm"],
    "per image": {"aggregation": "per_image"},
    "layer norm": {"layer_norm": True},
    "global": {"prototype": "attention_global"},
    "simple": {"prototype": "simple"},
    "simple local": {"prototype": "simple_local"},
    "fine-tuned": {"fine_tune_epochs": 3},
}


def params(sizes: dict[str, object], settings: dict[str, object]) -> WordGuidedParams:
    """Both together; sizes of what the simple prototypes have none of are left out for these."""
    simple = str(settings.get("prototype", "")).startswith("simple")
    kept = {k: v for k, v in sizes.items() if not (simple and k in HEADS_AND_MLP)}
    return WordGuidedParams(**{**kept, **settings})


def tiny(**settings: object) -> WordGuidedAttentionMethod:
    return WordGuidedAttentionMethod(params(TINY, settings))


def untrained(**settings: object) -> WordGuidedAttentionMethod:
    method = tiny(**settings)
    generator = torch.Generator().manual_seed(3)
    method.model = WordGuidedAttention(method.params, 6, 4, generator).eval()
    return method


def trained(seed: int = 1, folder=None, **settings: object) -> WordGuidedAttentionMethod:
    method = tiny(**settings)
    base, val = learnable_part("base"), learnable_part("val", n_episodes=3)
    method.fit(base, val, FitContext(seed, folder))
    return method


def differ(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two states differ by more than rounding."""
    near = (torch.allclose(a[k].float(), b[k].float(), rtol=1e-4, atol=1e-6) for k in a if k in b)
    return a.keys() != b.keys() or not all(near)
