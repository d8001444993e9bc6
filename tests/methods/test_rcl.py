"""RCL: what negatives cost, which negatives count, and that it is plain training otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from epochs import train_epoch
from set_up import set_up
from similarities import EXAMPLE
from torch import Tensor

from ncbench import Task
from ncbench.budget import BudgetSpent
from ncbench_methods.rcl import FORMS, RCL, complementary_loss, log_complement

MakeTask = Callable[..., Task]


NAIVE: dict[str, Callable[[float, float], float]] = {
    "log": lambda p, q: -math.log(1 - p),
    "tan": lambda p, q: math.tan(p),
    "abs": lambda p, q: p,
    "exp": lambda p, q: math.exp(p - 1),
    "gce": lambda p, q: (1 - (1 - p) ** q) / q,
}


def off_diagonal(size: int) -> Tensor:
    return ~torch.eye(size, dtype=torch.bool)


make = partial(set_up, RCL)


# What negatives cost.


@pytest.mark.parametrize(
    ("form", "q", "expected"),
    [
        ("log", 0.2, 1.685676),
        ("tan", 0.2, 0.975556),
        ("abs", 0.2, 0.765121),
        ("exp", 0.2, 1.883401),
        ("gce", 0.2, 1.371763),
        ("gce", 0.5, 1.059829),
    ],
)
def test_worked_example(form: str, q: float, expected: float) -> None:
    found = complementary_loss(EXAMPLE, 0.05, off_diagonal(3), form, q)
    assert found.item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("size", [2, 5, 8])
@pytest.mark.parametrize("form", FORMS)
def test_forms_against_a_naive_loop(form: str, size: int) -> None:
    draws = torch.Generator().manual_seed(size)
    S = torch.rand((size, size), generator=draws, dtype=torch.float64)
    chosen = (torch.rand((size, size), generator=draws) < 0.5) & off_diagonal(size)
    assert not torch.equal(chosen, chosen.T)
    expected, tau, q = 0.0, 0.1, 0.3
    for query in range(size):
        of_image = [math.exp(S[query, j] / tau) for j in range(size)]
        of_caption = [math.exp(S[j, query] / tau) for j in range(size)]
        for j in range(size):
            if chosen[query, j]:
                expected += NAIVE[form](of_image[j] / sum(of_image), q) / size
                expected += NAIVE[form](of_caption[j] / sum(of_caption), q) / size
    assert complementary_loss(S, tau, chosen, form, q).item() == pytest.approx(expected, rel=1e-9)


def test_forms_are_those_that_can_be_set() -> None:
    assert set(get_args(get_type_hints(RCL.Config)["form"])) == set(FORMS) == set(NAIVE)


@pytest.mark.parametrize("gap", [-60.0, -20.0, -1.0, 0.0, 1.0, 10.0, 17.0, 20.0, 60.0])
def test_a_negative_that_wins_in_single_precision(gap: float) -> None:
    """Two classes: -log(1 - p) = log(1 + e^gap), whose derivative is the logistic function, however large the gap."""
    logits = torch.tensor([[gap, 0.0]], requires_grad=True)
    loss = -log_complement(logits)[0, 0]
    loss.backward()
    assert loss.item() == pytest.approx(np.logaddexp(0, gap), rel=1e-6)
    slope = 1 / (1 + math.exp(-gap))
    assert logits.grad[0].tolist() == pytest.approx([slope, -slope], rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_and_right_where_all_pairs_are_mismatched(form: str) -> None:
    """Every image fits the next caption perfectly, by 40 nats: the gradient in single precision is the double one."""
    scores = (2 * torch.eye(4) - 1).roll(1, dims=1)
    grads = []
    for dtype in (torch.float32, torch.float64):
        S = scores.to(dtype, copy=True).requires_grad_()
        complementary_loss(S, 0.05, off_diagonal(4), form, 0.5).backward()
        grads.append(S.grad.double())
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-7)
    if form == "log":  # d/dS of two times gap / tau, a mean over four queries
        assert grads[0][0, 1].item() == pytest.approx(2 / 0.05 / 4, rel=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    S = torch.rand((4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    for form in FORMS:
        assert torch.autograd.gradcheck(lambda S, form=form: complementary_loss(S, 0.3, off_diagonal(4), form, 0.4), S)


# Which negatives count.


@pytest.mark.parametrize(
    ("ratio", "size", "count"),
    [(0.5, 8, 4), (0.25, 8, 2), (0.3, 8, 2), (0.99, 8, 7), (0.01, 8, 1), (0.5, 3, 1), (0.9, 2, 1), (1.0, 8, 7)],
)
def test_number_of_negatives(ratio: float, size: int, count: int, make_task: MakeTask) -> None:
    method = make(make_task(), ratio=ratio)
    for _ in range(5):
        negatives = method._negatives(size)
        assert negatives.dtype == torch.bool
        assert negatives.sum(1).tolist() == [count] * size
        assert not negatives.diagonal().any()


def test_negatives_are_drawn_anew_and_all_alike(make_task: MakeTask) -> None:
    method = make(make_task(), ratio=0.5)
    drawn = torch.stack([method._negatives(6) for _ in range(2000)]).double()
    shares = drawn.mean(0)[off_diagonal(6)]  # three of five; standard error 0.011
    assert (shares - 0.6).abs().max() < 0.05
    rows, columns = drawn[:, 0, 1], drawn[:, 1, 0]
    assert abs(float(torch.corrcoef(torch.stack([rows, columns]))[0, 1])) < 0.1
    again = make(make_task(), ratio=0.5)
    assert torch.equal(again._negatives(6).double(), drawn[0])


def test_all_negatives_draw_nothing(make_task: MakeTask) -> None:
    method = make(make_task())
    before = method.draws.bit_generator.state
    assert torch.equal(method._negatives(5), off_diagonal(5))
    assert method.draws.bit_generator.state == before


# Training.


@pytest.mark.parametrize(("form", "ratio"), [("log", 1.0), ("tan", 0.5), ("gce", 1.0)])
def test_updates_are_those_of_a_plain_loop(form: str, ratio: float, make_task: MakeTask) -> None:
    method = make(make_task(2.0), clip=0.5, decay_every=0.4, tau=0.2, form=form, q=0.7, ratio=ratio)
    for epoch in range(2):
        list(train_epoch(method, epoch))

    task = make_task(2.0)
    net = task.new_backbone()
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    rng, draws = task.rng("order of pairs"), make(make_task(), ratio=ratio)
    costs = {"log": lambda p: -(1 - p).log(), "tan": torch.tan, "gce": lambda p: (1 - (1 - p) ** 0.7) / 0.7}
    for _ in range(2):
        order = rng.permutation(48)
        for start in range(0, 48, 8):
            batch = task.data.batch(order[start : start + 8])
            scores = net(*batch.inputs).double() / 0.2
            mask = draws._negatives(8)
            cost = sum((costs[form](logits.softmax(1)) * mask).sum() / 8 for logits in (scores, scores.T))
            adam.zero_grad()
            cost.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            adam.param_groups[0]["lr"] = 1e-2 * 0.1 ** int(task.budget.progress / 0.4)
            adam.step()
    for (key, ours), theirs in zip(method.backbone.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("form", FORMS)
def test_training_lowers_the_loss(form: str, make_task: MakeTask) -> None:
    method = make(make_task(), form=form)
    epochs = [np.mean([scalars["loss"] for scalars in train_epoch(method, epoch)]) for epoch in range(8)]
    least = 2 * 7 * math.exp(-1) if form == "exp" else 0.0  # what seven impossible negatives cost
    assert epochs[-1] - least < 0.8 * (epochs[0] - least)


def test_mode_budget_and_short_batches(make_task: MakeTask) -> None:
    method = make(make_task(budget=0.5, backbone="saf"))
    method.backbone.eval()
    updates = train_epoch(method, 0)
    next(updates)
    assert method.backbone.training
    with pytest.raises(BudgetSpent):
        list(updates)
    short = list(train_epoch(make(make_task(), batch_size=46, ratio=0.1), 0))
    assert [scalars["loss"] > 0 for scalars in short] == [True, True]
    assert len(list(train_epoch(make(make_task(), batch_size=47), 0))) == 1


def test_no_beliefs(make_task: MakeTask) -> None:
    method = make(make_task())
    list(train_epoch(method, 0))
    assert method.pair_scores() is None
    assert method.rematches() is None


def test_published_settings() -> None:
    config = RCL.Config()
    assert (config.batch_size, config.lr, config.decay_every, config.clip) == (128, 2e-4, 15 / 30, 2.0)
    assert (config.tau, config.form, config.q, config.ratio) == (0.05, "log", 0.2, 1.0)
    coco = RCL.Config(**RCL.presets["coco"])
    assert (coco.lr, coco.decay_every) == (5e-4, 10 / 20)
    assert {"scenes", "scenes-large"} <= set(RCL.presets)
    for preset in RCL.presets.values():
        assert RCL.Config(**preset) != config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0.0}, "ratio must be above 0, found 0.0"),
        ({"ratio": 1.5}, "ratio must be at most 1, found 1.5"),
        ({"q": 0.0}, "q must be above 0, found 0.0"),
        ({"q": 1.5}, "q must be at most 1, found 1.5"),
        ({"tau": 0.0}, "tau must be above 0, found 0.0"),
    ],
)
def test_settings_out_of_bounds(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        RCL.Config(**settings)
