"""Settings of CRCL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from ncbench import Settings, Task, UserError
from ncbench.method.registry import make_config
from ncbench_methods.crcl import CRCL

MakeTask = Callable[..., Task]


def test_published_defaults() -> None:
    config = CRCL.Config()
    assert (config.batch_size, config.lr, config.clip, config.weight_decay) == (128, 5e-4, 2.0, 0.01)
    assert (config.tau, config.alpha, config.complementary, config.confident) == (0.05, 0.8, 5.0, 0.1)
    epochs = 53
    assert config.short_stages == 3
    assert [round(share * epochs, 9) for share in (config.short, config.warmup, config.decay_every)] == [7, 2, 15]
    assert round((1 - config.short_stages * config.short) * epochs, 9) == 32
    assert (config.change, config.drop) == (0.2, 0.2)


def test_settings_are_bounded_and_explained() -> None:
    assert issubclass(CRCL.Config, Settings)
    for entry in fields(CRCL.Config):
        assert entry.metadata["meaning"]
        assert entry.metadata["source"]
        assert {"above", "at least", "at most"} & set(entry.metadata), entry.name
    for preset in CRCL.presets.values():
        CRCL.Config(**preset)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.1}, "alpha must be at most 1, found 1.1"),
        ({"drop": -0.1}, "drop must be at least 0, found -0.1"),
        ({"tau": 0.0}, "tau must be above 0, found 0.0"),
        ({"short_stages": -1}, "short_stages must be at least 0, found -1"),
        (
            {"short_stages": 4, "short": 0.25},
            "short_stages times short must be below 1 to leave budget for the last stage, found 4 and 0.25",
        ),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_config(CRCL, settings)
    assert str(caught.value) == f"settings of crcl: {message}."
