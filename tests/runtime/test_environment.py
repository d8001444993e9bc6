"""Descriptions of machines and limits on device memory, with a fake CUDA device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ncbench import UserError
from ncbench.runtime import environment
from ncbench.runtime.device import cap_memory, free_bytes

CUDA, GIB = torch.device("cuda"), 2**30


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Fake a device with 16 GiB: 10 GiB free, 3 GiB reserved by this process, 1 GiB of these in use."""
    limits = {"fraction": 1.0}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GIB, 16 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GIB)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: limits.update(fraction=share)
    )
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: limits["fraction"])
    return limits


def test_memory_of_a_device_is_capped(card: dict[str, float]) -> None:
    assert free_bytes(CUDA) == 12 * GIB  # free, and reserved but not in use
    cap_memory(CUDA, 4 * GIB)
    assert card["fraction"] == 0.25
    assert free_bytes(CUDA) == 3 * GIB
    cap_memory(CUDA, 2 * GIB)  # less than is reserved
    assert free_bytes(CUDA) == 2 * GIB


def test_a_cap_beyond_what_there_is(card: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"^--max-memory: cuda has 16.0 GiB, found 17.0 GiB$"):
        cap_memory(CUDA, 17 * GIB)
    assert card["fraction"] == 1.0


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_other_memory_is_not_capped(name: str) -> None:
    message = f"^--max-memory requires a CUDA device, found {name}$"
    with pytest.raises(UserError, match=message):
        cap_memory(torch.device(name), GIB)


def test_what_a_record_says_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    facts = environment.describe(torch.device("cpu"))
    assert set(facts) >= {"ncbench", "python", "packages", "processor", "cores", "threads", "command", "commit"}
    assert (facts["device"], facts["cuda"], facts["driver"]) == ("cpu", None, None)
    monkeypatch.setattr(environment, "NVIDIA", tmp_path / "version")
    assert environment._driver() is None
    (tmp_path / "version").write_text("NVRM version: NVIDIA 550.1\nGCC version: 12\n")
    assert environment._driver() == "NVRM version: NVIDIA 550.1"
