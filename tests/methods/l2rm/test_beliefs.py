"""What L2RM believes about its pairs: P(clean) and rematches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from epochs import train_epoch
from set_up import set_up_l2rm
from torch import Tensor

from ncbench import Task, mixture
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect

MakeTask = Callable[..., Task]


def test_no_beliefs_before_the_first_split(make_task: MakeTask) -> None:
    method = set_up_l2rm(make_task(), warmup=0.9)
    list(train_epoch(method, 0))
    assert method.pair_scores() is None
    assert method.rematches() is None
    assert method.transport_plan() is None


def oracle(images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Scores of one who knows: how many of the named shapes an image shows."""
    seen = images.round().sum(1)  # (I, shapes)
    said = torch.stack([(tokens == 4 + shape).sum(1) for shape in range(6)], 1).float()
    return 0.1 + 0.8 * torch.minimum(seen[:, None], said).sum(-1) / said.sum(-1)


def test_an_oracle_tells_clean_pairs_from_noisy_ones(tiny: Dataset, noisy: np.ndarray, make_task: MakeTask) -> None:
    method = set_up_l2rm(make_task(claimed=noisy), batch_size=48, queue=48)  # all pairs in one batch: no draw decides
    method.backbone.forward = oracle
    method.begin_epoch(0)
    scores = method.pair_scores()
    assert scores.shape == (48,)
    assert scores.min() >= 0
    assert scores.max() <= 1
    clean = noisy == tiny.splits["train"].true
    found = detect(scores, clean)
    assert (found.auc, found.precision) == (1, 1)
    assert found.recall > 0.5


def test_rematches(noisy: np.ndarray, make_task: MakeTask) -> None:
    method = set_up_l2rm(make_task(claimed=noisy), queue=20)
    for epoch in range(3):
        list(train_epoch(method, epoch))
    believed_noisy = np.flatnonzero(method.pair_scores() <= 0.5)
    before = method.queue_numbers.tolist()
    rematches = method.rematches()
    assert method.queue_numbers.tolist() == before
    assert torch.equal(method.queue, method.task.data.images(np.array(before)))
    assert len(rematches.captions) == len(believed_noisy) // 8 * 8 > 0
    assert len(rematches.captions) == len(rematches.images) == len(rematches.weights)
    assert len(set(rematches.captions)) == len(rematches.captions)
    assert set(rematches.captions) <= set(believed_noisy)
    assert (rematches.images != noisy[rematches.captions])[rematches.weights > 0].all()
    assert ((rematches.images >= 0) & (rematches.images < 24)).all()
    assert ((rematches.weights >= 0) & (rematches.weights <= 1)).all()
    assert (rematches.weights > 0).any()


def test_the_plan_to_look_at_is_one_of_training(noisy: np.ndarray, make_task: MakeTask) -> None:
    method = set_up_l2rm(make_task(claimed=noisy), queue=20)
    for epoch in range(3):
        list(train_epoch(method, epoch))
    before = method.queue_numbers.tolist()
    plan, again = method.transport_plan(), method.transport_plan()
    assert plan is not None
    assert method.queue_numbers.tolist() == before
    np.testing.assert_array_equal(plan.mass, again.mass)
    assert plan.mass.shape == (20, 8) == (len(plan.images), len(plan.captions))
    assert (method.pair_scores()[plan.captions] <= 0.5).all()
    assert plan.images.tolist() == [*noisy[plan.captions], *before[:12]]
    given = plan.images[:, None] == noisy[plan.captions]
    assert (plan.mass[given] == 0).all()
    assert plan.mass.sum() == pytest.approx(method.config.mass, rel=1e-3)


def test_rematches_are_what_training_believes(make_task: MakeTask) -> None:
    """The weight is the largest entry of the caption's label; a label below the floor is uniform, and no belief."""
    method = set_up_l2rm(make_task(), reg=0.01)
    method.p_clean = np.repeat([0.0, 1.0], [8, 40])
    scores = torch.full((8, 8), 0.5)
    scores[:, 7] = -9.0  # a caption that nothing is like
    scores[:, :2] += torch.linspace(0, 0.02, 8)[:, None]
    method._similarities = lambda images, batch: scores
    rematches = method.rematches()
    assert (rematches.weights > 0).tolist() == [True] * 7 + [False]
    batch = method.task.data.batch(rematches.captions)
    method._enqueue(batch)
    plan = method._plan(scores, batch)[:, :7].double().numpy()
    np.testing.assert_allclose(rematches.weights[:7], (plan / plan.sum(0)).max(0), rtol=1e-6)
    assert (rematches.images[:7] == method.queue_numbers[plan.argmax(0)]).all()


def test_rematches_of_an_oracle_are_better_than_the_claims(
    tiny: Dataset, noisy: np.ndarray, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = noisy == tiny.splits["train"].true
    monkeypatch.setattr(mixture, "clean_probability", lambda _: clean.astype(float))
    method = set_up_l2rm(make_task(claimed=noisy), queue=40, mass=0.5)
    method.backbone.forward = oracle
    monkeypatch.setattr(method, "_update", lambda clean, noisy: {"loss": 0.0})
    list(train_epoch(method, 0))
    found = method.rematches()
    closeness = tiny.semantics.closeness
    ours = closeness("train", found.captions, found.images)
    theirs = closeness("train", found.captions, noisy[found.captions])
    assert ours.mean() > theirs.mean() + 0.1
