"""The command line in this process, with a tiny dataset and temporary methods."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sources import Source
from toy_methods import Failing, Quick

from ncbench.cli import main
from ncbench.data.dataset import Dataset
from ncbench.sweeps import fresh_process


@pytest.fixture
def toys(register: Callable[[str, str, object], None], tiny: Dataset) -> None:
    """Register the methods `quick` and `failing` and the dataset `tiny`."""
    register("ncbench.datasets", "tiny", Source(tiny, "made for [bold]tests[/bold]"))
    register("ncbench.methods", "quick", Quick)
    register("ncbench.methods", "failing", Failing)


@pytest.fixture(scope="session")
def cli() -> Callable[..., Result]:
    """Return a function that calls ncbench with arguments and returns click's Result."""

    def call(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    return call


@pytest.fixture
def toy_run(toys: None, cli: Callable[..., Result], tmp_path: Path) -> Callable[..., Result]:
    """Return a function that calls `ncbench run` on `tiny` with further arguments and records in tmp_path/runs."""

    def call(*words: object) -> Result:
        # One job: the methods are not registered in other processes.
        common = ("--dataset", "tiny", "--backbone", "vse", "--budget", 0.3, "--device", "cpu", "--jobs", 1)
        return cli("run", *common, "--out", tmp_path / "runs", *words)

    return call


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute runs in the process of the test, which can then see and change what they do."""
    monkeypatch.setattr(fresh_process, "CAN_FORK", False)


@pytest.fixture(scope="session")
def strict_json() -> Callable[[str], Any]:
    """Return a JSON parser that rejects NaN and infinity, as the standard requires."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return lambda text: json.loads(text, parse_constant=refuse)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the content and modification time of every file in `folder`, except sweep files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "sweeps" not in path.parts)
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, tuple[bytes, int]]]:
    """Return a function that returns the content and modification time of every file in a folder."""
    return contents
