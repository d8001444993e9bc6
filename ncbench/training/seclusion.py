"""Runs a method where it cannot see its run: in a thread of its own, guarded, with a line to the meter of its budget.

The frames below a method's own are those of its thread, which hold nothing but the calls that the harness makes. What a
method holds of the meter are two queues; a meter answers at their other end. Networks are evaluated in the same thread,
as a method can put code into them.
"""

from __future__ import annotations

import weakref
from _thread import start_new_thread
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ncbench.budget import BudgetSpent, Meter
from ncbench.runtime.guard import Refused, guard_this_thread, release_this_thread, take_refusals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ncbench.method.base import Method, Plan, Rematches, Task
    from ncbench.runtime.state import State

Found = TypeVar("Found")
Queue = SimpleQueue[Any]


class MeterLine:
    """What a method holds of its budget: an `ncbench.budget.Allowance`, and no way to the meter itself."""

    __slots__ = ("__weakref__", "_answers", "_asked", "_lock")

    def __init__(self, meter: Meter) -> None:
        self._asked, self._answers, self._lock = Queue(), Queue(), Lock()
        start_new_thread(_answer, (meter, self._asked, self._answers))
        weakref.finalize(self, self._asked.put, None).atexit = False

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]. Schedules are functions of it."""
        return float(self._ask(()))

    def charge(self, flops: int, pairs: int = 0, samples: int = 0) -> None:
        """Count a pass of `flops`, before it is made. Raises BudgetSpent if it does not fit."""
        refusal = self._ask((flops, pairs, samples))
        if refusal is not None:
            kind, args = refusal
            raise kind(*args)

    def _ask(self, question: tuple[int, ...]) -> Any:
        with self._lock:
            self._asked.put(question)
            return self._answers.get()


def _answer(meter: Meter, asked: Queue, answers: Queue) -> None:
    while (question := asked.get()) is not None:
        if not question:
            answers.put(meter.progress)
            continue
        try:
            meter.charge(*question)
        except BaseException as error:  # its traceback leads to the meter, so a new one is raised at the other end
            answers.put((type(error), error.args))
        else:
            answers.put(None)


class Secluded:
    """The methods of `method`, called in its thread; they return and raise what these do.

    `watch` is what makes an update: `call`, unless somebody wants to watch.
    """

    def __init__(self, method: Method) -> None:
        self.inner = method
        self.name, self.resumes_midway, self.needs_truth = method.name, method.resumes_midway, method.needs_truth
        self.watch: Callable[[Callable[[], Mapping[str, float] | None]], Mapping[str, float] | None] = self.call
        self._calls: Queue | None = None
        self._outcomes = Queue()

    def call(self, function: Callable[..., Found], *args: Any) -> Found:
        """Return `function(*args)`, called in the thread of the method. Nothing hidden may be in `args`.

        Raises what it raises, and Refused if it did what a method may not do.
        """
        if self._calls is None:  # so late that it inherits how the calling thread computes
            self._calls = Queue()
            start_new_thread(_serve, (self._calls, self._outcomes))
            weakref.finalize(self, self._calls.put, None).atexit = False
        self._calls.put(partial(function, *args))
        found, error = self._outcomes.get()
        for words in take_refusals():  # whatever the method made of them
            raise Refused(words)
        if isinstance(error, BudgetSpent | StopIteration):
            raise type(error)(*error.args)  # the method may keep its own, whose traceback would lead here
        if error is not None:
            raise error
        return cast("Found", found)

    def setup(self, task: Task) -> None:
        """Call `Method.setup`."""
        self.call(self.inner.setup, task)

    def begin_epoch(self, epoch: int) -> None:
        """Call `Method.begin_epoch`."""
        self.call(self.inner.begin_epoch, epoch)

    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Call `Method.train_epoch`; every update of it is made in the thread of the method."""
        updates: Iterator[Mapping[str, float]] = self.call(_iterator, self.inner.train_epoch, epoch)
        update = partial(next, updates, None)
        while (scalars := self.watch(update)) is not None:
            yield scalars

    def clean_pairs_needed(self, pairs: int) -> int:
        """Call `Method.clean_pairs_needed`."""
        return self.call(self.inner.clean_pairs_needed, pairs)

    def pair_scores(self) -> NDArray[np.float64] | None:
        """Call `Method.pair_scores`."""
        return self.call(self.inner.pair_scores)

    def soft_labels(self) -> NDArray[np.float64] | None:
        """Call `Method.soft_labels`."""
        return self.call(self.inner.soft_labels)

    def rematches(self) -> Rematches | None:
        """Call `Method.rematches`."""
        return self.call(self.inner.rematches)

    def transport_plan(self) -> Plan | None:
        """Call `Method.transport_plan`."""
        return self.call(self.inner.transport_plan)

    def state_dict(self) -> State:
        """Call `Method.state_dict`."""
        return self.call(self.inner.state_dict)

    def load_state_dict(self, state: State) -> None:
        """Call `Method.load_state_dict`."""
        self.call(self.inner.load_state_dict, state)


def _iterator(function: Callable[[int], Iterator[Mapping[str, float]]], epoch: int) -> Iterator[Mapping[str, float]]:
    return iter(function(epoch))


def _serve(calls: Queue, outcomes: Queue) -> None:
    guard_this_thread()
    try:
        while (call := calls.get()) is not None:
            try:
                outcomes.put((call(), None))
            except BaseException as error:
                outcomes.put((None, error))
            del call
    finally:
        release_this_thread()
