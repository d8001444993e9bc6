"""Epochs of NCR against a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from epochs import train_epoch
from set_up import set_up_ncr
from torch import Tensor

from ncbench import Task

MakeTask = Callable[..., Task]


def test_epochs_are_those_of_a_plain_loop(make_task: MakeTask, noisy: np.ndarray) -> None:
    """The same training by hand, with sklearn's mixture and losses written down once more."""
    from sklearn.mixture import GaussianMixture

    settings = {"warmup": 0.09, "noisy_after": 0.1, "decay_every": 0.2, "clip": 0.5, "surest": 0.2}
    made = set_up_ncr(make_task(budget=20.0, claimed=noisy), **settings)
    entries = [entry for epoch in range(4) for entry in train_epoch(made, epoch)]

    task = make_task(budget=20.0, claimed=noisy)
    nets = [task.new_backbone() for _ in range(2)]
    adams = [torch.optim.Adam(net.parameters(), 1e-2) for net in nets]
    orders = [task.rng(f"order of pairs of network {name}") for name in "AB"]
    scanning, guessing = task.rng("order of the scan"), task.rng("first guess of the mixture")

    def batches(rng: np.random.Generator, pairs: Any) -> list[Any]:
        order = rng.permutation(pairs)
        parts = [order[start : start + 8] for start in range(0, len(order), 8)]
        return [task.data.batch(part) for part in parts if len(part) > 1]

    def costs(scores: Tensor, margins: Any) -> tuple[Tensor, Tensor]:
        margins = torch.as_tensor(margins).expand(len(scores))
        off = 1 - torch.eye(len(scores))
        own = scores.diag()
        return (margins[:, None] + scores - own[:, None]).relu() * off, (margins + scores - own).relu() * off

    def per_pair(scores: Tensor) -> Tensor:
        by_image, by_caption = costs(scores, 0.2)
        return (by_image.sum(1) + by_caption.sum(0)) / len(scores)

    def forward(net: Any, batch: Any) -> Tensor:
        return net(*batch.inputs)

    def guess(net: Any, batch: Any) -> Tensor:
        with torch.no_grad():
            raw = (0.2 - per_pair(forward(net, batch)) / 2).clamp(0, 0.2)
        best = raw.sort(descending=True).values[: len(batch) // 5 + 1]
        return (raw / best.mean()).clamp(0, 1)

    def step(k: int, loss: Tensor, done: float) -> None:
        adams[k].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(nets[k].parameters(), 0.5)
        adams[k].param_groups[0]["lr"] = 1e-2 * 0.1 ** int(max(0.0, done - 0.09) / 0.2)
        adams[k].step()

    def train(k: int, batch: Any, labels: Tensor) -> None:
        by_image, by_caption = costs(forward(nets[k], batch), 0.2 * (10**labels - 1) / 9)
        step(k, by_image.max(1).values.sum() + by_caption.max(0).values.sum(), task.budget.progress)

    warm = [batches(order, np.arange(48)) for order in orders]
    for pair in zip(*warm, strict=True):
        for k in (0, 1):
            if task.budget.progress < 0.09:
                loss = per_pair(forward(nets[k], pair[k])).sum()
                step(k, loss, task.budget.progress)
    for _ in range(3):
        found = np.zeros((2, 48))
        for batch in batches(scanning, np.arange(48)):
            for k in (0, 1):
                with torch.no_grad():
                    found[k, batch.pairs] = per_pair(forward(nets[k], batch)).numpy()
        posterior = []
        for row in found:
            row = (row - row.min()) / (row.max() - row.min())
            seed = int(guessing.integers(2**31))
            fitted = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
            posterior.append(fitted.fit(row[:, None]).predict_proba(row[:, None])[:, fitted.means_.argmin()])
        beliefs = [posterior[1], posterior[0]]
        assert all(2 <= (belief > 0.5).sum() <= 46 for belief in beliefs)
        clean = [batches(order, np.flatnonzero(w > 0.5)) for order, w in zip(orders, beliefs, strict=True)]
        left: list[list[Any]] = [[], []]
        for turn in range(max(map(len, clean))):
            for k in (0, 1):
                if turn >= len(clean[k]):
                    continue
                batch, w = clean[k][turn], torch.tensor(beliefs[k]).float()
                other = None
                if task.budget.progress >= 0.09 + 0.1 * 0.91:
                    left[k] = left[k] or batches(orders[k], np.flatnonzero(beliefs[k] <= 0.5))
                    other = left[k].pop(0)
                w = w[batch.pairs]
                labels = w + (1 - w) * guess(nets[k], batch)
                if other is not None:
                    other_labels = (guess(nets[k], other) + guess(nets[1 - k], other)) / 2
                train(k, batch, labels)
                if other is not None:
                    train(k, other, other_labels)

    assert task.budget.used == made.task.budget.used
    kinds = [entry.get("loss_noisy", -1.0) for entry in entries]
    assert min(kinds) < 0
    assert 0 in kinds
    assert max(kinds) > 0
    np.testing.assert_allclose(made.pair_scores(), np.mean(posterior, 0), atol=1e-3)
    for ours, theirs in zip(made.networks, nets, strict=True):
        for key, value in ours.state_dict().items():
            torch.testing.assert_close(value, theirs.state_dict()[key], rtol=1e-3, atol=1e-4)
