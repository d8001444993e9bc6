"""Checks always end, whatever a method does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from broken_methods import Sound

from ncbench import Batch, Method, UserError
from ncbench.checks.method import limits
from ncbench.checks.method.limits import check_within_limits
from ncbench.checks.method.suite import CHECKS
from ncbench.checks.verdicts import Verdict
from ncbench.method.settings import parse_override

SECONDS = 3.0


class Looping(Sound):
    """Loops for ever, and cannot be interrupted."""

    def setup(self, task: Any) -> None:
        super().setup(task)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        while True:
            pass


class Sleeping(Sound):
    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        time.sleep(10**6)
        yield {}


class Stubborn(Sound):
    """Catches all exceptions, for ever."""

    def update(self, batch: Batch) -> float:
        while True:
            try:
                time.sleep(0.01)
                self.task.budget.charge(1)
            except BaseException:
                continue


class Exiting(Sound):
    def setup(self, task: Any) -> None:
        os._exit(0)


class Miserly(Sound):
    """Takes the meter off its network, and charges next to nothing."""

    def setup(self, task: Any) -> None:
        super().setup(task)
        self.net.on_work = lambda *_, **__: None

    def update(self, batch: Batch) -> float:
        self.task.budget.charge(1000)
        return super().update(batch)


def failed(method: type[Method]) -> list[Verdict]:
    verdicts = list(check_within_limits(method, seconds=SECONDS))
    assert [verdict.check for verdict in verdicts] == [check.name for check in CHECKS]
    return [verdict for verdict in verdicts if verdict.outcome == "fail"]


@pytest.mark.parametrize("method", [Looping, Sleeping, Stubborn])
def test_a_method_that_does_not_end_is_ended(method: type[Method]) -> None:
    since = time.monotonic()
    (verdict,) = failed(method)
    assert verdict.check == "trains"
    assert verdict.detail == "does not end within 3 s; --seconds sets another limit"
    assert time.monotonic() - since < 60
    assert verdict.seconds >= SECONDS


def test_a_method_that_ends_the_process_fails() -> None:
    (verdict,) = failed(Exiting)
    assert (verdict.check, verdict.detail) == ("trains", "ends the process that checks it")


def test_a_method_that_charges_next_to_nothing_is_seen_before_its_budget_is_waited_for() -> None:
    verdicts = list(check_within_limits(Miserly, seconds=60.0))
    assert [(verdict.check, verdict.outcome) for verdict in verdicts[:3]] == [
        ("trains", "pass"),
        ("metered", "fail"),
        ("budget", "skipped"),
    ]


def test_errors_of_the_user_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^settings of sound: batch_size must be at least 2, found 1\.$"):
        list(check_within_limits(Sound, overrides=[parse_override("sound.batch_size=1")]))
    monkeypatch.setattr(limits, "CAN_FORK", False)
    verdicts = check_within_limits(Sound)
    assert next(verdicts).outcome == "pass"
    verdicts.close()
