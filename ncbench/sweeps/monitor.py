"""Following runs that execute elsewhere, by what they leave in the folder of records."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ncbench.records.lease import is_held
from ncbench.records.progress import Progress, read_progress
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.sweeps.execution import FAILURES, Observer, Outcome

PATIENCE = 10  # times what a look took, before the next
BEGINNING = Progress(0.0, None, None, "beginning")


class Following:
    """Tells `observer` what becomes of runs, known by their place in `specs`, at each `look`."""

    def __init__(self, specs: Sequence[RunSpec], store: Store, observer: Observer) -> None:
        self._specs, self._store, self._observer = specs, store, observer
        self._begun: set[int] = set()
        self._looked, self._took = False, 0.0
        self.open = [*range(len(specs))]
        """The places of the runs that have not ended."""

        self.at_work = 0
        """How many of these somebody was executing at the last look."""

    def look(self) -> Iterator[Outcome]:
        """Yield the outcomes of the runs that have ended since; those that had at the first look are `kept`.

        Raises UserError for a record that cannot be read.
        """
        since = time.monotonic()
        self.at_work = 0
        for index in list(self.open):
            outcome = self._ended(index)
            if outcome is not None:
                yield self.end(index, outcome)
            elif is_held(folder := self._store.folder(self._specs[index])):
                self.at_work += 1
                self._begin(index)
                self._observer.progressed(index, read_progress(folder) or BEGINNING)
        self._looked, self._took = True, time.monotonic() - since

    def pause(self, seconds: float) -> None:
        """Wait for so long; longer where looking takes long, as a thousand runs on a network file system may."""
        time.sleep(max(seconds, PATIENCE * self._took))

    def end(self, index: int, outcome: Outcome) -> Outcome:
        """Take the run at `index` for ended by `outcome`, and return it."""
        self._begin(index)
        self.open.remove(index)
        self._observer.ended(index, outcome)
        return outcome

    def _ended(self, index: int) -> Outcome | None:
        spec = self._specs[index]
        folder, result = self._store.folder(spec), self._store.find(spec)
        if result is not None:
            return Outcome(spec, "done" if self._looked else "kept", folder, result)
        status, error = self._store.how_it_ended(spec)
        if status in FAILURES and not is_held(folder):
            return Outcome(spec, status, folder, error=RuntimeError(error))
        return None

    def _begin(self, index: int) -> None:
        if index not in self._begun:
            self._begun.add(index)
            self._observer.started(index)
