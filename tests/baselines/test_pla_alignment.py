"""pla: the alignment of labels with steps against brute force."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlfsic_baselines.pla_decoder import IGNORED, aligned, alignment_loss, order_labels

from mlfsic_bench.randomness import torch_generator
from tests.baselines.small_pla import peaked
from tests.searches import examples


@st.composite
def steps_and_labels(draw):
    """(logp [T, L + 1], labels [n]) with a few peaked steps, so that labels do get predicted."""
    L = draw(st.integers(1, 5))
    n = draw(st.integers(0, L))
    seed = draw(st.integers(0, 2**32))
    z = torch.randn(n + draw(st.integers(1, 3)), L + 1, generator=torch_generator(seed)).double()
    labels = draw(st.permutations(range(L)))[:n]
    return z.mul(2).log_softmax(1).numpy(), np.array(labels, np.int64)


def brute_force(logp, labels, alignment):
    """The cheapest of all orderings; for PLA of those that keep what was predicted in time."""
    n = len(labels)
    said = logp.argmax(1).tolist()
    orders = list(itertools.permutations(labels.tolist()))
    if alignment == "pla":
        first = {y: said.index(y) for y in labels.tolist() if y in said[:n]}
        orders = [o for o in orders if all(o[t] == y for y, t in first.items())]
    return min(orders, key=lambda o: -sum(logp[t, y] for t, y in enumerate(o)))


@given(steps_and_labels(), st.sampled_from(["pla", "mla"]))
@examples(150)
def test_the_order_is_that_of_brute_force(case, alignment):
    logp, labels = case
    order = order_labels(logp, labels, alignment)
    assert sorted(order.tolist()) == sorted(labels.tolist())
    assert tuple(order.tolist()) == brute_force(logp, labels, alignment)


@given(steps_and_labels())
@examples(50)
def test_pla_keeps_true_labels_where_they_are_first_predicted(case):
    logp, labels = case
    order = order_labels(logp, labels, "pla")
    said = logp.argmax(1).tolist()
    for label in labels.tolist():
        if label in said[: len(labels)]:
            assert order[said.index(label)] == label


def test_pla_and_mla_differ_where_a_prediction_costs_more_than_it_saves():
    # label 0 is predicted at step 0, a little before label 1, and is nearly as likely at step 1
    z = torch.tensor([[2.0, 1.9, 0, 0], [1.0, -9.0, 5, 0], [0, 0, 0, 9.0]])
    logp, labels = z.log_softmax(1).numpy(), np.array([0, 1])
    assert order_labels(logp, labels, "pla").tolist() == [0, 1]
    assert order_labels(logp, labels, "mla").tolist() == [1, 0]


def test_a_label_predicted_only_after_the_last_true_step_is_assigned():
    logp = peaked(2, 2, 0, 1).log_softmax(1)
    logp[1, 1] += 1  # step 1 had rather say label 1 than label 0, which is predicted too late
    assert order_labels(logp.numpy(), np.array([0, 1]), "pla").tolist() == [0, 1]
    logp[0, 1] += 3
    assert order_labels(logp.numpy(), np.array([0, 1]), "pla").tolist() == [1, 0]


def test_tokens_end_after_the_labels_and_the_loss_is_the_mean_over_them():
    logits = torch.stack([peaked(1, 3, 3), peaked(1, 0, 3), peaked(0, 0, 0)])
    targets = torch.tensor([[0.0, 1, 0], [1, 1, 0], [0, 0, 0]])
    tokens = aligned(logits, targets, "pla")
    assert tokens.tolist() == [[1, 3, IGNORED], [1, 0, 3], [3, IGNORED, IGNORED]]
    logp = logits.log_softmax(2)
    said = [logp[i, t, y] for i, row in enumerate(tokens.tolist()) for t, y in enumerate(row)]
    kept = [v for v, y in zip(said, tokens.flatten().tolist(), strict=True) if y != IGNORED]
    torch.testing.assert_close(alignment_loss(logits, targets, "pla"), -sum(kept) / 6)
