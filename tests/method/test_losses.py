"""Losses: hand-worked numbers, numbers from the released L2RM code, and properties of any implementation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import FIXTURES
from similarities import EXAMPLE, uniform
from torch import Tensor

from ncbench import losses

# Computed by the released code (hhc1997/L2RM) on random networks: margin 0.2, tau 0.05.
GOLDEN = np.load(FIXTURES / "losses_golden.npz", allow_pickle=False)
MARGIN, TAU = 0.2, 0.05

PLAN_LOSSES = [
    losses.symmetric_kl,
    losses.kl,
    losses.jensen_shannon,
    losses.arithmetic_geometric,
    losses.soft_info_nce,
]


def golden(network: str, name: str) -> Tensor:
    return torch.from_numpy(GOLDEN[f"{network}/{name}"])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(losses.hinge_sum, 1.0), (losses.hinge_mean, 1 / 3), (losses.hinge_max, 0.95)],
)
def test_hinge_losses_of_a_worked_example(loss, expected):
    assert loss(EXAMPLE, MARGIN).item() == pytest.approx(expected, rel=1e-6)


def test_costs_and_pair_losses_of_a_worked_example():
    cost_s, cost_im = losses.hinge_costs(EXAMPLE, MARGIN)
    torch.testing.assert_close(cost_s, torch.tensor([[0, 0.05, 0], [0, 0, 0.25], [0, 0.15, 0]]).double())
    torch.testing.assert_close(cost_im, torch.tensor([[0, 0.15, 0], [0, 0, 0.35], [0, 0.05, 0]]).double())
    torch.testing.assert_close(losses.pair_losses(EXAMPLE, MARGIN), torch.tensor([0.05, 0.45, 0.5]).double() / 3)


def test_softmax_losses_of_a_worked_example():
    assert losses.info_nce(EXAMPLE, TAU).item() == pytest.approx(1.691375, abs=2e-6)
    assert losses.rce(EXAMPLE, TAU).item() == pytest.approx(7.011832, abs=2e-6)


@pytest.mark.parametrize("network", ["sgr", "saf"])
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("triplet_warmup", lambda S: losses.hinge_mean(S, MARGIN)),
        ("triplet_max_violation", lambda S: losses.hinge_max(S, MARGIN)),
        ("triplet_eval_loss", lambda S: losses.pair_losses(S, MARGIN)),
        ("InfoNCE", lambda S: losses.info_nce(S, TAU)),
        ("RCE", lambda S: losses.rce(S, TAU)),
    ],
)
def test_losses_of_the_released_code(network, name, loss):
    expected = golden(network, name)
    torch.testing.assert_close(loss(golden(network, "sims")).to(expected.dtype), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("network", ["sgr", "saf"])
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("loss_Sym_KLDIV", losses.symmetric_kl),
        ("loss_KLDIV", losses.kl),
        ("loss_JS_DiV", losses.arithmetic_geometric),
        ("loss_Soft_InfoNCE", losses.soft_info_nce),
    ],
)
def test_plan_losses_of_the_released_code(network, name, loss):
    value = loss(golden(network, "sims"), golden(network, "plan"), TAU)
    assert value.item() == pytest.approx(golden(network, name).item(), rel=1e-5)


def test_symmetric_kl_of_a_worked_example():
    S = torch.tensor([[0.30, 0.62, 0.15], [0.55, 0.20, 0.35], [0.25, 0.40, 0.70]])
    plan = torch.tensor(
        [[0.000296, 0.027151, 0.000029], [0.011084, 0.000071, 0.000529], [0.000127, 0.001022, 0.065157]]
    )
    assert losses.symmetric_kl(S, plan, TAU).item() == pytest.approx(0.028935, abs=2e-5)
    assert losses.kl(S, plan, TAU).item() == pytest.approx(0.017726 + 0.018376, abs=2e-5)


NAIVE = {
    losses.symmetric_kl: lambda p, y: (y * math.log(y / p) + p * math.log(p / y)) / 2,
    losses.kl: lambda p, y: y * math.log(y / p),
    losses.jensen_shannon: lambda p, y: (p * math.log(2 * p / (p + y)) + y * math.log(2 * y / (p + y))) / 2,
    losses.arithmetic_geometric: lambda p, y: (p + y) / 2 * math.log((p + y) / 2 / math.sqrt(p * y)),
    losses.soft_info_nce: lambda p, y: -y * math.log(p),
}


@pytest.mark.parametrize("loss", PLAN_LOSSES)
def test_plan_losses_agree_with_sums_over_entries(loss):
    S, plan = uniform(4, 3), uniform(4, 3, seed=1) / 12
    plan[0, 1] = plan[2, 0] = 0  # below the floor
    total = 0.0
    for scores, labels in ((S, plan), (S.T, plan.T)):
        for row, weights in zip(scores.tolist(), labels.clamp(min=1e-10).tolist(), strict=True):
            predicted = [math.exp(score / 0.2) for score in row]
            for p, y in zip(predicted, weights, strict=True):
                total += NAIVE[loss](p / sum(predicted), y / sum(weights)) / len(scores)
    assert loss(S, plan, 0.2).item() == pytest.approx(total, rel=1e-9)


def test_kl_and_soft_info_nce_train_alike():
    S, plan = uniform(5, 3).requires_grad_(), uniform(5, 3, seed=1) / 15
    gradients = [torch.autograd.grad(loss(S, plan, TAU), S)[0] for loss in (losses.kl, losses.soft_info_nce)]
    torch.testing.assert_close(*gradients)


def test_margins_belong_to_the_anchor_pair():
    S = uniform(5, 5)
    margins = uniform(5, seed=1)
    cost_s, cost_im = losses.hinge_costs(S, margins)
    for i in range(5):
        for j in range(5):
            image_anchor = max(0.0, (margins[i] + S[i, j] - S[i, i]).item()) if i != j else 0.0
            caption_anchor = max(0.0, (margins[j] + S[i, j] - S[j, j]).item()) if i != j else 0.0
            assert cost_s[i, j].item() == pytest.approx(image_anchor)
            assert cost_im[i, j].item() == pytest.approx(caption_anchor)


def test_soft_margins_of_a_worked_example():
    labels = torch.tensor([0, 0.1, 0.25, 0.5, 0.75, 0.9, 1], dtype=torch.float64)
    expected = [0, 0.005754, 0.017295, 0.048051, 0.102743, 0.154295, 0.2]
    np.testing.assert_allclose(losses.soft_margin(labels, 0.2).numpy(), expected, atol=5e-7)
    np.testing.assert_allclose(losses.soft_margin(labels, 0.6).numpy(), 3 * np.array(expected), atol=2e-6)


def test_soft_margins_of_labels_in_a_hinge():
    # NCR's example: labels of the three pairs, and the loss with each pair's own margin in both directions.
    margins = losses.soft_margin(torch.tensor([1, 0.860870, 0.686957]), MARGIN)
    np.testing.assert_allclose(margins.numpy(), [0.2, 0.139086, 0.085857], atol=1e-6)
    assert losses.hinge_max(EXAMPLE, margins).item() == pytest.approx(0.599887, abs=2e-6)


def test_one_margin_equals_the_same_margin_for_each_pair():
    S = uniform(6, 6)
    for loss in (losses.hinge_sum, losses.hinge_mean, losses.hinge_max, losses.pair_losses):
        torch.testing.assert_close(loss(S, MARGIN), loss(S, torch.full((6,), MARGIN)))


@pytest.mark.parametrize(
    "loss",
    [
        lambda S: losses.hinge_sum(S, MARGIN),
        lambda S: losses.hinge_max(S, MARGIN),
        lambda S: losses.info_nce(S, TAU),
        lambda S: losses.rce(S, TAU),
    ],
)
def test_gradients_agree_with_finite_differences(loss):
    assert torch.autograd.gradcheck(loss, uniform(4, 4).requires_grad_())


@pytest.mark.parametrize("loss", PLAN_LOSSES)
def test_plan_losses_have_correct_gradients_and_leave_the_plan_alone(loss):
    S, plan = uniform(5, 3).requires_grad_(), (uniform(5, 3, seed=1) / 15).requires_grad_()
    assert torch.autograd.gradcheck(lambda S: loss(S, plan.detach(), 0.5), S)
    loss(S, plan, TAU).backward()
    assert plan.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", PLAN_LOSSES)
def test_plan_losses_are_finite_for_empty_plans_and_extreme_scores(loss, dtype):
    S = torch.tensor([[100.0, -100.0], [0.0, 100.0], [0.0, 0.0]], dtype=dtype, requires_grad=True)
    value = loss(S, torch.zeros(3, 2), TAU)
    value.backward()
    assert value.isfinite()
    assert S.grad.isfinite().all()


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_batch_losses_are_finite_with_finite_gradients(scale):
    S = (scale * (2 * uniform(8, 8) - 1)).requires_grad_()
    total = losses.hinge_max(S, MARGIN) + losses.info_nce(S, TAU) + losses.rce(S, TAU)
    total.backward()
    assert total.isfinite()
    assert S.grad.isfinite().all()


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_batch_losses_treat_images_and_captions_alike_and_ignore_the_order_of_pairs(size, seed):
    S = uniform(size, size, seed=seed)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    for loss in (losses.hinge_sum, losses.hinge_mean, losses.hinge_max):
        torch.testing.assert_close(loss(S.T, MARGIN), loss(S, MARGIN))
        torch.testing.assert_close(loss(S[order][:, order], MARGIN), loss(S, MARGIN))
    for loss in (losses.info_nce, losses.rce):
        torch.testing.assert_close(loss(S.T, TAU), loss(S, TAU))
        torch.testing.assert_close(loss(S[order][:, order], TAU), loss(S, TAU))
    torch.testing.assert_close(losses.pair_losses(S[order][:, order], MARGIN), losses.pair_losses(S, MARGIN)[order])


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**31))
def test_divergences_are_zero_between_equals_and_ordered(rows, columns, seed):
    S, plan = uniform(rows, columns, seed=seed), uniform(rows, columns, seed=seed + 1)
    divergences = PLAN_LOSSES[:-1]
    for loss in divergences:
        assert loss(S, plan, TAU).item() >= -1e-12
        assert loss(torch.zeros_like(S), torch.ones_like(S), TAU).item() == pytest.approx(0, abs=1e-12)
    # Jeffreys' divergence is four times the mean of the two mixture divergences.
    mixtures = losses.jensen_shannon(S, plan, TAU) + losses.arithmetic_geometric(S, plan, TAU)
    assert mixtures.item() == pytest.approx(losses.symmetric_kl(S, plan, TAU).item() / 2, rel=1e-9, abs=1e-12)


def test_rows_below_the_floor_are_pulled_to_the_uniform_distribution():
    plan = torch.tensor([[0.1, 0.0], [1e-12, 0.0]])
    S = torch.zeros(2, 2)
    high, low = losses.kl(S, plan, TAU, floor=1e-10), losses.kl(S, plan, TAU, floor=1e-30)
    assert low > high + 0.3  # half of log 2: without the floor, the second row's label is as peaked as the first's


@pytest.mark.parametrize("S", [torch.zeros(2, 3), torch.zeros(0, 0), torch.zeros(4)])
def test_matched_pairs_need_a_square_matrix(S):
    for loss in (
        losses.hinge_sum,
        losses.hinge_mean,
        losses.hinge_max,
        losses.pair_losses,
        losses.info_nce,
        losses.rce,
    ):
        with pytest.raises(ValueError, match="square"):
            loss(S, 0.1)


def test_arguments_out_of_range_are_refused():
    S = torch.zeros(3, 3)
    with pytest.raises(ValueError, match="margin"):
        losses.hinge_sum(S, torch.zeros(3, 1))
    with pytest.raises(ValueError, match="tau"):
        losses.info_nce(S, 0.0)
    with pytest.raises(ValueError, match="one shape"):
        losses.symmetric_kl(S, torch.zeros(3, 2), TAU)
    with pytest.raises(ValueError, match="floor"):
        losses.symmetric_kl(S, S, TAU, floor=0.0)
