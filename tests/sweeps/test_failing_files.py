"""Whatever file operation of a run fails, and whenever the power is lost, the same command ends in the same record."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from failing_files import FailingFiles, PowerLost
from left_behind import records
from runs import prepare_run
from toy_methods import Toy

from ncbench import UserError
from ncbench.data.dataset import Dataset
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.sweeps.execution import execute
from ncbench.sweeps.grid import PlannedRun
from ncbench.training.run import Cadence

SAMPLE = 4
OFTEN = Cadence(epoch=0.0, midway=1e9)  # at the ends of epochs, and in evaluations


def attempt(dataset: Dataset, root: Path) -> str:
    """Execute a run with all that belongs to it, in this process; return its status."""
    run = prepare_run(dataset, root, Toy, budget=0.5, evaluations=2)
    planned = PlannedRun(run.spec, dataset, run.noise, Toy)
    return execute(planned, Store(root), torch.device("cpu"), lambda progress: None, OFTEN).status


def outcome(dataset: Dataset, root: Path) -> str:
    """Return the status of an attempt, or the error that it tells the user in one line."""
    try:
        return attempt(dataset, root)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename}: {error.strerror}" if error.filename else repr(error)


def repeat(dataset: Dataset, root: Path, expected: dict[str, object]) -> None:
    """Execute it again, as another process does after this one has ended; its record is the expected one."""
    for path in (*root.rglob("*claim.json*"), *root.rglob("*.tmp")):
        os.utime(path, (0, 0))
    assert attempt(dataset, root) in ("done", "kept")
    assert records(root) == expected
    for record in Store(root).results():
        assert record.result is not None
        assert Record(record.folder).ranks


@pytest.fixture(scope="module")
def tiny_here(tiny: Dataset) -> Dataset:
    return tiny


@pytest.fixture(scope="module")
def undisturbed(tiny_here: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], int]:
    """Return the record of an undisturbed run, and the number of its operations."""
    root = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch, FailingFiles(root).watched(patch) as files:
        assert attempt(tiny_here, root) == "done"
    return records(root), files.count


def moments(count: int, every: bool) -> range:
    return range(1, count + 1, 1 if every else max(1, count // SAMPLE))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.torture)])
@pytest.mark.parametrize("lasting", [False, True])
def test_an_operation_fails(
    lasting: bool,
    every: bool,
    tiny_here: Dataset,
    undisturbed: tuple[dict[str, object], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, count = undisturbed
    told = 0
    for moment in moments(count, every):
        root = tmp_path / str(moment)
        root.mkdir()
        with FailingFiles(root, moment, lasting).watched(monkeypatch):
            said = outcome(tiny_here, root)
        told += "No space left on device" in said
        assert said in ("done", "running") or "No space left on device" in said
        repeat(tiny_here, root, expected)
    assert told


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.torture)])
@pytest.mark.parametrize("entries", [False, True])
def test_the_power_is_lost(
    entries: bool,
    every: bool,
    tiny_here: Dataset,
    undisturbed: tuple[dict[str, object], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, count = undisturbed
    begun = 0
    for moment in moments(count, every):
        root, left = tmp_path / str(moment), tmp_path / f"{moment}-left"
        root.mkdir()
        with FailingFiles(root, last=moment).watched(monkeypatch) as files, pytest.raises(PowerLost):
            attempt(tiny_here, root)
        files.last = 0
        files.kept(left, entries)
        begun += any(left.rglob("checkpoint/*.json"))
        repeat(tiny_here, left, expected)
    assert begun  # some attempts go on from a checkpoint that was flushed
