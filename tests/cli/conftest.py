"""The command line in this process, on a tiny dataset and with methods that exist for one test only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result
from sources import Source

from ncbench import Method, Optimiser, Task, losses, setting
from ncbench.cli import main
from ncbench.data.dataset import Dataset


class Quick(Method):
    """Learns for the tests of the command line; fails on request."""

    name = "quick"

    @dataclass(frozen=True)
    class Config:
        batch_size: int = setting(8, "pairs per update", "here")
        lr: float = setting(1e-2, "learning rate", "[red]there[/red]")
        fails: bool = setting(False, "whether the loss becomes NaN", "here")

    presets: ClassVar = {"tiny": {"lr": 0.0123456}}

    def setup(self, task: Task) -> None:
        self.task, self.net = task, task.new_backbone()
        self.optimiser = Optimiser([self.net], task.budget, lr=self.config.lr)
        self.rng = task.rng("order")

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for batch in self.task.data.batches(self.config.batch_size, self.rng):
            loss = losses.hinge_mean(self.net(batch.images, batch.tokens, batch.lengths), 0.2)
            self.optimiser.step(loss)
            yield {"loss": math.nan if self.config.fails else loss.item()}


class Failing(Quick):
    """Fails always."""

    name = "failing"
    presets: ClassVar = {"tiny": {"fails": True}}


@pytest.fixture
def toys(register: Callable[[str, str, object], None], tiny: Dataset) -> None:
    """Register the methods `quick` and `failing` and the dataset `tiny`."""
    register("ncbench.datasets", "tiny", Source(tiny, "made for [bold]tests[/bold]"))
    register("ncbench.methods", "quick", Quick)
    register("ncbench.methods", "failing", Failing)


@pytest.fixture(scope="session")
def cli() -> Callable[..., Result]:
    """Return a function that calls ncbench with the words given and returns click's Result."""

    def call(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    return call


@pytest.fixture
def toy_run(toys: None, cli: Callable[..., Result], tmp_path: Path) -> Callable[..., Result]:
    """Return a function that calls `ncbench run` on `tiny` with records in tmp_path/runs; words given come last."""

    def call(*words: object) -> Result:
        # One job: other processes would not know what exists for one test only.
        common = ("--dataset", "tiny", "--backbone", "vse", "--budget", 0.3, "--device", "cpu", "--jobs", 1)
        return cli("run", *common, "--out", tmp_path / "runs", *words)

    return call


@pytest.fixture(scope="session")
def strict_json() -> Callable[[str], Any]:
    """Return a parser of JSON that refuses NaN and infinity, as parsers outside Python do."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return lambda text: json.loads(text, parse_constant=refuse)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return bytes and time of change of every file below `folder`, but for what notes when a sweep was launched."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "sweeps" not in path.parts)
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, tuple[bytes, int]]]:
    """Return a function from a folder to the bytes and time of change of every file in it."""
    return contents
