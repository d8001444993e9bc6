"""Runs in several processes of this machine: one per CUDA device, or a few that divide the threads of its CPU."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from ncbench.errors import UserError
from ncbench.records.progress import Progress
from ncbench.records.store import Store
from ncbench.runtime.device import cap_memory, choose_device
from ncbench.runtime.signals import ask, asked
from ncbench.sweeps.execution import POLL_SECONDS, Observer, Outcome, execute
from ncbench.sweeps.grid import Grid, PlannedRun, plan_sweep
from ncbench.sweeps.launchers.base import Launcher, Sweep, keep
from ncbench.sweeps.launchers.here import Here
from ncbench.training.cost import Work, is_small
from ncbench.training.run import Cadence

PROGRESS_SECONDS = 0.2
PATIENCE_SECONDS = 10.0
LOST = "its process died; the system may have run out of memory"


def make(options: Mapping[str, object]) -> Processes:
    """Return the launcher."""
    return Processes()


class Processes(Launcher):
    """A pool of processes; where one is enough, this one."""

    name = "processes"

    def slots(self, sweep: Sweep) -> int:
        """Return how many processes there will be."""
        waiting = sweep.waiting()
        jobs = sweep.jobs or default_jobs([sweep.runs[index] for index in waiting], choose_device(sweep.device))
        return max(1, min(jobs, len(waiting)))

    def launch(self, sweep: Sweep, observer: Observer) -> Iterator[Outcome]:
        """Execute up to `jobs` runs at a time. Raises UserError as any launcher."""
        device = choose_device(sweep.device)
        if sweep.max_memory is not None:
            cap_memory(device, sweep.max_memory)
        waiting, jobs = sweep.waiting(), self.slots(sweep)
        if jobs == 1:
            return Here().launch(replace(sweep, jobs=1), observer)
        return _in_processes(sweep, observer, waiting, workplaces(device, jobs))


@dataclass(frozen=True)
class Workplace:
    """What a process of the pool has for itself: a device, and threads; None for as many as torch takes."""

    device: str
    threads: int | None


def default_jobs(runs: Sequence[PlannedRun], device: torch.device) -> int:
    """Return how many of `runs` to execute at a time.

    On CUDA one per device; on a CPU 1, or about the number of cores where each trains on one thread. Up to half as many
    again are taken if that saves a last round in which cores would idle.
    """
    if device.type == "cuda":
        return max(1, torch.cuda.device_count())
    small = all(is_small(Work.of(run.spec, run.dataset).step, device) for run in runs)
    if not runs or not small or "OMP_NUM_THREADS" in os.environ:
        return 1
    rounds = -(-len(runs) // (cores() * 3 // 2))
    return -(-len(runs) // rounds)


def workplaces(device: torch.device, jobs: int) -> list[Workplace]:
    """Return a place for each of `jobs` processes: the CUDA devices in turn, or equal parts of the CPU's threads.

    A number of threads that the user has set (OMP_NUM_THREADS) is that of each process.
    """
    if device.type == "cuda":
        present = max(1, torch.cuda.device_count())
        return [Workplace(f"cuda:{number % present}", None) for number in range(jobs)]
    divided = device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ
    return [Workplace(str(device), max(1, cores() // jobs) if divided else None)] * jobs


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(
    sweep: Sweep, observer: Observer, waiting: list[int], places: Sequence[Workplace]
) -> Iterator[Outcome]:
    yield from keep(sweep, observer, waiting)
    # Started afresh, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = []
    pipes: list[Connection] = []
    at_work: dict[Connection, int] = {}
    try:
        for place in places:
            ours, theirs = context.Pipe()
            args = (sweep.grid, sweep.store.root, place, sweep.cadence, sweep.max_memory, theirs)
            worker = context.Process(target=_work, args=args, daemon=True)
            worker.start()
            theirs.close()  # so that the end of the process is the end of the pipe
            workers.append(worker)
            pipes.append(ours)
            at_work[ours] = _hand_out(ours, waiting, observer)
        yield from _collect(sweep.runs, sweep.store, observer, waiting, at_work, workers)
    finally:
        for pipe in pipes:
            pipe.close()  # upon which idle workers end by themselves
        for idle in workers:
            idle.join(0 if at_work else PATIENCE_SECONDS)
            idle.terminate()


def _hand_out(worker: Connection, waiting: list[int], observer: Observer) -> int:
    index = waiting.pop(0)
    observer.started(index)
    with suppress(OSError):  # of a process that has died; `_collect` finds its pipe closed
        worker.send(index)
    return index


def _collect(
    runs: Sequence[PlannedRun],
    store: Store,
    observer: Observer,
    waiting: list[int],
    at_work: dict[Connection, int],
    processes: Sequence[BaseProcess] = (),
) -> Iterator[Outcome]:
    """Yield outcomes until no worker is at work; each that has ended a run gets the next one that is waiting.

    Once asked to stop, no further run begins, and the `processes` of the workers are asked too.
    """
    told = False
    while at_work:
        if asked() is not None and not told:
            told = True
            waiting.clear()
            for process in processes:
                process.terminate()
        for worker in wait(list(at_work), timeout=1.0):
            assert isinstance(worker, Connection)
            try:
                kind, content = worker.recv()
            except (EOFError, OSError):
                index = at_work.pop(worker)
                # One that was asked to stop before it could listen has lost nothing.
                spec = runs[index].spec
                stopped = Outcome(spec, "interrupted", store.folder(spec))
                yield _ended(observer, index, stopped if told else _lost(runs[index], store))
                continue
            if kind == "refused":
                raise UserError(content)
            if kind == "progressed":
                observer.progressed(at_work[worker], content)
                continue
            index = at_work.pop(worker)
            if content.status == "running":  # elsewhere
                waiting.append(index)
            else:
                yield _ended(observer, index, content)
            if waiting and not told:
                at_work[worker] = _hand_out(worker, waiting, observer)
    for index in waiting if not told else ():  # all workers died
        yield _ended(observer, index, _lost(runs[index], store))


def _ended(observer: Observer, index: int, outcome: Outcome) -> Outcome:
    observer.ended(index, outcome)
    return outcome


def _lost(run: PlannedRun, store: Store) -> Outcome:
    store.note(run.spec, "failed", LOST + "\n")
    return Outcome(run.spec, "failed", store.folder(run.spec), error=RuntimeError(LOST))


def _work(
    grid: Grid, root: Path, place: Workplace, cadence: Cadence, max_memory: int | None, parent: Connection
) -> None:
    """Execute runs, received as places in the plan of `grid`, until this process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which asks its workers
    signal.signal(signal.SIGTERM, ask)
    if place.threads is not None:
        torch.set_num_threads(place.threads)
    runs, store, device = plan_sweep(grid), Store(root), torch.device(place.device)
    if max_memory is not None:
        cap_memory(device, max_memory)
    while True:
        try:
            index = parent.recv()
        except EOFError:  # nothing is left to do
            return
        try:
            outcome = execute(runs[index], store, device, _Reporter(parent), cadence)
        except UserError as error:
            _tell(parent, ("refused", str(error)))
        except OSError as error:
            _tell(parent, ("refused", f"{error.filename}: {error.strerror}"))
        else:
            if outcome.status == "running":
                time.sleep(POLL_SECONDS)
            _tell(parent, ("ended", _sendable(outcome)))
        if asked() is not None:
            return


def _tell(parent: Connection, message: tuple[str, object]) -> None:
    """Send a message; a parent that has gone, or listens no more, is like one that asks to stop."""
    try:
        parent.send(message)
    except OSError:
        ask(signal.SIGTERM, None)


class _Reporter:
    """Sends progress to the parent, a few times a second at most."""

    def __init__(self, parent: Connection) -> None:
        self._parent = parent
        self._sent = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._sent > PROGRESS_SECONDS:
            self._sent = now
            _tell(self._parent, ("progressed", progress))


def _sendable(outcome: Outcome) -> Outcome:
    """Return the outcome with an error that can travel between processes."""
    try:
        pickle.loads(pickle.dumps(outcome.error))  # noqa: S301 - written in the same expression
    except Exception:
        return replace(outcome, error=RuntimeError(repr(outcome.error)))
    return outcome
