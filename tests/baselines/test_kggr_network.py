"""The parts of kggr: its graph, its gated network and its decoupling against plain loops."""

import math

import pytest
import torch
from mlfsic_baselines import kggr
from mlfsic_baselines.kggr import (
    GatedGraph,
    KGGRNetwork,
    cooccurrence,
    from_neighbours,
    label_graph,
    score,
    word_edges,
)

from mlfsic_bench.randomness import torch_generator


def random(*shape, name="x"):
    return torch.randn(*shape, generator=torch_generator("test kggr", name), dtype=torch.float64)


def network(c=6, d_w=4, base=3, **sizes):
    sizes = {"d_joint": 7, "d_hidden": 5, "d_out": 6} | sizes
    words = random(base, d_w, name="words").float()
    return KGGRNetwork(
        channels=c, words=words, cooccurrence=torch.eye(base), seed=1, **sizes
    ).double()


def test_cooccurrence_is_the_share_counted_one_by_one():
    Y = (random(60, 7, name="targets") > 0.8).float()
    Y[:, 6] = 0  # a label without images
    A = cooccurrence(Y)
    for i in range(7):
        images = [row for row in Y.tolist() if row[i]]
        for j in range(7):
            both = sum(row[j] for row in images)
            expected = 1.0 if i == j else both / len(images) if images else 0.0
            assert A[i, j].item() == pytest.approx(expected, abs=1e-6)
    assert not torch.equal(A, A.T)


def test_an_edge_between_base_labels_is_counted_and_any_other_is_of_words():
    base, words, scale = torch.rand(3, 3, generator=torch_generator("edges")), random(5, 4), 6.0
    A = label_graph(base.double(), words, scale)
    x = [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in words.tolist()]
    cos = [[sum(a * b for a, b in zip(p, q, strict=True)) for q in x] for p in x]
    for i in range(5):
        total = sum(math.exp(scale * cos[i][j]) for j in range(5) if j != i)
        for j in range(5):
            if i == j:
                expected = 1.0
            elif i < 3 and j < 3:
                expected = base[i, j].item()
            else:
                expected = math.exp(scale * cos[i][j]) / total
            assert A[i, j].item() == pytest.approx(expected, abs=1e-7)


def test_word_edges_sum_to_one_and_prefer_the_nearest():
    words = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    edges = word_edges(words, 5.0)
    torch.testing.assert_close(edges.sum(1), torch.ones(3))
    assert edges[0, 1] > 0.9
    assert torch.equal(edges.diagonal(), torch.zeros(3))
    rows = torch.tensor([[2.0, 4.0], [0.0, 8.0]])
    near = from_neighbours(rows, torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1e-3]]), 50.0)
    torch.testing.assert_close(near, rows[:1], atol=1e-6, rtol=0)


def loop_step(graph, h, A):
    """The equations of GatedGraph for one image, number by number."""
    N, d = len(h), len(h[0])
    W, U, U_c, b = (t.tolist() for t in (graph.W, graph.U, graph.U_c, graph.b))

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    def times(row, vector):
        return sum(x * y for x, y in zip(row, vector, strict=True))

    new = []
    for i in range(N):
        a = [sum(A[i][j] * h[j][k] for j in range(N)) for k in range(d)]
        a += [sum(A[j][i] * h[j][k] for j in range(N)) for k in range(d)]
        z = [sigmoid(times(W[k], a) + times(U[k], h[i]) + b[k]) for k in range(d)]
        r = [sigmoid(times(W[d + k], a) + times(U[d + k], h[i]) + b[d + k]) for k in range(d)]
        rh = [r[k] * h[i][k] for k in range(d)]
        c = [math.tanh(times(W[2 * d + k], a) + times(U_c[k], rh) + b[2 * d + k]) for k in range(d)]
        new.append([(1 - z[k]) * h[i][k] + z[k] * c[k] for k in range(d)])
    return new


def test_the_gated_graph_is_its_equations():
    graph = GatedGraph(4, 3, torch_generator("gated")).double()
    with torch.no_grad():
        graph.b.copy_(random(12, name="b"))
        graph.b_O.copy_(random(3, name="b_O"))
    h_0, A = random(2, 5, 4, name="h"), random(5, 5, name="A").abs()
    found = graph(h_0, A, 3)
    for image in range(2):
        h = h_0[image].tolist()
        for _ in range(3):
            h = loop_step(graph, h, A.tolist())
        joined = torch.cat([torch.tensor(h, dtype=torch.float64), h_0[image]], 1)
        expected = torch.tanh(joined @ graph.O.T + graph.b_O)
        torch.testing.assert_close(found[image], expected, atol=1e-12, rtol=0)


def test_attention_is_the_bilinear_form_and_sums_to_one():
    net, f, words = network(), random(2, 6, 2, 3, name="f"), random(4, 4, name="new words")
    weights = net.attention(f, words)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 4, dtype=torch.float64))
    for n in range(2):
        for label in range(4):
            places = f[n].flatten(1).T
            a = torch.stack(
                [
                    net.q @ (net.P @ torch.tanh((net.U @ place) * (net.V @ words[label])))
                    for place in places
                ]
            )
            torch.testing.assert_close(weights[n, label], a.softmax(0), atol=1e-12, rtol=0)
            mean = (a.softmax(0)[:, None] * places).sum(0)
            feature = net.decouple(f, words)[n, label]
            torch.testing.assert_close(feature, net.E @ mean, atol=1e-12, rtol=0)
    assert (weights[0, 0] - weights[0, 1]).abs().max() > 1e-4


def test_images_decoupled_in_parts_are_those_decoupled_at_once(monkeypatch):
    monkeypatch.setattr(kggr, "CHUNK", 2 * 4 * 6 * 7)  # 4 labels, 6 places, d_joint 7
    net, sizes = network(), []
    decouple = net.decouple
    monkeypatch.setattr(net, "decouple", lambda f, x: sizes.append(len(f)) or decouple(f, x))
    f, words = random(3, 6, 2, 3, name="f"), random(4, 4, name="new words")
    found = net.decouple_all(f, words)
    assert sizes == [2, 1]
    torch.testing.assert_close(found, decouple(f, words), atol=1e-12, rtol=0)
    assert not found.requires_grad


def test_score_is_a_product_for_each_label():
    o, w, b = random(2, 3, 4, name="o"), random(3, 4, name="w"), random(3, name="b")
    for n in range(2):
        for label in range(3):
            expected = float(o[n, label] @ w[label] + b[label])
            assert float(score(o, w, b)[n, label]) == pytest.approx(expected, abs=1e-12)
