"""Monitoring of runs that execute in other processes, through their records."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ncbench.errors import UserError
from ncbench.records.lease import is_held
from ncbench.records.progress import Progress, read_progress
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.sweeps.execution import FAILURES, Observer, Outcome

MIN_WAIT_FACTOR = 10  # polling takes at most about a tenth of the time
STARTING = Progress(0.0, None, None, "starting")


class Monitor:
    """Reports the state of runs to `observer` at each `poll`; runs are identified by their index in `specs`."""

    def __init__(self, specs: Sequence[RunSpec], store: Store, observer: Observer) -> None:
        self._specs, self._store, self._observer = specs, store, observer
        self._started: set[int] = set()
        self._polled, self._poll_seconds = False, 0.0
        self.unfinished = [*range(len(specs))]
        """Indices of the runs that have not ended."""

        self.n_running = 0
        """Number of runs that were executing at the last poll."""

    def poll(self) -> Iterator[Outcome]:
        """Yield the outcomes of runs that ended since the last poll; in the first poll, finished runs are `kept`.

        A run whose record cannot be read has `failed`.
        """
        since = time.monotonic()
        self.n_running = 0
        for index in list(self.unfinished):
            outcome = self._outcome(index)
            if outcome is not None:
                yield self.end(index, outcome)
            elif is_held(folder := self._store.folder(self._specs[index])):
                self.n_running += 1
                self._start(index)
                self._observer.progressed(index, read_progress(folder) or STARTING)
        self._polled, self._poll_seconds = True, time.monotonic() - since

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`, or longer if polling is slow, as with many runs on a network file system."""
        time.sleep(max(seconds, MIN_WAIT_FACTOR * self._poll_seconds))

    def end(self, index: int, outcome: Outcome) -> Outcome:
        """Mark the run at `index` as ended with `outcome`, and return it."""
        self._start(index)
        self.unfinished.remove(index)
        self._observer.ended(index, outcome)
        return outcome

    def _outcome(self, index: int) -> Outcome | None:
        spec = self._specs[index]
        folder = self._store.folder(spec)
        try:
            result = self._store.find(spec)
        except UserError as damage:
            return Outcome(spec, "failed", folder, error=damage)
        if result is not None:
            return Outcome(spec, "done" if self._polled else "kept", folder, result)
        status, text = self._store.noted_outcome(spec)
        if status in FAILURES and not is_held(folder):
            return Outcome(spec, status, folder, error=RuntimeError(text))
        return None

    def _start(self, index: int) -> None:
        if index not in self._started:
            self._started.add(index)
            self._observer.started(index)
