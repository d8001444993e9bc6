"""The launcher that submits runs to a Slurm cluster as array tasks, through submitit.

Their state is read from the records folder, which the nodes share, and from `squeue`; Slurm accounting is not needed.
Jobs outlive the process that submitted them; rerunning the same command monitors existing jobs again.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from typing import TYPE_CHECKING

from ncbench.errors import UserError
from ncbench.records.spec import RunSpec
from ncbench.records.store import Status, Store
from ncbench.runtime.files import write_json
from ncbench.runtime.signals import stop_signal
from ncbench.sweeps.execution import Observer, Outcome
from ncbench.sweeps.launchers.base import Launcher, Sweep
from ncbench.sweeps.launchers.slurm_job import RunJob, log_of
from ncbench.sweeps.launchers.slurm_options import submitit_parameters
from ncbench.sweeps.monitor import Monitor
from ncbench.sweeps.record import SweepRecord

if TYPE_CHECKING:
    import submitit

POLL_SECONDS, SQUEUE_SECONDS = 1.0, 10.0  # between polls of the records, and of Slurm
GRACE_SECONDS = 30.0  # until the result of an ended job must be visible here
MAX_ARRAY_SIZE = 1000  # Slurm's default
MAX_TIMEOUTS = 10**6  # for submitit; `RunJob.checkpoint` decides when to give up
END_STATES = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
)
UNKNOWN = "UNKNOWN"  # not listed by squeue: the job ended long ago
JOBS, LOGS = "jobs.json", "slurm"


def make(options: Mapping[str, object]) -> Slurm:
    """Return the launcher. Raises UserError if options are invalid."""
    return Slurm(options)


class Slurm(Launcher):
    """Executes runs as Slurm jobs; `options` are those of --slurm."""

    name = "slurm"
    resume_hint = (
        "Slurm jobs keep running. Watch them with `ncbench runs --watch`, stop them with `ncbench cancel`, or rerun "
        "the same command to monitor them again."
    )

    def __init__(self, options: Mapping[str, object]) -> None:
        """Parse the options. Raises UserError if they are invalid."""
        self._python = options.get("python")
        self._parameters = submitit_parameters(options)

    def check(self, device: str) -> None:
        """Raise UserError unless Slurm and submitit are available; the device is checked on the nodes."""
        _check_installed()

    def slots(self, sweep: Sweep) -> int | None:
        """Return the requested number of parallel jobs; Slurm may execute fewer."""
        return sweep.jobs

    def launch(self, sweep: Sweep, observer: Observer) -> Iterator[Outcome]:
        """Submit the runs that have neither a result nor a job, and monitor all until they end."""
        sweep.store.root.mkdir(parents=True, exist_ok=True)
        store = Store(sweep.store.root.resolve())  # jobs may start in another directory
        sweep = replace(sweep, store=store, record=replace(sweep.record, root=store.root))
        waiting = sweep.waiting()
        jobs = self._jobs(sweep, waiting) if waiting else {}
        monitor = Monitor([run.spec for run in sweep.runs], store, observer)
        states = dict.fromkeys(jobs.values(), "PENDING")
        queried, ended_at = 0.0, dict[int, float]()
        while True:
            yield from monitor.poll()
            if not monitor.unfinished or stop_signal() is not None:
                return
            if time.monotonic() - queried > SQUEUE_SECONDS:
                queried = time.monotonic()
                states = query_states(states) or states
            for index in list(monitor.unfinished):
                run = sweep.runs[index].spec
                job = jobs.get(run.id, "")
                state = states.get(job, UNKNOWN)
                if _is_active(state):
                    ended_at.pop(index, None)
                elif time.monotonic() - ended_at.setdefault(index, time.monotonic()) > GRACE_SECONDS:
                    yield monitor.end(index, _outcome_without_result(run, store, sweep.record, job, state))
            monitor.wait(POLL_SECONDS)

    def _jobs(self, sweep: Sweep, waiting: Sequence[int]) -> dict[str, str]:
        """Return the job of each waiting run, after submitting those that have none."""
        before = jobs_of(sweep.record)
        states = _require_states(before)
        specs = [sweep.runs[index].spec for index in waiting]
        jobs = {s.id: before[s.id] for s in specs if _is_active(states.get(before.get(s.id, ""), UNKNOWN))}
        without_job = [index for index in waiting if sweep.runs[index].spec.id not in jobs]
        executor, size = self._executor(sweep), _max_array_size()
        after: str | None = None
        for start in range(0, len(without_job), size):
            part = without_job[start : start + size]
            for index in part:
                sweep.store.clear_outcome(sweep.runs[index].spec)
            submitted = _submit(executor, [_job(sweep, index) for index in part], after if sweep.jobs else None)
            jobs |= {sweep.runs[index].spec.id: job for index, job in zip(part, submitted, strict=True)}
            write_json(sweep.record.folder / JOBS, jobs)
            after = submitted[0].partition("_")[0]
        return jobs

    def _executor(self, sweep: Sweep) -> submitit.SlurmExecutor:
        import submitit

        python = None if self._python is None else str(self._python)
        executor = submitit.SlurmExecutor(sweep.record.folder / LOGS, max_num_timeout=MAX_TIMEOUTS, python=python)
        limit = {} if sweep.jobs is None else {"array_parallelism": sweep.jobs}
        executor.update_parameters(**self._parameters, **limit)
        return executor


def jobs_of(record: SweepRecord) -> dict[str, str]:
    """Return the Slurm job ids of a sweep by run id. Raises UserError if the file cannot be read."""
    path = record.folder / JOBS
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
        return {str(run): str(job) for run, job in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as a list of Slurm jobs ({error}); delete it") from error


def query_states(jobs: Iterable[str]) -> dict[str, str] | None:
    """Return the Slurm state of each of `jobs`, UNKNOWN if squeue does not list it; None if squeue fails."""
    jobs = list(jobs)
    command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = dict(line.strip().split("|", 1) for line in output.splitlines() if "|" in line)
    return {job: found.get(job, UNKNOWN) for job in jobs}


def _is_active(state: str) -> bool:
    return state not in (*END_STATES, UNKNOWN)


def _require_states(jobs: Mapping[str, str]) -> dict[str, str]:
    """Return the states of jobs, given by run id. Raises UserError if squeue fails."""
    found = query_states(jobs.values()) if jobs else {}
    if found is None:
        raise UserError("squeue failed, and this sweep may have running jobs. Try again when Slurm responds.")
    return found


def cancel_jobs(record: SweepRecord) -> int:
    """Cancel the active Slurm jobs of a sweep; return their number. Raises UserError if Slurm refuses."""
    before = jobs_of(record)
    if not before:
        return 0
    if shutil.which("scancel") is None:
        raise UserError(
            "the sweep has Slurm jobs, but scancel is not available on this machine. Running jobs save their state and "
            "stop, pending jobs stop when they start. To cancel them now, run this command on the cluster."
        )
    active = [job for job, state in _require_states(before).items() if _is_active(state)]
    if active:
        _run(["scancel", *active], "cancel the jobs")
    return len(active)


def _job(sweep: Sweep, index: int) -> RunJob:
    run = sweep.runs[index]
    assert run.cell is not None
    cell = run.cell
    if cell.data_root is not None:
        cell = replace(cell, data_root=cell.data_root.resolve())
    since = sweep.record.last_stop_request()
    return RunJob(cell, run.spec, sweep.record, since, sweep.device, sweep.cadence, sweep.max_memory)


def _submit(executor: submitit.SlurmExecutor, jobs: Sequence[RunJob], after: str | None) -> list[str]:
    """Submit an array of jobs, to start after job `after` has ended; return their ids."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if after is not None:
        executor.update_parameters(dependency=f"afterany:{after}")
    try:
        with redirect_stderr(io.StringIO()), executor.batch():  # submitit would print the error of sbatch too
            submitted = [executor.submit(job) for job in jobs]
        return [str(job.job_id) for job in submitted]
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"Slurm rejected the jobs: {message}. Fix --slurm and rerun the same command.") from error


def _outcome_without_result(spec: RunSpec, store: Store, record: SweepRecord, job: str, state: str) -> Outcome:
    """Return the outcome of a run whose job ended without writing a result or an error."""
    folder = store.folder(spec)
    if state == "CANCELLED" or (state == "COMPLETED" and store.noted_outcome(spec)[0] == "interrupted"):
        return Outcome(spec, "interrupted", folder)
    end = "is no longer known to Slurm" if state == UNKNOWN else f"ended with state {state}"
    error = RuntimeError(f"Slurm job {job} {end}; see {log_of(record.folder / LOGS, job)}")
    status: Status = "over-memory" if state == "OUT_OF_MEMORY" else "failed"
    store.note(spec, status, f"{error}\n")
    return Outcome(spec, status, folder, error=error)


def _check_installed() -> None:
    """Raise UserError unless Slurm's commands and submitit are available."""
    if shutil.which("sbatch") is None:
        raise UserError("--launcher slurm: sbatch is not available on this machine")
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise UserError("--launcher slurm requires submitit. Install it with: pip install 'ncbench[slurm]'") from None


def _max_array_size() -> int:
    """Return the maximum number of tasks in a Slurm job array."""
    output = _run(["scontrol", "show", "config"], "show its configuration")
    for line in output.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "MaxArraySize" and value.isdigit():
            return max(1, min(MAX_ARRAY_SIZE, int(value) - 1))
    return MAX_ARRAY_SIZE


def _run(command: Sequence[str], purpose: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise UserError(f"Slurm cannot {purpose}: {' '.join(error.stderr.split())}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"Slurm cannot {purpose}: {error}") from error
