"""Machines are told apart, or said to be unknown."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncbench.runtime import machine


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    machine.machine_id.cache_clear()
    yield
    machine.machine_id.cache_clear()


def test_linux_is_named_by_its_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine, "BOOT_ID", tmp_path / "boot_id")
    assert machine.machine_id() == ""  # a sandbox without /proc
    machine.machine_id.cache_clear()
    (tmp_path / "boot_id").write_text("3f2c-1\n")
    assert machine.machine_id() == "3f2c-1"


@pytest.mark.parametrize(
    ("address", "name"),
    [(0x001B63ABCDEF, "001b63abcdef"), (0x0242AC110002, ""), (0x016309ABCDEF, "")],  # a card, a container, made up
)
def test_others_are_named_by_a_card_that_is_unique(address: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(uuid, "getnode", lambda: address)
    assert machine.machine_id() == name


def test_processes_that_have_ended() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert machine.has_ended(ended.pid)
    assert not machine.has_ended(os.getpid())
    assert not machine.has_ended(10**30)  # no number of a process
