"""`ncbench doctor`: its findings and problems."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from places import FIXTURES

from ncbench import __version__
from ncbench.checks import doctor

F30K = FIXTURES / "f30k"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder with a separate cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NCBENCH_PLUGINS", raising=False)
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def examine(cli: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Return a function that returns the findings of doctor: for each section and item, its state and detail."""

    def call(*words: object, code: int = 0) -> dict[str, Any]:
        result = cli("doctor", "--json", *words)
        assert result.exit_code == code, result.output
        content = json.loads(result.stdout)
        assert content.pop("problems") == sum(f["state"] == "problem" for part in content.values() for f in part)
        return {part: {f["what"]: (f["state"], f["detail"]) for f in found} for part, found in content.items()}

    return call


def test_what_there_is(examine: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "cache" / "scenes-1-0").mkdir(parents=True)
    (tmp_path / "cache" / "scenes-1-0" / "x").write_bytes(b"0" * 3 * 2**20)
    found = examine()
    assert found["software"]["ncbench"][1].startswith(__version__)
    assert found["software"]["torch"] == ("ok", version("torch"))
    assert "pytest" not in found["software"]  # only tests need it
    assert " cores, " in found["devices"]["cpu"][1]
    assert ("cuda:0" in found["devices"]) == torch.cuda.is_available()
    assert found["environment"]["NCBENCH_PLUGINS"] == ("absent", "not set")
    assert found["environment"]["NCBENCH_CACHE"] == ("ok", str(tmp_path / "cache"))
    assert found["caches"][str(tmp_path / "cache" / "scenes-1-0")] == ("ok", "3.0 MiB")
    assert found["caches"][str(tmp_path / "cache")][1].startswith("3.0 MiB in all, ")
    assert found["datasets"]["scenes"][1].startswith("no files needed: procedural scenes")
    assert found["datasets"]["f30k"] == ("absent", "needs files; pass their folder with --data-root")
    for plugin in ("method l2rm", "dataset coco", "noise protocol shuffle-images"):
        assert found["plugins"][plugin] == ("ok", f"ncbench {__version__}")


def test_one_line_per_section_when_all_is_well(cli: Callable[..., Result]) -> None:
    result = cli("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    for part in ("Software", "Devices", "Environment", "Caches", "Datasets", "Plugins"):
        assert result.stdout.count(part) == 1
    assert f"ncbench: {__version__}" in result.stdout
    assert "absent: NCBENCH_PLUGINS" in result.stdout
    assert "safetensors" not in result.stdout
    assert result.stdout.endswith("no problems found\n")


def test_all_as_tables(cli: Callable[..., Result]) -> None:
    result = cli("doctor", "--all")
    assert (result.exit_code, result.stderr) == (0, "")
    for part in ("Software", "Devices", "Environment", "Caches", "Datasets", "Plugins"):
        assert f"\n{part}" in f"\n{result.stdout}"
    assert "safetensors" in result.stdout
    assert "does not exist yet" in result.stdout
    assert result.stdout.endswith("no problems found\n")


def test_data_that_are_found(examine: Callable[..., dict[str, Any]]) -> None:
    found = examine("--data-root", F30K)["datasets"]
    assert found["f30k"] == ("ok", f"found in {F30K}, 12 dev images")
    assert found["coco"][0] == "absent"
    assert "is not a folder" in found["coco"][1]


def test_plugins_with_their_state(
    examine: Callable[..., dict[str, Any]], register: Callable[..., None], tmp_path: Path, cli: Callable[..., Result]
) -> None:
    register("ncbench.methods", "broken", ImportError("no such thing"))
    (tmp_path / "noise").mkdir()
    text = 'from ncbench import NoiseProtocol\nX = NoiseProtocol("x", "1", "images", "x", lambda request: None)\n'
    (tmp_path / "noise" / "x.py").write_text(text)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "bad.py").write_text("def broken(:")
    found = examine(code=1)["plugins"]
    assert found["noise protocol x"] == ("ok", str(tmp_path / "noise" / "x.py"))
    assert found["method broken"][0] == found["dataset bad"][0] == "problem"
    assert found["method broken"][1].endswith("cannot be loaded: ImportError: no such thing")
    result = cli("doctor")
    assert result.exit_code == 1
    assert result.stdout.endswith("\n2 problems found\n")
    assert "method broken: method 'broken' (somewhere:Thing) cannot be loaded: " in result.stdout


def test_a_place_that_is_not_there(
    examine: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Result]
) -> None:
    monkeypatch.setenv("NCBENCH_PLUGINS", "/no/such/folder")
    state, detail = examine(code=1)["plugins"]["NCBENCH_PLUGINS"]
    assert (state, detail) == (
        "problem",
        "NCBENCH_PLUGINS: /no/such/folder does not exist; correct or unset the variable",
    )
    assert cli("doctor").stdout.endswith("\n1 problem found\n")


def test_a_package_that_is_missing(examine: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> str:
        if name == "pot":
            raise PackageNotFoundError
        return version(name)

    monkeypatch.setattr(doctor, "version", find)
    state, detail = examine(code=1)["software"]["pot"]
    assert (state, detail.startswith("not installed; ncbench requires pot>=")) == ("problem", True)


def test_a_cache_that_cannot_be_written(
    examine: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr("ncbench.checks.doctor.os.access", lambda *_: False)
    assert examine(code=1)["caches"][str(tmp_path / "cache")] == ("problem", "not writable; set NCBENCH_CACHE")


def test_the_speed_of_this_machine(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ncbench.sweeps import device_speed
    from ncbench.sweeps.devices import device_named, measured_devices

    (device, *_) = measured_devices().values()
    monkeypatch.setattr(device_speed, "measure_device", lambda device_, told: told("sgr") or device)
    result = cli("doctor", "--speed", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.stderr == "Measuring updates and scoring: sgr ...\n"
    words = " ".join(result.stdout.split())
    assert device.hardware in words
    assert "vse-infinity" in words
    assert f"The load of the machine was {device.load:g} before" in words
    assert "--dry-run --assume here" in words
    assert device_named("here", "cpu") == device
    assert json.loads(cli("doctor", "--speed", "--device", "cpu", "--json").stdout) == device.to_dict()
