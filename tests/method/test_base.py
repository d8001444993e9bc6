"""The contract of methods: bounds of settings, shared settings, and the state of what `setup` has set."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ncbench import Method, Optimiser, Settings, Task, TrainingSettings, UserError, setting
from ncbench.budget import WorkMeter
from ncbench.method.registry import make_config, settings_of


class Bounded(Method):
    """Settings with every bound, and one without."""

    name = "bounded"

    @dataclass(frozen=True)
    class Config(Settings):
        above: float = setting(1.0, "kept above", "here", above=0)
        least: int = setting(2, "kept from below", "here", at_least=2)
        most: float = setting(0.5, "kept from above", "here", at_most=1)
        between: float = setting(0.5, "kept between", "here", at_least=0.25, at_most=0.75)
        free: str = setting("x", "anything", "here")

    def setup(self, task: Task) -> None:
        raise NotImplementedError

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        raise NotImplementedError


class Shared(Bounded):
    name = "shared"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        lr: float = setting(0.5, "learning rate", "there", above=0, at_most=1)
        margin: float = setting(0.2, "margin", "there", at_least=0)

    presets = {"tiny": {"lr": 0.25}}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"above": 1e-300, "least": 2, "most": 1.0, "between": 0.25, "free": ""},
        {"above": math.inf, "least": 10**9, "most": -math.inf, "between": 0.75},
    ],
)
def test_settings_within_their_bounds(settings: dict[str, Any]) -> None:
    config = make_config(Bounded, settings)
    assert {key: getattr(config, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"above": 0.0}, "above must be above 0, found 0.0"),
        ({"above": 0}, "above must be above 0, found 0"),
        ({"above": -1.5}, "above must be above 0, found -1.5"),
        ({"above": math.nan}, "above must be above 0, found nan"),
        ({"least": 1}, "least must be at least 2, found 1"),
        ({"most": 1.001}, "most must be at most 1, found 1.001"),
        ({"between": 0.2}, "between must be at least 0.25, found 0.2"),
        ({"between": 0.8}, "between must be at most 0.75, found 0.8"),
        ({"between": math.nan}, "between must be at least 0.25, found nan"),
        ({"most": 2.0, "above": 0.0}, "above must be above 0, found 0.0"),  # the first in their order
    ],
)
def test_settings_out_of_their_bounds(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Bounded.Config(**settings)
    with pytest.raises(UserError) as refused:
        make_config(Bounded, settings)
    assert str(refused.value) == f"settings of bounded: {message}."


def test_a_setting_keeps_its_bounds() -> None:
    (above, least, most, between, free) = (dict(entry.metadata) for entry in fields(Bounded.Config))
    assert above == {"meaning": "kept above", "source": "here", "above": 0}
    assert least == {"meaning": "kept from below", "source": "here", "at least": 2}
    assert most == {"meaning": "kept from above", "source": "here", "at most": 1}
    assert between == {"meaning": "kept between", "source": "here", "at least": 0.25, "at most": 0.75}
    assert free == {"meaning": "anything", "source": "here"}


def test_settings_that_methods_share() -> None:
    config = TrainingSettings()
    assert (config.batch_size, config.lr, config.decay_every, config.clip) == (128, 2e-4, 15 / 40, 2.0)
    assert [entry.name for entry in fields(config)] == ["batch_size", "lr", "decay_every", "clip"]
    assert all(entry.metadata["meaning"] and entry.metadata["source"] for entry in fields(config))
    with pytest.raises(FrozenInstanceError):
        config.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 1, "batch_size must be at least 2, found 1"),
        ("lr", 0.0, "lr must be above 0, found 0.0"),
        ("decay_every", 0.0, "decay_every must be above 0, found 0.0"),
        ("clip", -2.0, "clip must be above 0, found -2.0"),
        ("lr", 1.5, "lr must be at most 1, found 1.5"),  # its own bound
        ("margin", -0.1, "margin must be at least 0, found -0.1"),
    ],
)
def test_a_method_inherits_bounds_and_may_add_to_them(key: str, value: float, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_config(Shared, {key: value})
    assert str(caught.value) == f"settings of shared: {message}."


def test_a_method_may_override_a_shared_setting() -> None:
    expected = {"batch_size": 128, "lr": 0.5, "decay_every": 0.375, "clip": 2.0, "margin": 0.2}
    assert settings_of(Shared, "elsewhere") == expected
    assert settings_of(Shared, "tiny") == {**expected, "lr": 0.25}
    by_name = {entry.name: entry.metadata for entry in fields(Shared.Config)}
    assert (by_name["lr"]["source"], by_name["clip"]["source"]) == ("there", "VSE++")
    assert TrainingSettings().lr == 2e-4


# The state of a method.


class Trained(Bounded):
    """Holds something of every kind that methods do."""

    name = "trained"
    updates = 0  # of the class: no state

    def setup(self, task: Any) -> None:
        self.task = task
        self.rng = np.random.default_rng(task)
        torch.manual_seed(task)
        self.nets = [nn.Linear(3, 1), nn.Linear(3, 1)]
        self.optimiser = Optimiser(self.nets, WorkMeter(1), lr=0.1)
        self.labels = np.zeros(4)
        self.queue = torch.zeros(2, 3)
        self.p_clean: np.ndarray | None = None
        self.stage = 0

    def train(self) -> float:
        """Train for a while; returns what was drawn."""
        self.stage += 1
        self.queue = torch.from_numpy(self.rng.random((2, 3), dtype=np.float32))
        for net in self.nets:
            self.optimiser.step(net(self.queue).square().sum())
        self.labels[self.stage] = self.nets[0].weight.detach().sum().item()
        self.p_clean = self.labels / 2
        return self.rng.random()


def made(seed: int) -> Trained:
    method = Trained(Trained.Config())
    method.setup(seed)  # type: ignore[arg-type]
    return method


def test_a_method_goes_on_where_it_was() -> None:
    method = made(0)
    method.train()
    state = method.state_dict()
    drawn = method.train()
    other = made(1)
    config, nets = other.config, list(other.nets)
    other.load_state_dict(state)
    assert other.stage == 1
    assert other.train() == drawn
    assert (other.task, other.config) == (1, config)
    assert all(ours is theirs for ours, theirs in zip(nets, other.nets, strict=True))
    for ours, theirs in zip(method.nets, other.nets, strict=True):
        assert torch.equal(ours.weight, theirs.weight)
    np.testing.assert_array_equal(method.labels, other.labels)
    np.testing.assert_array_equal(method.p_clean, other.p_clean)
    assert torch.equal(method.queue, other.queue)


def test_the_state_leaves_out_what_the_harness_gives() -> None:
    method = made(0)
    assert set(method.state_dict()) == {"rng", "nets", "optimiser", "labels", "queue", "p_clean", "stage"}
    assert Trained(Trained.Config()).state_dict() == {}


def test_the_state_does_not_change_with_the_method() -> None:
    method = made(0)
    method.train()
    state = method.state_dict()
    before = state["labels"].copy(), state["nets"][0]["weight"].clone(), state["rng"]["state"]["state"]
    method.train()
    np.testing.assert_array_equal(state["labels"], before[0])
    assert torch.equal(state["nets"][0]["weight"], before[1])
    assert state["rng"]["state"]["state"] == before[2]
    assert state["stage"] == 1


def test_what_cannot_be_kept_is_named() -> None:
    method = made(0)
    method.batches = {"noisy": [iter([])]}  # type: ignore[attr-defined]
    with pytest.raises(TypeError) as caught:
        method.state_dict()
    expected = "cannot save trained.batches['noisy'][0]: type list_iterator is not supported"
    assert str(caught.value) == expected


def test_a_state_of_other_attributes_is_refused() -> None:
    method, state = made(0), made(1).state_dict()
    before = method.state_dict()
    del state["stage"], state["labels"]
    state["extra"] = 1
    with pytest.raises(KeyError) as caught:
        method.load_state_dict(state)
    assert caught.value.args == ("the state of trained differs in extra, labels, stage",)
    assert torch.equal(method.nets[0].weight, before["nets"][0]["weight"]), "it was changed all the same"


def test_a_method_is_told_nothing_unless_it_asks() -> None:
    assert Method.needs_truth is False
    assert Bounded.needs_truth is False
