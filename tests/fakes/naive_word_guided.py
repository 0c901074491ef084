"""The paper's equations written out with loops over labels, heads, images and places.

Shares nothing with the package but the names of the weights. Slow on purpose: what it computes can
be checked against the paper line by line.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def unit(x: Tensor) -> Tensor:
    return x / x.norm()


def logit(x: Tensor, y: Tensor, params) -> Tensor:
    if params.score == "cosine":
        return params.lam * torch.dot(unit(x), unit(y))
    return params.lam * (1 - (unit(x) - unit(y)).norm())


def affine(A: Tensor, x: Tensor, b: Tensor | None) -> Tensor:
    return A @ x if b is None else A @ x + b


def layer_norm(x: Tensor, norm) -> Tensor:
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-6) * norm.weight + norm.bias


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def mlp(m, x: Tensor) -> Tensor:
    p = m.params
    if p.output_projection:
        x = affine(m.O, x, m.b_O)
    y = layer_norm(x, m.norm_mlp) if p.layer_norm else x
    y = affine(m.W_2, gelu(affine(m.W_1, y, m.b_1)), m.b_2)
    y = x + y if p.residual else y
    return layer_norm(y, m.norm_out) if p.layer_norm else y


def attend(m, u: list[Tensor], w_hat: Tensor, A: Tensor, b: Tensor | None) -> Tensor:
    """mlp of the heads' outputs side by side, for one label and one list of local features."""
    p, heads = m.params, []
    for j in range(p.n_a):
        query = layer_norm(w_hat, m.norm_attention) if p.layer_norm else w_hat
        q = affine(m.Q[j], query, None if m.b_Q is None else m.b_Q[j])
        a, v = [], []
        for u_i in u:
            u_hat = affine(A, u_i, b)
            if p.layer_norm:
                u_hat = layer_norm(u_hat, m.norm_attention)
            k = affine(m.K[j], u_hat, None if m.b_K is None else m.b_K[j])
            a.append(torch.dot(q, k) / math.sqrt(p.d_a))
            v.append(affine(m.V[j], u_hat, None if m.b_V is None else m.b_V[j]))
        mu = torch.softmax(torch.stack(a), 0)
        heads.append(sum(mu[i] * v[i] for i in range(len(u))))
    return mlp(m, torch.cat(heads))


def naive_prototypes(m, f_loc: Tensor, f_glo: Tensor, targets: Tensor, w: Tensor) -> Tensor:
    p = m.params
    A, b = (m.A_local, m.b_local) if m.separate else (m.A_visual, m.b_visual)
    prototypes = []
    for c in range(len(w)):
        w_hat = affine(m.A_text, w[c], m.b_text)
        carrying = [i for i in range(len(targets)) if targets[i, c] > 0]
        if not carrying:
            prototypes.append(w_hat)
            continue
        places = {
            i: [f_glo[i]]
            if p.prototype in ("attention_global", "simple")
            else [f_loc[i, :, y, x] for y in range(f_loc.shape[2]) for x in range(f_loc.shape[3])]
            for i in carrying
        }
        together = [u for i in carrying for u in places[i]]
        if p.prototype.startswith("simple"):
            u_hat = [affine(A, u, b) for u in together]
            cosines = torch.stack([torch.dot(unit(w_hat), unit(x)) for x in u_hat])
            mu = torch.softmax(p.lam * cosines, 0)
            prototypes.append(sum(mu[i] * u_hat[i] for i in range(len(u_hat))))
        elif p.aggregation == "joint":
            prototypes.append(attend(m, together, w_hat, A, b))
        else:
            each = [attend(m, places[i], w_hat, A, b) for i in carrying]
            s = [logit(affine(m.A_visual, f_glo[i], m.b_visual), w_hat, p) for i in carrying]
            mu = torch.softmax(torch.stack(s), 0)
            prototypes.append(sum(mu[i] * each[i] for i in range(len(each))))
    return torch.stack(prototypes)


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    s = 1 / (1 + torch.exp(-z))
    return -(y * torch.log(s) + (1 - y) * torch.log(1 - s))


def naive_loss(m, episode) -> Tensor:
    p, support, query = m.params, episode.support, episode.query
    S, Q = support.images, query
    dtype = m.A_visual.dtype
    f_loc, f_glo = S.local().to(dtype), S.local().to(dtype).mean((2, 3))
    f_query = Q.local().to(dtype).mean((2, 3))
    prototypes = naive_prototypes(m, f_loc, f_glo, support.targets, support.embeddings)
    cmw, against_prototypes = [], []
    for i in range(len(S)):
        x = affine(m.A_visual, f_glo[i], m.b_visual)
        for c in range(len(support.labels)):
            w_hat = affine(m.A_text, support.embeddings[c], m.b_text)
            cmw.append(cross_entropy(logit(x, w_hat, p), support.targets[i, c]))
            if not p.use_cmw_loss:
                q = logit(x, prototypes[c], p)
                against_prototypes.append(cross_entropy(q, support.targets[i, c]))
    for i in range(len(Q)):
        x = affine(m.A_visual, f_query[i], m.b_visual)
        for c in range(len(support.labels)):
            q = logit(x, prototypes[c], p)
            against_prototypes.append(cross_entropy(q, episode.query_targets[i, c]))
    reduce = torch.mean if p.reduction == "mean" else torch.sum
    if not p.use_cmw_loss:
        return reduce(torch.stack(against_prototypes))
    return reduce(torch.stack(cmw)) + p.gamma * reduce(torch.stack(against_prototypes))
