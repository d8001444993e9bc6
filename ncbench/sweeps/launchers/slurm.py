"""Runs as jobs of a Slurm cluster, an array task each, through submitit.

What becomes of them is read from the folder of records, which the nodes share, and from `squeue`: no accounting is
needed. Jobs outlive the process that submitted them; the same command, given again, follows those that are there.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ncbench.errors import UserError
from ncbench.records.spec import RunSpec
from ncbench.records.store import Status, Store
from ncbench.runtime.files import write_json
from ncbench.runtime.signals import asked
from ncbench.sweeps.execution import Observer, Outcome
from ncbench.sweeps.launchers.base import Launcher, Sweep
from ncbench.sweeps.launchers.slurm_job import RunJob, log_of
from ncbench.sweeps.launchers.slurm_options import submitit_parameters
from ncbench.sweeps.monitor import Following
from ncbench.sweeps.record import SweepRecord

if TYPE_CHECKING:
    import submitit

LOOK_SECONDS, ASK_SECONDS = 1.0, 10.0  # between two looks at the records, and two questions to Slurm
GRACE_SECONDS = 30.0  # that a record may take to be seen here after its job has ended
LARGEST_ARRAY = 1000  # Slurm's own default
RESTARTS = 10**6  # time-outs that submitit allows for; `RunJob.checkpoint` knows when they are in vain
ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
)
GONE = "GONE"  # so long ago that Slurm has forgotten
JOBS, LOGS = "jobs.json", "slurm"


def make(options: Mapping[str, object]) -> Slurm:
    """Return the launcher. Raises UserError for bad options."""
    return Slurm(options)


class Slurm(Launcher):
    """A cluster; `options` are those of --slurm."""

    name = "slurm"
    after_stop = (
        "the jobs of the others go on in Slurm. See them with `ncbench runs --watch`, end them with `ncbench cancel`; "
        "the same command follows them again."
    )

    def __init__(self, options: Mapping[str, object]) -> None:
        """Take the options. Raises UserError for bad ones."""
        self._python = options.get("python")
        self._parameters = submitit_parameters(options)

    def check(self, device: str) -> None:
        """Raise UserError where Slurm or submitit is not there; whether the device is, nodes will find."""
        _check_present()

    def slots(self, sweep: Sweep) -> int | None:
        """Return the jobs that were asked for; Slurm may admit fewer."""
        return sweep.jobs

    def launch(self, sweep: Sweep, observer: Observer) -> Iterator[Outcome]:
        """Submit the runs that have neither result nor job, and follow all. Raises UserError as any launcher."""
        sweep.store.root.mkdir(parents=True, exist_ok=True)
        store = Store(sweep.store.root.resolve())  # jobs may start elsewhere
        sweep = replace(sweep, store=store, record=replace(sweep.record, root=store.root))
        waiting = sweep.waiting()
        jobs = self._jobs(sweep, waiting) if waiting else {}
        following = Following([run.spec for run in sweep.runs], store, observer)
        seen, asked_at, ended = dict.fromkeys(jobs.values(), "PENDING"), 0.0, dict[int, float]()
        while True:
            yield from following.look()
            if not following.open or asked() is not None:
                return
            if time.monotonic() - asked_at > ASK_SECONDS:
                asked_at = time.monotonic()
                seen = states(seen) or seen
            for index in list(following.open):
                run = sweep.runs[index].spec
                job = jobs.get(run.id, "")
                state = seen.get(job, GONE)
                if state not in (*ENDED, GONE):
                    ended.pop(index, None)
                elif time.monotonic() - ended.setdefault(index, time.monotonic()) > GRACE_SECONDS:
                    yield following.end(index, _lost(run, store, sweep.record, job, state))
            following.pause(LOOK_SECONDS)

    def _jobs(self, sweep: Sweep, waiting: Sequence[int]) -> dict[str, str]:
        """Return the job of every waiting run, after submitting those that have none."""
        before = jobs_of(sweep.record)
        alive = _told_states(before)
        specs = [sweep.runs[index].spec for index in waiting]
        jobs = {s.id: before[s.id] for s in specs if alive.get(before.get(s.id, ""), GONE) not in (*ENDED, GONE)}
        fresh = [index for index in waiting if sweep.runs[index].spec.id not in jobs]
        executor, largest = self._executor(sweep), _largest_array()
        after: str | None = None
        for start in range(0, len(fresh), largest):
            part = fresh[start : start + largest]
            for index in part:
                sweep.store.forget_end(sweep.runs[index].spec)
            submitted = _submit(executor, [_job(sweep, index) for index in part], after if sweep.jobs else None)
            jobs |= {sweep.runs[index].spec.id: job for index, job in zip(part, submitted, strict=True)}
            write_json(sweep.record.folder / JOBS, jobs)
            after = submitted[0].partition("_")[0]
        return jobs

    def _executor(self, sweep: Sweep) -> submitit.SlurmExecutor:
        import submitit

        python = None if self._python is None else str(self._python)
        executor = submitit.SlurmExecutor(sweep.record.folder / LOGS, max_num_timeout=RESTARTS, python=python)
        most = {} if sweep.jobs is None else {"array_parallelism": sweep.jobs}
        executor.update_parameters(**self._parameters, **most)
        return executor


def jobs_of(record: SweepRecord) -> dict[str, str]:
    """Return the Slurm job of each run of a sweep that has one, by the ids of both. Raises UserError."""
    path = record.folder / JOBS
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
        return {str(run): str(job) for run, job in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as the jobs of a sweep ({error}); delete it.") from error


def states(jobs: Any) -> dict[str, str] | None:
    """Return Slurm's word for the state of each of `jobs`, GONE where it has none; None where it does not answer."""
    wanted = list(jobs)
    command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = dict(line.strip().split("|", 1) for line in told.splitlines() if "|" in line)
    return {job: found.get(job, GONE) for job in wanted}


def _told_states(jobs: Mapping[str, str]) -> dict[str, str]:
    """Return the states of the jobs of runs. Raises UserError where Slurm does not answer."""
    found = states(jobs.values()) if jobs else {}
    if found is None:
        raise UserError("squeue does not answer, and there may be jobs of this sweep; try again when Slurm does.")
    return found


def cancel_jobs(record: SweepRecord) -> int:
    """End the Slurm jobs of a sweep that have not ended; return how many. Raises UserError where Slurm refuses."""
    before = jobs_of(record)
    if not before:
        return 0
    if shutil.which("scancel") is None:
        raise UserError(
            "the sweep has Slurm jobs, and there is no scancel on this machine: those at work save and end, those that "
            "wait end when they begin; to cancel them at once, give the command where Slurm is."
        )
    found = _told_states(before)
    alive = [job for job, state in found.items() if state not in (*ENDED, GONE)]
    if alive:
        _run(["scancel", *alive], "cancel the jobs")
    return len(alive)


def _job(sweep: Sweep, index: int) -> RunJob:
    run = sweep.runs[index]
    assert run.cell is not None
    cell = run.cell
    if cell.data_root is not None:
        cell = replace(cell, data_root=cell.data_root.resolve())
    since = sweep.record.asked_at()
    return RunJob(cell, run.spec, sweep.record, since, sweep.device, sweep.cadence, sweep.max_memory)


def _submit(executor: submitit.SlurmExecutor, jobs: Sequence[RunJob], after: str | None) -> list[str]:
    """Submit an array of jobs, to begin when that called `after` has ended; return their ids."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if after is not None:
        executor.update_parameters(dependency=f"afterany:{after}")
    try:
        with redirect_stderr(io.StringIO()), executor.batch():  # it would print what sbatch says too
            submitted = [executor.submit(job) for job in jobs]
        return [str(job.job_id) for job in submitted]
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"Slurm refused the jobs: {words}; mend --slurm and give the same command") from error


def _lost(spec: RunSpec, store: Store, record: SweepRecord, job: str, state: str) -> Outcome:
    """Return how a run ended whose job did without leaving a result or a failure."""
    folder = store.folder(spec)
    if state == "CANCELLED" or (state == "COMPLETED" and store.how_it_ended(spec)[0] == "interrupted"):
        return Outcome(spec, "interrupted", folder)
    how = "is gone" if state == GONE else f"ended as {state}"
    error = RuntimeError(f"its Slurm job {job} {how}; see {log_of(record.folder / LOGS, job)}")
    status: Status = "over-memory" if state == "OUT_OF_MEMORY" else "failed"
    store.note(spec, status, f"{error}\n")
    return Outcome(spec, status, folder, error=error)


def _check_present() -> None:
    """Raise UserError unless there are Slurm's commands and submitit."""
    if shutil.which("sbatch") is None:
        raise UserError("--launcher slurm: there is no sbatch on this machine; give the command where Slurm is.")
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise UserError("--launcher slurm needs submitit; install it with: pip install 'ncbench[slurm]'") from None


def _largest_array() -> int:
    """Return how many tasks Slurm takes in an array."""
    told = _run(["scontrol", "show", "config"], "tell its configuration")
    for line in told.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "MaxArraySize" and value.isdigit():
            return max(1, min(LARGEST_ARRAY, int(value) - 1))
    return LARGEST_ARRAY


def _run(command: Sequence[str], what: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise UserError(f"Slurm cannot {what}: {' '.join(error.stderr.split())}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"Slurm cannot {what}: {error}") from error
