"""Stop requests: the state is saved, and the same sweep resumes from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from interruptions import ALWAYS, NEVER, ByEpochs, record
from runs import prepare_run

from ncbench.data.dataset import Dataset
from ncbench.evaluation import scoring
from ncbench.method.registry import load_method
from ncbench.records.progress import Progress
from ncbench.records.store import CHECKPOINT
from ncbench.runtime import signals
from ncbench.runtime.signals import Stopped, catch_signals, ended_by_sigterm, request_stop, stop_signal


@pytest.fixture(autouse=True)
def nobody_has_asked() -> Iterator[None]:
    signals._received.clear()
    yield
    signals._received.clear()


def test_signals_are_requests_inside_only() -> None:
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with catch_signals():
        assert stop_signal() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_signal() is signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)  # a second request has no effect
        assert stop_signal() is signal.SIGTERM
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before
    with catch_signals():
        assert stop_signal() is None  # a new sweep


def test_a_second_interrupt_does_not_wait() -> None:
    with catch_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_signal() is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("kind", ["triplet", "by-epochs"])
def test_a_run_that_is_asked_saves_and_ends(kind: str, tiny: Dataset, tmp_path: Path) -> None:
    method: Any = ByEpochs if kind == "by-epochs" else load_method(kind)
    prepare_run(tiny, tmp_path / "whole", method, budget=3.0, cadence=NEVER).execute()
    told: list[float] = []

    def after_eight(progress: Progress) -> None:
        told.append(progress.share)
        if len(told) == 8:
            request_stop(signal.SIGTERM)

    cadence = NEVER if kind == "triplet" else ALWAYS  # triplet can resume within an epoch
    with pytest.raises(Stopped):
        prepare_run(tiny, tmp_path / "broken", method, budget=3.0, cadence=cadence, on_progress=after_eight).execute()
    assert len(told) == 8
    assert list((tmp_path / "broken" / CHECKPOINT).glob("*.json"))
    assert not (tmp_path / "broken" / "result.json").exists()
    signals._received.clear()
    again: list[float] = []
    torch.manual_seed(5)
    prepare_run(
        tiny, tmp_path / "broken", method, budget=3.0, cadence=NEVER, on_progress=lambda p: again.append(p.share)
    ).execute()
    assert again[0] > (told[-2] if kind == "triplet" else 0.0)
    assert record(tmp_path / "broken") == record(tmp_path / "whole")


def test_requests_are_heard_in_evaluations_which_go_on(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is asked to stop at every second opportunity, of updates and blocks, still makes progress."""
    monkeypatch.setattr(scoring, "ENCODE_BATCH_SIZE", 3)
    method: Any = load_method("triplet")
    prepare_run(tiny, tmp_path / "whole", method, "sgraf", budget=0.4, cadence=NEVER).execute()
    doing: list[str] = []
    stopped: list[str] = []
    for _ in range(500):
        run = prepare_run(
            tiny, tmp_path / "broken", method, "sgraf", budget=0.4, on_progress=lambda p: doing.append(p.doing)
        )
        calls = iter([False, True])
        run.should_stop = calls.__next__
        try:
            run.execute()
            break
        except Stopped:
            stopped.append(doing[-1])
        except StopIteration:
            raise AssertionError("it was not heard") from None
    assert set(stopped) == {"evaluating", "testing"}
    assert stopped.count("testing") >= 3
    assert record(tmp_path / "broken") == record(tmp_path / "whole")


def test_an_epoch_that_cannot_be_resumed_is_repeated_with_its_evaluations(tiny: Dataset, tmp_path: Path) -> None:
    prepare_run(tiny, tmp_path / "whole", ByEpochs, budget=3.0, cadence=NEVER).execute()
    for number in (3, 9, 15, 25, 10**9):
        run = prepare_run(tiny, tmp_path / "broken", ByEpochs, budget=3.0, cadence=ALWAYS)
        calls = iter(range(10**9))
        run.should_stop = lambda calls=calls, number=number: next(calls) == number  # type: ignore[misc]
        with suppress(Stopped):
            run.execute()
    assert record(tmp_path / "broken") == record(tmp_path / "whole")


EARLY = """
import os, signal, sys, tempfile
from ncbench.cli import main
import click
@main.command()
def wait():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    finally:
        print("tidied up")
main(["wait"])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_sigterm_before_a_run_begins_leaves_nothing_half_done() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "tidied up\n", "Stopped by SIGTERM.\n")


def test_a_handler_that_is_there_stays() -> None:
    before = signal.signal(signal.SIGTERM, request_stop)
    try:
        with ended_by_sigterm():
            assert signal.getsignal(signal.SIGTERM) == request_stop
        assert signal.getsignal(signal.SIGTERM) == request_stop
    finally:
        signal.signal(signal.SIGTERM, before)
    with ended_by_sigterm():
        assert signal.getsignal(signal.SIGTERM) not in (before, request_stop)
        with catch_signals():
            assert signal.getsignal(signal.SIGTERM) == request_stop
    assert signal.getsignal(signal.SIGTERM) == before
