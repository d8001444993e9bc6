"""Monitoring of runs through the records folder."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from made_records import made_result
from runs import prepare_run
from toy_methods import Toy
from watching import Events

from ncbench.data.dataset import Dataset
from ncbench.records import progress
from ncbench.records.lease import take
from ncbench.records.progress import Progress, ProgressFile, read_progress
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.runtime.files import write_json
from ncbench.sweeps.monitor import STARTING, Monitor


class Watcher(Events):
    def progressed(self, index: int, progress: Progress) -> None:
        self.events.append(("progressed", index, progress))


@pytest.fixture
def specs(tiny: Dataset, tmp_path: Path) -> list[RunSpec]:
    return [prepare_run(tiny, tmp_path, Toy, seed=seed).spec for seed in range(3)]


def finish(store: Store, spec: RunSpec) -> None:
    write_json(store.start(spec) / "result.json", made_result(spec).to_dict())


def test_a_run_from_waiting_to_done(specs: list[RunSpec], tmp_path: Path) -> None:
    store, watcher = Store(tmp_path), Watcher()
    finish(store, specs[2])
    monitor = Monitor(specs, store, watcher)
    assert [(o.spec.seed, o.status) for o in monitor.poll()] == [(2, "kept")]
    assert watcher.events == [("started", 2), ("ended", 2, "kept")]
    folder = store.start(specs[0])
    progress = Progress(0.25, 1.5, 20.0, "training", 30.0)
    with take(folder):
        assert list(monitor.poll()) == []
        assert watcher.events[2:] == [("started", 0), ("progressed", 0, STARTING)]
        (folder / "progress.json").write_text(json.dumps(vars(progress)))
        assert list(monitor.poll()) == []
        assert watcher.events[4:] == [("progressed", 0, progress)]
    assert list(monitor.poll()) == []  # interrupted: it can resume
    assert monitor.unfinished == [0, 1]
    finish(store, specs[0])
    store.note(specs[1], "diverged", "Traceback\nDiverged: the loss is nan\n")
    outcomes = list(monitor.poll())
    done, diverged = outcomes
    assert (done.spec.seed, done.status, done.result) == (0, "done", made_result(specs[0]))
    assert (diverged.spec.seed, diverged.status, diverged.result) == (1, "diverged", None)
    assert repr(outcomes[1].error) == "RuntimeError('Diverged: the loss is nan')"
    assert monitor.unfinished == []


def test_a_failed_run_that_is_tried_again_has_not_ended(specs: list[RunSpec], tmp_path: Path) -> None:
    store, watcher = Store(tmp_path), Watcher()
    store.note(specs[0], "failed", "no luck\n")
    with take(store.folder(specs[0])):
        monitor = Monitor(specs[:1], store, watcher)
        assert list(monitor.poll()) == []
    assert [o.status for o in monitor.poll()] == ["failed"]


def test_slow_polls_wait_longer(specs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("ncbench.sweeps.monitor.time.sleep", slept.append)
    monitor = Monitor(specs, Store(tmp_path), Watcher())
    list(monitor.poll())
    monitor.wait(100.0)
    monitor._poll_seconds = 20.0
    monitor.wait(100.0)
    assert slept == [100.0, 200.0]


def test_progress_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    noted = ProgressFile(tmp_path)
    noted(Progress(0.4, 1.0, None, "training"))
    assert read_progress(tmp_path) is None  # short runs write no progress file
    now[0] += 6
    noted(Progress(0.5, float("nan"), 10.0, "training"))
    # A tenth took six seconds, so the remaining half takes thirty.
    found = read_progress(tmp_path)
    assert found is not None
    assert (found.share, found.loss, found.dev_rsum, found.doing) == (0.5, None, 10.0, "training")
    assert found.left == pytest.approx(30.0)
    now[0] += 4
    noted(Progress(0.6, 1.0, 10.0, "training"))
    assert read_progress(tmp_path) == found
    noted.remove()
    noted.remove()
    assert list(tmp_path.iterdir()) == []


def test_progress_that_cannot_be_written_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WRITE_INTERVAL", 0.0)
    (tmp_path / "file").touch()
    ProgressFile(tmp_path / "file")(Progress(0.5, None, None, "training"))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"share": "x", "doing": 1}', '{"share": 0.5}', "\x00"])
def test_progress_that_says_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(content)
    assert read_progress(tmp_path) is None


def test_numbers_out_of_bounds(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text('{"share": 7, "doing": "x", "loss": NaN, "left": "soon"}')
    assert read_progress(tmp_path) == Progress(1.0, None, None, "x")


def test_claims_are_seen_where_one_may_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ncbench.records.lease import is_held

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    with take(tmp_path), monkeypatch.context() as patch:
        patch.setattr(Path, "touch", refuse)
        assert is_held(tmp_path)
        patch.setattr(
            "ncbench.records.lease.time", type("Later", (), {"time": staticmethod(lambda: time.time() + 100)})
        )
        assert not is_held(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", refuse)
        assert not is_held(tmp_path)
