"""Adam with clipping and a schedule, against the formulas written out."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from ncbench import Optimiser
from ncbench.budget import WorkMeter

LR = 0.01


def make(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2).double()


@pytest.mark.parametrize(
    ("decay_from", "decay_every", "used", "factor"),
    [
        (0.0, math.inf, 0, 1),
        (0.0, math.inf, 1000, 1),
        (0.125, 0.375, 0, 1),
        (0.125, 0.375, 124, 1),
        (0.125, 0.375, 499, 1),
        (0.125, 0.375, 500, 0.1),
        (0.125, 0.375, 874, 0.1),
        (0.125, 0.375, 875, 0.01),
        (0.125, 0.375, 1000, 0.01),
        (0.0, 0.25, 249, 1),
        (0.0, 0.25, 250, 0.1),
        (0.0, 0.25, 1000, 1e-4),
    ],
)
def test_learning_rate_falls_by_steps(decay_from: float, decay_every: float, used: int, factor: float) -> None:
    meter = WorkMeter(1000)
    meter.charge(used)
    optimiser = Optimiser([make()], meter, lr=LR, decay_from=decay_from, decay_every=decay_every)
    assert optimiser.lr == pytest.approx(LR * factor, rel=1e-12)


def adam_by_hand(weights: list[torch.Tensor], gradients: list[list[torch.Tensor]], rates: list[float]) -> None:
    first = [torch.zeros_like(weight) for weight in weights]
    second = [torch.zeros_like(weight) for weight in weights]
    for step, (rate, grads) in enumerate(zip(rates, gradients, strict=True), start=1):
        for weight, grad, m, v in zip(weights, grads, first, second, strict=True):
            m.mul_(0.9).add_(0.1 * grad)
            v.mul_(0.999).add_(0.001 * grad**2)
            weight.sub_(rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))


@pytest.mark.parametrize("clip", [math.inf, 0.5, 1e9])
def test_steps_are_those_of_adam(clip: float) -> None:
    nets, meter = [make(0), make(1)], WorkMeter(4)
    optimiser = Optimiser(nets, meter, lr=LR, clip=clip, decay_every=0.5)
    weights = [weight.detach().clone() for net in nets for weight in net.parameters()]
    data = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gradients = []
    for x in data:
        loss = sum((number + 1) * net(x).square().sum() for number, net in enumerate(nets))
        grads = torch.autograd.grad(loss, [w for net in nets for w in net.parameters()], retain_graph=True)
        norm = math.sqrt(sum(grad.square().sum().item() for grad in grads))
        gradients.append([grad * min(1.0, clip / (norm + 1e-6)) for grad in grads])
        optimiser.step(loss)
        meter.charge(1)
    adam_by_hand(weights, gradients, [LR, LR, LR / 10, LR / 10])
    found = [weight.detach() for net in nets for weight in net.parameters()]
    for ours, theirs in zip(found, weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("clip", [math.inf, 0.1])
def test_accumulated_losses_are_their_sum(clip: float) -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    nets = [make(), make()]
    one, two = (Optimiser([net], WorkMeter(1), lr=LR, clip=clip) for net in nets)
    for _ in range(3):
        one.step(nets[0](x).square().sum() + nets[0](x).exp().mean())
        two.accumulate(nets[1](x).square().sum())
        two.accumulate(nets[1](x).exp().mean())
        two.apply()
    for ours, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradients_are_forgotten_after_an_update() -> None:
    net = make()
    optimiser = Optimiser([net], WorkMeter(1), lr=LR)
    optimiser.step(net(torch.ones(1, 3, dtype=torch.float64)).sum())
    assert all(weight.grad is None or not weight.grad.any() for weight in net.parameters())


def test_weights_without_gradient_stay() -> None:
    net, idle = make(0), make(1)
    before = [weight.clone() for weight in idle.parameters()]
    optimiser = Optimiser([net, idle], WorkMeter(1), lr=LR, clip=1.0)
    optimiser.step(net(torch.ones(1, 3, dtype=torch.float64)).sum())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(before, idle.parameters(), strict=True))


@pytest.mark.parametrize(
    ("decay", "used", "factor"), [(0.5, 249, 1), (0.5, 250, 0.5), (0.5, 999, 0.125), (1.0, 1000, 1), (0.9, 500, 0.81)]
)
def test_the_rate_falls_by_a_factor_of_choice(decay: float, used: int, factor: float) -> None:
    meter = WorkMeter(1000)
    meter.charge(used)
    optimiser = Optimiser([make()], meter, lr=LR, decay_every=0.25, decay=decay)
    assert optimiser.lr == pytest.approx(LR * factor, rel=1e-12)


def updates(net: nn.Linear, optimiser: Optimiser, meter: WorkMeter, data: torch.Tensor) -> None:
    for x in data:
        optimiser.step(net(x).exp().sum())
        meter.charge(1)


def inputs(count: int) -> torch.Tensor:
    return torch.randn(count, 5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("clip", [math.inf, 0.5])
@pytest.mark.parametrize("weight_decay", [0.01, 0.5])
def test_weight_decay_is_that_of_adamw(weight_decay: float, clip: float) -> None:
    net, theirs, meter = make(), make(), WorkMeter(6)
    optimiser = Optimiser([net], meter, lr=LR, clip=clip, decay_every=0.5, weight_decay=weight_decay)
    updates(net, optimiser, meter, inputs(6))
    adamw = torch.optim.AdamW(theirs.parameters(), LR, weight_decay=weight_decay)
    for number, x in enumerate(inputs(6)):
        adamw.zero_grad()
        theirs(x).exp().sum().backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        adamw.param_groups[0]["lr"] = LR if number < 3 else LR / 10
        adamw.step()
    for mine, other in zip(net.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=0)


def test_weight_decay_shrinks_all_weights_by_the_rate_and_not_by_the_gradient() -> None:
    net, meter = make(), WorkMeter(1)
    before = [weight.detach().clone() for weight in net.parameters()]
    optimiser = Optimiser([net], meter, lr=LR, weight_decay=0.5)
    optimiser.step(0 * net(torch.ones(1, 3, dtype=torch.float64)).sum())
    for weight, old in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(weight.detach(), old * (1 - 0.5 * LR), rtol=1e-12, atol=0)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_training_goes_on_from_a_state(weight_decay: float) -> None:
    def start(used: int) -> tuple[nn.Linear, Optimiser, WorkMeter]:
        net, meter = make(), WorkMeter(6)
        meter.charge(used)
        return net, Optimiser([net], meter, lr=LR, clip=0.5, decay_every=0.5, weight_decay=weight_decay), meter

    data = inputs(6)
    net, optimiser, meter = start(0)
    updates(net, optimiser, meter, data[:2])
    weights, state = copy.deepcopy(net.state_dict()), copy.deepcopy(optimiser.state_dict())
    updates(net, optimiser, meter, data[2:])
    for restored in (True, False):
        other, fresh, its_meter = start(2)
        other.load_state_dict(weights)
        if restored:
            fresh.load_state_dict(copy.deepcopy(state))
        updates(other, fresh, its_meter, data[2:])
        equal = [torch.equal(*pair) for pair in zip(net.parameters(), other.parameters(), strict=True)]
        assert equal == [restored, restored]  # without the moments it is another training
