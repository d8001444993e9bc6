"""Rematching on any similarity matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ncbench import ArgumentError, losses, rematching, transport

S = torch.rand((6, 6), generator=torch.Generator().manual_seed(0))


def test_given_pairs_by_hand() -> None:
    found = rematching.given_pairs([3, 1, 3], torch.tensor([1, 3]))
    assert found.tolist() == [[False, True], [True, False], [False, True]]


@pytest.mark.parametrize("form", [lambda s: s, lambda s: s.numpy(), lambda s: s.tolist(), lambda s: s.requires_grad_()])
def test_the_plan_is_a_transport_of_one_minus_similarity(form: Callable[[Any], Any]) -> None:
    plan = rematching.plan_rematches(form(S.double()), mass=0.4, reg=0.05)
    ours = transport.partial_transport(1 - S.double(), 0.4, 0.05, torch.eye(6, dtype=torch.bool))
    assert torch.equal(plan, ours)
    assert plan.diagonal().tolist() == [0.0] * 6
    assert plan.sum().item() == pytest.approx(0.4, abs=1e-6)
    assert not plan.requires_grad


def test_rectangles_need_the_given_pairs() -> None:
    given = rematching.given_pairs(range(6), [0, 0, 5])
    plan = rematching.plan_rematches(S[:, :3], given, mass=0.5, reg=0.05)
    assert not plan[given].any()
    assert (plan[~given] > 0).all()
    with pytest.raises(ArgumentError, match=r"given: expected which of the \(6, 3\) pairs the data claim"):
        rematching.plan_rematches(S[:, :3])


def test_what_has_no_room_is_not_moved() -> None:
    assert not rematching.plan_rematches(S, torch.ones(6, 6, dtype=torch.bool), mass=0.5).any()
    half = torch.ones(6, 6, dtype=torch.bool)
    half[:2] = False
    assert rematching.plan_rematches(S, half, mass=0.9, solver="exact").sum().item() == pytest.approx(1 / 3, abs=1e-5)
    assert rematching.plan_rematches(torch.zeros(0, 0)).shape == (0, 0)


def test_planted_partners_are_found() -> None:
    """Captions claim a wrong image; their own is in the batch, at another place."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(32, 16))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    shift = np.roll(np.arange(32), 5)
    similarities = torch.from_numpy(images @ (images[shift] + 0.05 * rng.normal(size=(32, 16))).T)
    plan = rematching.plan_rematches(similarities, mass=0.9, reg=0.05)
    rows, shares = rematching.best_images(plan)
    assert (rows == shift).all()
    assert shares.min() > 0.5


def test_a_step_against_the_plan_raises_its_pairs() -> None:
    similarities = S.clone().requires_grad_()
    plan = rematching.plan_rematches(similarities, mass=0.3, reg=0.02)
    losses.symmetric_kl(similarities, plan, tau=0.05).backward()
    assert similarities.grad is not None
    image, caption = np.unravel_index(int(plan.argmax()), plan.shape)
    assert similarities.grad[image, caption] < 0


def test_best_images_by_hand() -> None:
    rows, shares = rematching.best_images([[0.1, 0.0, 0.0, 1e-12], [0.3, 0.0, 0.2, 0.0]])
    assert rows.tolist() == [1, 0, 1, 0]
    assert shares.tolist() == [pytest.approx(0.75), 0.0, 1.0, 0.0]
    rows, shares = rematching.best_images(torch.zeros(3, 0))
    assert (len(rows), len(shares)) == (0, 0)


def test_the_first_cost_is_one_minus_similarity() -> None:
    assert torch.allclose(rematching.CostNetwork(6)(S), 1 - S)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rematching.plan_rematches(S[0]), "similarities: expected numbers (images, captions), found"),
        (lambda: rematching.plan_rematches(S.int()), "similarities: expected numbers (images, captions), found"),
        (lambda: rematching.plan_rematches(S, S), "given: expected booleans, found an array of float32"),
        (lambda: rematching.plan_rematches(S, [True]), "given: expected the shape of similarities, (6, 6), found (1,)"),
        (lambda: rematching.given_pairs([0.5], [1]), "images: expected integers, found an array of float64"),
        (lambda: rematching.best_images(S[0]), "plan: expected the masses (images, captions), found shape (6,)"),
        (lambda: rematching.best_images(S[:0]), "plan: expected the masses (images, captions), found shape (0, 6)"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value).startswith(message)
