"""Measuring the speed of this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ncbench.backbones.registry import build_backbone
from ncbench.sweeps import device_speed, estimate
from ncbench.sweeps.device_speed import SETTINGS, measure_device
from ncbench.sweeps.devices import STANDS_FOR, Device


def test_this_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    small = [replace(SETTINGS[0], batch=8, images=16), replace(SETTINGS[0], name="larger", batch=16, images=16)]
    monkeypatch.setattr(device_speed, "SETTINGS", small)
    monkeypatch.setattr(device_speed, "SECONDS", 0.01)
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 0.01)
    told: list[str] = []
    state = torch.get_rng_state()
    device = measure_device(torch.device("cpu"), told.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert Device.from_dict(device.to_dict()) == device
    assert told[:2] == ["scan-t2i-lse at the sizes of scenes", "scan-t2i-lse at the sizes of larger"]
    for name in set(STANDS_FOR.values()):
        trained, scored = device.training[name], device.scoring[name]
        assert len(trained) == len(scored) == 2
        backbone = build_backbone(name, SETTINGS[0].sizes)
        regions, length = SETTINGS[0].sizes.n_regions, device_speed.LENGTH
        pairs = backbone.image_work(regions) + backbone.caption_work(length) + 8 * backbone.pair_work(regions, length)
        assert trained[0].work == pytest.approx(3 * 8 * pairs, rel=0.01)
        assert scored[0].work == pytest.approx(
            (backbone.image_work(regions) + backbone.caption_work(length)) / 16 + backbone.pair_work(regions, length),
            rel=0.01,
        )
        assert all(1e5 < point.speed < 1e14 for point in (*trained, *scored))


def test_settings_are_those_of_scenes() -> None:
    from ncbench.data.registry import load_dataset

    scenes, setting = load_dataset("scenes", None), SETTINGS[0]
    sizes = setting.sizes
    assert (sizes.image_dim, sizes.n_regions) == (scenes.image_dim, scenes.n_regions)
    assert sizes.vocabulary == len(scenes.vocabulary)
    assert {name: getattr(sizes, name) for name in scenes.scale} == scenes.scale
    assert setting.batch == scenes.batch_size
    assert round(scenes.splits["train"].captions.lengths.mean()) == device_speed.LENGTH
