"""A tiny dataset whose captions can be learned in seconds, and plugins that exist for one test only."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import entry_points

import pytest
from hypothesis import HealthCheck, settings
from made_records import record as record

from ncbench.checks.shapes import Shapes
from ncbench.data.dataset import Dataset
from ncbench.plugins import discovery
from ncbench.runtime import signals

TINY = Shapes(
    name="tiny",
    images={"train": 24, "dev": 8, "test": 8},
    captions_each=2,
    kinds=6,
    scale={"embed": 16, "similarity": 8, "word": 8, "dropout": 0.0},
    batch_size=8,
    budget=4.0,
)

# A test must not fail because the machine is busy.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def tiny_dataset(**changes: object) -> Dataset:
    """24 / 8 / 8 images of 3 regions, each a noisy one-hot shape; 2 captions per image: its shapes in some order."""
    return replace(TINY.load(), **{"digest": "d" * 64, **changes})


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    return tiny_dataset()


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as to a pipe: workers of pytest-xdist and some shells set a width."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def no_stop_request() -> Iterator[None]:
    """Begin every test without a request to stop; fail those that leave handlers of signals, or timers that may ask."""
    signals._received.clear()
    watched = [number for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR2", None)) if number]
    before = {number: signal.getsignal(number) for number in watched}
    yield
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    for timer in timers:
        timer.cancel()
        timer.join()
    left = {number: signal.getsignal(number) for number in watched}
    for number, handler in before.items():
        signal.signal(number, handler)
    signals._received.clear()
    assert not timers, "the test left a timer running"
    assert left == before, "the test left a handler of a signal"


@dataclass
class FakeEntry:
    """As much of an importlib.metadata.EntryPoint as plugins use; `thing` may be an exception to raise."""

    group: str
    name: str
    thing: object
    value: str = "somewhere:Thing"

    def load(self) -> object:
        if isinstance(self.thing, Exception):
            raise self.thing
        return self.thing


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that registers a plugin (group, name, thing) beside the installed ones, for one test.

    A fourth argument tells where it comes from.
    """
    fakes: list[FakeEntry] = []

    def find(group: str, name: str | None = None) -> list[object]:
        mine = [fake for fake in fakes if fake.group == group and name in (None, fake.name)]
        wanted = {"group": group} if name is None else {"group": group, "name": name}
        return [*mine, *entry_points(**wanted)]

    monkeypatch.setattr(discovery, "entry_points", find)
    return lambda *facts: fakes.append(FakeEntry(*facts))


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """Return `tiny_dataset`, which takes changes of the fields of the dataset."""
    return tiny_dataset
