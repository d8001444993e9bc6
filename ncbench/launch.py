"""Where the runs of a sweep execute: in this process, or in several processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ncbench.errors import UserError
from ncbench.runner import Progress, Work, is_small
from ncbench.store import Store
from ncbench.sweep import Grid, Observer, Outcome, PlannedRun, execute, plan_sweep, run_sweep

POLL_SECONDS = 1.0
PROGRESS_SECONDS = 0.2


def launch(
    grid: Grid, runs: Sequence[PlannedRun], store: Store, device: torch.device, observer: Observer, jobs: int
) -> Iterator[Outcome]:
    """Execute the planned `runs` of `grid`, up to `jobs` at a time; yield each outcome as it comes.

    The records are the same for any number of jobs. Raises UserError as `run_sweep` does.
    """
    open_runs = [run for run in runs if store.find(run.spec) is None]
    jobs = min(jobs, len(open_runs))
    if jobs <= 1:
        return run_sweep(runs, store, device, observer)
    return _in_processes(grid, runs, store, device, observer, jobs)


def default_jobs(runs: Sequence[PlannedRun], device: torch.device) -> int:
    """Return how many of `runs` to execute at a time: 1, or enough for all cores where each trains on one thread.

    Then it is the least number, from the number of cores on, that leaves no core idle while the last runs finish.
    """
    small = all(is_small(Work.of(run.spec, run.dataset).step, device) for run in runs)
    if not small or "OMP_NUM_THREADS" in os.environ:
        return 1
    rounds = max(1, len(runs) // (os.cpu_count() or 1))
    return -(-len(runs) // rounds)


def _in_processes(
    grid: Grid, runs: Sequence[PlannedRun], store: Store, device: torch.device, observer: Observer, jobs: int
) -> Iterator[Outcome]:
    # Started afresh, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    tasks, events = context.Queue(), context.Queue()
    for index in [*range(len(runs)), *[None] * jobs]:
        tasks.put(index)
    work = partial(_work, grid, store.root, str(device), tasks, events)
    workers: list[BaseProcess] = [context.Process(target=work, daemon=True) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    try:
        yield from _collect(runs, store, observer, workers, events)
    finally:
        for worker in workers:
            worker.terminate()


def _collect(
    runs: Sequence[PlannedRun], store: Store, observer: Observer, workers: Sequence[BaseProcess], events: Any
) -> Iterator[Outcome]:
    left = set(range(len(runs)))
    at_work: dict[int, int] = {}  # process id -> run
    while left:
        try:
            worker, kind, index, content = events.get(timeout=POLL_SECONDS)
        except queue.Empty:
            alive = {process.pid for process in workers if process.is_alive()}
            lost = left if not alive else {run for worker, run in at_work.items() if worker not in alive} & left
            for index in sorted(lost):
                left.discard(index)
                error = RuntimeError("its process died; the system may have run out of memory")
                spec = runs[index].spec
                outcome = Outcome(spec, "failed", store.folder(spec), error=error)
                observer.ended(index, outcome)
                yield outcome
            continue
        if kind == "started":
            at_work[worker] = index
            observer.started(index)
        elif kind == "progressed":
            observer.progressed(index, content)
        elif kind == "refused":
            raise UserError(content)
        else:
            left.discard(index)
            observer.ended(index, content)
            yield content


def _work(grid: Grid, root: Path, device: str, tasks: Any, events: Any) -> None:
    """Execute runs by their place in the plan of `grid`, until a None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    runs, store = plan_sweep(grid), Store(root)
    me = os.getpid()
    while (index := tasks.get()) is not None:
        events.put((me, "started", index, None))
        try:
            outcome = execute(runs[index], store, torch.device(device), _Reporter(me, index, events))
        except UserError as error:
            events.put((me, "refused", index, str(error)))
            return
        events.put((me, "ended", index, _sendable(outcome)))


class _Reporter:
    """Sends progress to the parent, a few times a second at most."""

    def __init__(self, worker: int, index: int, events: Any) -> None:
        self._worker, self._index, self._events = worker, index, events
        self._sent = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._sent > PROGRESS_SECONDS:
            self._sent = now
            self._events.put((self._worker, "progressed", self._index, progress))


def _sendable(outcome: Outcome) -> Outcome:
    """Return the outcome with an error that can travel between processes."""
    try:
        pickle.dumps(outcome.error)
    except Exception:
        return replace(outcome, error=RuntimeError(repr(outcome.error)))
    return outcome
