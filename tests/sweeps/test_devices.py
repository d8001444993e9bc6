"""Measured devices: the table that comes with ncbench, speeds between sizes, and what is remembered of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ncbench import UserError
from ncbench.backbones.registry import BACKBONES, members_of
from ncbench.sweeps.devices import STANDS_FOR, Device, check_device, device_named, measured_devices, store

POINTS = [[1e9, 1e10], [1e11, 1e12]]
CONTENT = {
    "name": "made-up",
    "hardware": "Abacus",
    "threads": 1,
    "date": "2026-01-02",
    "command": "ncbench doctor --speed",
    "versions": {"ncbench": "0.1.0"},
    "training": dict.fromkeys(("scan-t2i-lse", "sgr", "vse-infinity"), POINTS),
    "scoring": {name: [[1e6, 2e10]] for name in ("scan-t2i-lse", "sgr", "vse-infinity")},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("step", "speed"), [(1.0, 1e10), (1e9, 1e10), (1e10, 1e11), (10**10.5, 10**11.5), (1e11, 1e12), (1e15, 1e12)]
)
def test_speeds_between_the_measured_sizes(step: float, speed: float) -> None:
    device = Device.from_dict(CONTENT)
    assert device.training_speed("vse", step) == pytest.approx(speed)
    assert device.scoring_speed("sgr", step) == pytest.approx(2e10)


def test_every_backbone_has_a_speed() -> None:
    device = Device.from_dict(CONTENT)
    for backbone in BACKBONES:
        for name in members_of(backbone):
            assert device.training_speed(name, 1e9) > 0
    assert set(STANDS_FOR) < set(BACKBONES)


def test_the_devices_that_come_with_ncbench() -> None:
    assert measured_devices()
    for name, device in measured_devices().items():
        check_device(name)
        assert device_named(name, "cpu") == device
        assert {"ncbench", "torch"} <= set(device.versions)
        assert "doctor --speed" in device.command
        for backbone in BACKBONES:
            for member in members_of(backbone):
                assert 1e9 < device.training_speed(member, 1e9) < 1e15


def test_what_a_device_is_in_words() -> None:
    assert Device.from_dict(CONTENT).words == "Abacus, 1 thread, measured on 2026-01-02 with ncbench 0.1.0"
    assert Device.from_dict({**CONTENT, "threads": 8}).words.startswith("Abacus, 8 threads, ")
    assert Device.from_dict({**CONTENT, "threads": None}).words.startswith("Abacus, measured")


def test_an_unknown_device() -> None:
    with pytest.raises(UserError, match="unknown device for --assume 'abacus'"):
        check_device("abacus")


def test_this_machine_is_remembered_by_kind() -> None:
    device = Device.from_dict(CONTENT)
    with pytest.raises(
        UserError, match="the speed of this machine's cpu is not known; run: ncbench doctor --speed --device cpu"
    ):
        device_named("here", "cpu")
    store(device, "cpu")
    assert device_named("here", "cpu") == device
    with pytest.raises(UserError, match="this machine's cuda is not known"):
        device_named("here", "cuda")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"training": {"sgr": POINTS}}, "training has no speed of scan-t2i-lse, vse-infinity"),
        ({"scoring": {**CONTENT["scoring"], "sgr": [[1e6, 0.0]]}}, "expected `float` > 0.0"),  # type: ignore[dict-item]
        ({"scoring": {**CONTENT["scoring"], "sgr": []}}, "expected `array` of length >= 1"),  # type: ignore[dict-item]
        ({"hardware": 3}, "hardware: expected `str`, got `int`"),
    ],
)
def test_a_damaged_file(change: dict[str, Any], problem: str) -> None:
    path = store(Device.from_dict(CONTENT), "cpu")
    path.write_text(json.dumps({**CONTENT, **change}))
    with pytest.raises(UserError, match="cannot be read as a measured speed") as caught:
        device_named("here", "cpu")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot write to the cache folder .*set NCBENCH_CACHE to another folder"):
        store(Device.from_dict(CONTENT), "cpu")
