"""Small methods and decoders of `pla`, and its read-out token by token."""

import math

import torch
from mlfsic_baselines.pla import PLA, PLAParams
from mlfsic_baselines.pla_decoder import Decoder

from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.randomness import torch_generator

SMALL = {"hidden": 16, "attention": 8, "embedding": 6, "epochs": 2, "encoder_epochs": 1}


def method(**changes):
    # label embeddings have a dimension of their own
    small = {k: v for k, v in SMALL.items() if (k, changes.get("words")) != ("embedding", "glove")}
    return PLA(PLAParams(**{**small, **changes}))


def fitted(part, **changes):
    pla = method(**changes)
    pla.fit(part, None, FitContext(3))
    return pla


def small_decoder(L=4, c=6, seed=1):
    decoder = Decoder(c, 5, 7, 3)
    decoder.draw(torch_generator("test decoder", seed))
    decoder.set_labels([f"l{i}" for i in range(L)], seed, None)
    return decoder


def peaked(*tokens, L=3):
    """Logits [T, L + 1] whose argmax is these tokens."""
    return torch.nn.functional.one_hot(torch.tensor(tokens), L + 1).double() * 5


def naive_read_out(logits):
    """Scores and greedy set of one image, token by token."""
    end = logits.shape[1] - 1
    best, greedy = [0.0] * end, set()
    for z in logits.double().tolist():
        total = sum(math.exp(v) for v in z)
        best = [max(b, math.exp(v) / total) for b, v in zip(best, z, strict=False)]
        token = z.index(max(z))
        if token == end:
            break
        greedy.add(token)
    return [math.log(p / (1 - p)) for p in best], greedy
