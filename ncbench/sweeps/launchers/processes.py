"""The launcher that executes runs in local processes: one per CUDA device, or several that share the CPU.

Each of several workers forks for every run. Workers are forks themselves, which share the plan and the dataset in
memory, or, where torch would not survive that, new processes that plan the sweep again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from ncbench.errors import UserError
from ncbench.records.store import Store
from ncbench.runtime.device import check_cap, choose_device
from ncbench.runtime.forks import CAN_FORK, threads_survive
from ncbench.runtime.signals import request_stop, stop_signal
from ncbench.sweeps.execution import POLL_SECONDS, Observer, Outcome
from ncbench.sweeps.fresh_process import DIED, Reporter, apart, picklable, send, warm_up
from ncbench.sweeps.grid import PlannedRun, plan_sweep
from ncbench.sweeps.launchers.base import Launcher, Sweep, finished_outcomes
from ncbench.sweeps.launchers.here import Here
from ncbench.training.cost import Work, is_small
from ncbench.training.run import Cadence

SHUTDOWN_SECONDS = 10.0


def make(options: Mapping[str, object]) -> Processes:
    """Return the launcher."""
    return Processes()


class Processes(Launcher):
    """Executes runs in a pool of processes, or in this process if one is enough."""

    name = "processes"

    def slots(self, sweep: Sweep) -> int:
        """Return the number of processes."""
        waiting = sweep.waiting()
        jobs = sweep.jobs or default_jobs([sweep.runs[index] for index in waiting], choose_device(sweep.device))
        return max(1, min(jobs, len(waiting)))

    def launch(self, sweep: Sweep, observer: Observer) -> Iterator[Outcome]:
        """Execute up to `jobs` runs in parallel."""
        device = choose_device(sweep.device)
        if sweep.max_memory is not None:
            check_cap(device)
        waiting, jobs = sweep.waiting(), self.slots(sweep)
        if jobs == 1:
            return Here().launch(replace(sweep, jobs=1), observer)
        return _run_pool(sweep, observer, waiting, divide_machine(device, jobs))


@dataclass(frozen=True)
class WorkerResources:
    """The device and number of threads of a worker process; None for the default of torch."""

    device: str
    threads: int | None


def default_jobs(runs: Sequence[PlannedRun], device: torch.device) -> int:
    """Return the default number of parallel `runs`.

    On CUDA, one per device. On a CPU, 1, or about one per core if all networks are small enough to train on one thread.
    Up to 1.5 per core are used if this avoids a last round with idle cores.
    """
    if device.type == "cuda":
        return max(1, torch.cuda.device_count())
    small = all(is_small(Work.of(run.spec, run.dataset).step, device) for run in runs)
    if not runs or not small or "OMP_NUM_THREADS" in os.environ:
        return 1
    rounds = -(-len(runs) // (cores() * 3 // 2))
    return -(-len(runs) // rounds)


def divide_machine(device: torch.device, jobs: int) -> list[WorkerResources]:
    """Return the resources of each of `jobs` processes: CUDA devices in turn, or equal shares of the CPU cores.

    If OMP_NUM_THREADS is set, each process uses that many threads.
    """
    if device.type == "cuda":
        present = max(1, torch.cuda.device_count())
        return [WorkerResources(f"cuda:{number % present}", None) for number in range(jobs)]
    divide = device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ
    return [WorkerResources(str(device), max(1, cores() // jobs) if divide else None)] * jobs


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_pool(
    sweep: Sweep, observer: Observer, waiting: list[int], pool: Sequence[WorkerResources]
) -> Iterator[Outcome]:
    yield from finished_outcomes(sweep, observer, waiting)
    forked = _can_fork()
    context = multiprocessing.get_context("fork") if forked else multiprocessing.get_context("spawn")
    if forked:
        for dataset in {id(run.dataset): run.dataset for run in sweep.runs}.values():
            warm_up(dataset)
    workers: list[BaseProcess] = []
    pipes: list[Connection] = []
    active: dict[Connection, int] = {}
    try:
        for resources in pool:
            ours, theirs = context.Pipe()
            plan = partial(_forked_plan, sweep.runs, [*pipes, ours]) if forked else partial(plan_sweep, sweep.grid)
            args = (plan, sweep.store.root, resources, sweep.cadence, sweep.max_memory, theirs)
            worker = context.Process(target=_worker_main, args=args, daemon=True)
            with warnings.catch_warnings():  # other threads of ours hold no lock that a fork needs
                warnings.simplefilter("ignore", DeprecationWarning)
                worker.start()
            theirs.close()  # so that the pipe closes when the process ends
            workers.append(worker)
            pipes.append(ours)
            active[ours] = _dispatch(ours, waiting, observer)
        yield from _collect(sweep.runs, sweep.store, observer, waiting, active, workers)
    finally:
        for pipe in pipes:
            pipe.close()  # idle workers exit
        for process in workers:
            process.join(0 if active else SHUTDOWN_SECONDS)
            process.terminate()


def _can_fork() -> bool:
    """Return whether workers can be forks of this process: torch's threads and CUDA do not survive one once in use."""
    return CAN_FORK and threads_survive() and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def _forked_plan(runs: Sequence[PlannedRun], inherited: Sequence[Connection]) -> Sequence[PlannedRun]:
    """Return `runs` in a fork, after closing the parent's ends of pipes, which would hide that the parent has died."""
    for pipe in inherited:
        pipe.close()
    return runs


def _dispatch(worker: Connection, waiting: list[int], observer: Observer) -> int:
    index = waiting.pop(0)
    observer.started(index)
    with suppress(OSError):  # if the process has died, `_collect` finds its pipe closed
        worker.send(index)
    return index


def _collect(
    runs: Sequence[PlannedRun],
    store: Store,
    observer: Observer,
    waiting: list[int],
    active: dict[Connection, int],
    processes: Sequence[BaseProcess] = (),
) -> Iterator[Outcome]:
    """Yield outcomes until no worker is active; a worker that ends a run gets the next waiting one.

    After a stop request, no run starts, and the worker `processes` are requested to stop.
    """
    stopping = False
    while active:
        if stop_signal() is not None and not stopping:
            stopping = True
            waiting.clear()
            for process in processes:
                process.terminate()
        for worker in wait(list(active), timeout=1.0):
            assert isinstance(worker, Connection)
            try:
                kind, content = worker.recv()
            except (EOFError, OSError):
                index = active.pop(worker)
                # A process terminated before it installed its signal handler has lost nothing.
                spec = runs[index].spec
                stopped = Outcome(spec, "interrupted", store.folder(spec))
                yield _end(observer, index, stopped if stopping else _worker_died(runs[index], store))
                continue
            if kind == "refused":
                raise UserError(content)
            if kind == "progressed":
                observer.progressed(active[worker], content)
                continue
            index = active.pop(worker)
            if content.status == "running":  # in a process of another sweep command
                waiting.append(index)
            else:
                yield _end(observer, index, content)
            if waiting and not stopping:
                active[worker] = _dispatch(worker, waiting, observer)
    for index in waiting if not stopping else ():  # all workers died
        yield _end(observer, index, _worker_died(runs[index], store))


def _end(observer: Observer, index: int, outcome: Outcome) -> Outcome:
    observer.ended(index, outcome)
    return outcome


def _worker_died(run: PlannedRun, store: Store) -> Outcome:
    store.note(run.spec, "failed", DIED + "\n")
    return Outcome(run.spec, "failed", store.folder(run.spec), error=RuntimeError(DIED))


def _worker_main(
    plan: Callable[[], Sequence[PlannedRun]],
    root: Path,
    resources: WorkerResources,
    cadence: Cadence,
    max_memory: int | None,
    parent: Connection,
) -> None:
    """Execute runs, received from `parent` as indices in what `plan` returns, until the pipe closes.

    Each run is executed in a fork of this process, which uses neither threads of torch nor its device itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which stops its workers
    signal.signal(signal.SIGTERM, request_stop)
    if resources.threads is not None:
        torch.set_num_threads(resources.threads)
    runs, store, device = plan(), Store(root), torch.device(resources.device)
    execute = apart(max_memory)
    while True:
        try:
            index = parent.recv()
        except EOFError:  # no runs are left
            return
        try:
            outcome = execute(runs[index], store, device, Reporter(parent), cadence)
        except UserError as error:
            send(parent, ("refused", str(error)))
        except OSError as error:
            send(parent, ("refused", f"{error.filename}: {error.strerror}"))
        else:
            if outcome.status == "running":
                time.sleep(POLL_SECONDS)
            send(parent, ("ended", picklable(outcome)))
        if stop_signal() is not None:
            return
