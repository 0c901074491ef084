"""ml-decoder against its equations with loops; learning, tuning, resuming; the contract."""

import math

import pytest
import torch
from mlfsic_baselines.text.ml_decoder import (
    Decoder,
    MLDecoder,
    MLDecoderParams,
    asymmetric_loss,
    tune_rows,
)
from pydantic import ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.testing.check import check_method
from mlfsic_bench.training.loop import val_macro_ap
from tests.baselines.killed import KilledError
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_support, learnable_part

pytestmark = pytest.mark.slow

SMALL = {"d": 16, "heads": 2, "d_ff": 16, "batch": 8, "dropout": 0.0}


@pytest.fixture(scope="module")
def base_part():
    return learnable_part("base", images=64, labels=6)


@pytest.fixture(scope="module")
def fitted(base_part):
    method = MLDecoder(MLDecoderParams(**SMALL, epochs=30, lr=1e-2))
    method.fit(base_part, None, FitContext(3))
    return method


def norm(x, layer):
    x = x - x.mean()
    x = x / (x.pow(2).mean() + layer.eps).sqrt()
    return x * layer.weight + layer.bias


def apply(layer, x):
    return layer.weight @ x + layer.bias


def naive_logits(net, f_loc, embeddings):
    """One image, label and place after another, in float64."""
    rows = []
    for image in f_loc:
        places = [apply(net.P, image[:, y, x]).clamp(min=0)
                  for y in range(image.shape[1]) for x in range(image.shape[2])]  # fmt: skip
        row = []
        for e in embeddings:
            q = norm(apply(net.A, e / e.pow(2).sum().sqrt()).clamp(min=0), net.norm_q)
            asked, size = apply(net.Q, q), len(q) // net.heads
            found = []
            for head in range(net.heads):
                part = slice(head * size, (head + 1) * size)
                a = [float(asked[part] @ apply(net.K, m)[part]) / math.sqrt(size) for m in places]
                w = [math.exp(x) / sum(map(math.exp, a)) for x in a]
                found.append(sum(x * apply(net.V, m)[part] for x, m in zip(w, places, strict=True)))
            x = norm(q + apply(net.O, torch.cat(found)), net.norm_x)
            h = norm(x + apply(net.W_2, apply(net.W_1, x).clamp(min=0)), net.norm_h)
            row.append(float(apply(net.output, h)))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def test_logits_are_the_equations():
    generator = torch_generator("ml-decoder test")
    net = Decoder(6, 5, MLDecoderParams(d=8, heads=2, d_ff=7), generator).double()
    for p in net.parameters():  # biases and norms, too, away from where they start
        p.data += 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    f_loc = torch.randn(3, 6, 2, 3, generator=generator, dtype=torch.float64)
    embeddings = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        logits = net.logits(f_loc, embeddings)
        torch.testing.assert_close(logits, naive_logits(net, f_loc, embeddings))
        alone = net.logits(f_loc, embeddings[[2]])  # queries don't see each other
    torch.testing.assert_close(alone[:, 0], logits[:, 2])


def test_the_asymmetric_loss_is_its_formula():
    z, y = torch.tensor([[2.0, -1.0], [-4.0, 0.5]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    expected = 0.0
    for logit, target in zip(z.flatten().tolist(), y.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        p_m = max(p - 0.05, 0)
        expected -= math.log(p) if target else p_m**4 * math.log(1 - p_m)
    assert float(asymmetric_loss(z, y)) == pytest.approx(expected / 4, rel=1e-5)


def test_rows_are_tuned_by_adam_on_the_bce_of_the_support():
    generator = torch_generator("ml-decoder rows")
    h = torch.randn(5, 3, 4, generator=generator)
    Y = (torch.rand(5, 3, generator=generator) < 0.4).float()
    W, b = torch.randn(3, 4, generator=generator), torch.zeros(3)
    rows = [W.clone().requires_grad_(), b.clone().requires_grad_()]
    adam = torch.optim.Adam(rows, lr=0.05)
    for _ in range(7):
        loss = torch.zeros(())
        for i in range(5):
            for label in range(3):
                p = torch.sigmoid(rows[0][label] @ h[i, label] + rows[1][label])
                loss = loss - torch.log(p if Y[i, label] > 0 else 1 - p) / 15
        adam.zero_grad()
        loss.backward()
        adam.step()
    tune_rows(h, Y, W, b, 7, 0.05)
    torch.testing.assert_close(W, rows[0].detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(b, rows[1].detach(), atol=1e-4, rtol=1e-4)


def test_it_learns_base_labels_and_tuning_helps_on_new_ones(base_part, fitted):
    with torch.no_grad():
        logits = fitted.decoder.logits(base_part.images.local(), base_part.embeddings)
    assert ((logits > 0) == (base_part.targets > 0)).float().mean() > 0.95
    new = learnable_part("new", n_episodes=12, images=60)
    values = {}
    for epochs in (0, 40):
        rate = {"head_lr": 1e-2} if epochs else {}
        method = MLDecoder(MLDecoderParams(**SMALL, tune_epochs=epochs, **rate))
        method.load_state(fitted.state())
        values[epochs] = val_macro_ap(method.adapt_all, new)
    assert values[40] > values[0]
    assert values[40] > float(new.targets.mean()) + 0.15


def test_without_tuning_the_support_is_not_looked_at(base_part, fitted):
    method = MLDecoder(MLDecoderParams(**SMALL, tune_epochs=0))
    assert not method.adapts_by_gradient
    method.load_state(fitted.state())
    first, second = (base_part.episode(i).support for i in range(2))
    query = base_part.images.subset(range(5))
    torch.testing.assert_close(method.adapt(first)(query), method.adapt(second)(query))
    with torch.no_grad():
        logits = fitted.decoder.logits(query.local(), base_part.embeddings)
    torch.testing.assert_close(method.adapt(first)(query), logits)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("trainable", [False, True])
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, trainable):
    def run(folder, stop_at):
        source = TrainableFakeSource(8) if trainable else None
        base = learnable_part("base", images=32, source=source)
        val = learnable_part("val", n_episodes=2, source=source)

        def log(line):
            if line.startswith(f"step {stop_at}/"):
                raise KilledError

        settings = {**SMALL, "dropout": 0.1, "select_every": 1}
        method = MLDecoder(MLDecoderParams(**settings, epochs=4, tune_epochs=2))
        method.fit(base, val, FitContext(5, folder, log))
        return method.state() | ({} if source is None else source.state())

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", 8)
    again = run(tmp_path / "cut", None)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_what_does_not_fit_is_refused(base_part):
    with pytest.raises(ValidationError, match="multiple of heads"):
        MLDecoderParams(d=10, heads=4)
    with pytest.raises(ValidationError, match="no effect"):
        MLDecoderParams(tune_epochs=0, head_lr=0.1)
    with pytest.raises(BenchError, match="not been trained"):
        MLDecoder().adapt(fake_support(FakeSource()))


def test_the_contract():
    def make():
        settings = {"epochs": 2, "select_every": 1, "tune_epochs": 3, "loss": "asl"}
        return MLDecoder(MLDecoderParams(**{**SMALL, "dropout": 0.1, **settings}))

    assert [r.name for r in check_method(make) if r.status == "fail"] == []
