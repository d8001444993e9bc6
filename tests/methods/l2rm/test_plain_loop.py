"""Updates of L2RM against a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from set_up import set_up_l2rm
from torch import Tensor

from ncbench import Task

MakeTask = Callable[..., Task]


def plain_hinge(S: Tensor, margin: float) -> Tensor:
    """Return the sum over pairs of what the hardest image and the hardest caption cost."""
    total = torch.zeros((), dtype=S.dtype)
    for i in range(len(S)):
        for line in (S[i], S[:, i]):
            others = torch.cat([line[:i], line[i + 1 :]])
            total = total + (margin + others - S[i, i]).max().clamp(min=0)
    return total


def plain_plan(cost: np.ndarray, forbidden: np.ndarray, mass: float, reg: float) -> np.ndarray:
    """Return the entropic partial plan: balanced transport with a dummy row and column, by Sinkhorn's iteration."""
    n, m = cost.shape
    K = np.ones((n + 1, m + 1))
    K[:n, :m] = np.where(forbidden, 0.0, np.exp(-cost / reg))
    K[n, m] = 0.0
    a, b = np.append(np.full(n, 1 / n), 1 - mass), np.append(np.full(m, 1 / m), 1 - mass)
    v = np.ones(m + 1)
    for _ in range(5_000):
        u = a / (K @ v)
        v = b / (K.T @ u)
    plan: np.ndarray = (u[:, None] * K * v)[:n, :m]
    return plan


def plain_symmetric_kl(S: Tensor, plan: np.ndarray, tau: float) -> Tensor:
    total = torch.zeros((), dtype=S.dtype)
    for scores, mass in ((S, plan), (S.T, plan.T)):
        for row in range(len(scores)):
            p = (scores[row] / tau).softmax(0)
            y = torch.from_numpy(np.maximum(mass[row], 1e-10))
            y = y / y.sum()
            total = total + 0.5 * ((y - p) * (y.log() - p.log())).sum() / len(scores)
    return total


def test_three_updates_are_those_of_a_plain_loop(make_task: MakeTask) -> None:
    same: dict[str, Any] = {"reg": 0.05, "margin": 0.2, "tau": 0.1, "mass": 0.3, "planted": 0.5}
    method = set_up_l2rm(make_task(4.0), batch_size=16, queue=24, lr_cost=1e-2, clip=0.5, decay_every=10.0, **same)
    view = method.task.data
    rng = np.random.default_rng(4)
    steps = [tuple(rng.permutation(48)[:32].reshape(2, 16)) for _ in range(3)]
    for clean, noisy in steps:
        method._update(view.batch(clean), view.batch(noisy))

    task = make_task(4.0)
    net, view, planting = task.new_backbone(), task.data, task.rng("planted images")
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    W, b = (-torch.eye(16).double()).requires_grad_(), torch.ones(16).double().requires_grad_()
    cost_adam = torch.optim.Adam([W, b], 1e-2)
    numbers = task.rng("first queue").choice(view.n_images, 24)
    images = view.images(numbers)
    for clean, noisy in steps:
        batch, other = view.batch(clean), view.batch(noisy)
        count = int(planting.integers(1, 8, endpoint=True))
        captions, places = planting.choice(16, count, replace=False), planting.choice(24, count, replace=False)
        planted = images.clone()
        planted[places] = batch.images[captions]
        with torch.no_grad():
            S = net.eval()(planted, batch.tokens, batch.lengths).double()
        cost_adam.zero_grad()
        sum((W[c] @ S[r] + b[c]).clamp(min=0) for r, c in zip(places, captions, strict=True)).backward()
        cost_adam.step()
        images = torch.cat([other.images, images])[:24]
        numbers = np.concatenate([view.claimed[noisy], numbers])[:24]
        S = net.train()(images, other.tokens, other.lengths).double()
        weights, bias, found = W.detach().numpy(), b.detach().numpy(), S.detach().numpy()
        cost = np.array([[max(0.0, weights[c] @ found[r] + bias[c]) for c in range(16)] for r in range(24)])
        forbidden = np.array([[numbers[r] == view.claimed[noisy[c]] for c in range(16)] for r in range(24)])
        loss = plain_hinge(net(*batch.inputs).double(), 0.2)
        loss = loss + plain_symmetric_kl(S, plain_plan(cost, forbidden, 0.3, 0.05), 0.1)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        adam.step()
    torch.testing.assert_close(method.cost_network.linear.weight.double(), W, rtol=1e-3, atol=1e-5)
    for (key, ours), theirs in zip(method.backbone.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
        assert not torch.equal(ours, make_task(4.0).new_backbone().state_dict()[key])
