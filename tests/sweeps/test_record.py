"""Records of sweeps in a records folder."""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from runs import prepare_run
from toy_methods import Toy

from ncbench import UserError
from ncbench.data.dataset import Dataset
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.runtime.files import read_toml
from ncbench.sweeps import record as sweeps_record
from ncbench.sweeps.record import SweepRecord, find_sweep, record_for, watch_for_stop


@pytest.fixture
def spec(tiny: Dataset, tmp_path: Path) -> RunSpec:
    return prepare_run(tiny, tmp_path, Toy).spec


def test_runs_and_what_they_follow_from(spec: RunSpec, tmp_path: Path) -> None:
    specs = [spec, replace(spec, seed=7)]
    record = record_for(tmp_path, specs)
    assert not record.folder.exists()
    record.write(specs, {"methods": ["toy"], "slurm": {"time": "2h"}})
    assert [asdict(found) for found in record.specs()] == [asdict(one) for one in specs]
    assert read_toml(record.folder / "sweep.toml", "it") == {"methods": ["toy"], "slurm": {"time": "2h"}}
    # Sweep folders are not mistaken for runs.
    assert list(Store(tmp_path).results()) == list(Store(tmp_path).unfinished()) == []


def test_the_id_is_that_of_the_runs(spec: RunSpec, tmp_path: Path) -> None:
    other = replace(spec, seed=7)
    assert record_for(tmp_path, [spec, other]) == record_for(tmp_path, [other, spec])
    assert record_for(tmp_path, [spec]) != record_for(tmp_path, [spec, other])


def test_the_latest_sweep_or_a_named_one(spec: RunSpec, tmp_path: Path) -> None:
    records = [record_for(tmp_path, [replace(spec, seed=seed)]) for seed in range(3)]
    for age, record in enumerate(records):
        record.write([spec], {})
        os.utime(record.folder / "plan.json", (1000 - age,) * 2)
    assert find_sweep(tmp_path) == records[0]
    assert find_sweep(tmp_path, records[2].id[:5]) == records[2]
    with pytest.raises(UserError, match=rf"^--sweep x: no sweeps .* a unique prefix of {records[0].id}, "):
        find_sweep(tmp_path, "x")
    with pytest.raises(UserError, match=r"^--sweep : 3 sweeps "):
        find_sweep(tmp_path, "")


def test_a_folder_without_sweeps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{tmp_path} contains no sweeps. Create one with: ncbench run "):
        find_sweep(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"x": 1}]'])
def test_a_plan_that_cannot_be_read(content: str, tmp_path: Path) -> None:
    record = SweepRecord(tmp_path, "a")
    record.folder.mkdir(parents=True)
    (record.folder / "plan.json").write_text(content)
    with pytest.raises(UserError, match=r"plan\.json: cannot be read as a sweep plan"):
        record.specs()


def test_listeners_receive_stop_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps_record, "STOP_POLL_SECONDS", 0.02)
    record, heard = SweepRecord(tmp_path, "a"), threading.Event()
    record.request_stop()  # an earlier request, which must not count
    with watch_for_stop(record, heard.set) as listener:
        assert not listener.stop_requested
        record.request_stop()
        assert heard.wait(60)
        assert listener.stop_requested


def test_a_job_that_starts_late_receives_requests_made_since_it_was_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps_record, "STOP_POLL_SECONDS", 0.02)
    record, heard = SweepRecord(tmp_path, "a"), threading.Event()
    since = record.last_stop_request()
    record.request_stop()
    with watch_for_stop(record, heard.set, since):
        assert heard.wait(60)
