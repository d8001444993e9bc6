"""The launcher that executes runs one after another, each in a fork of this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ncbench.errors import UserError
from ncbench.runtime.device import check_cap, choose_device
from ncbench.sweeps.execution import Observer, Outcome, run_sweep
from ncbench.sweeps.fresh_process import apart
from ncbench.sweeps.launchers.base import Launcher, Sweep


def make(options: Mapping[str, object]) -> Here:
    """Return the launcher."""
    return Here()


class Here(Launcher):
    """Executes runs one after another. They share the terminal of this process, so that a debugger can be used."""

    name = "here"

    def slots(self, sweep: Sweep) -> int | None:
        """Return 1."""
        return 1

    def launch(self, sweep: Sweep, observer: Observer) -> Iterator[Outcome]:
        """Execute the runs. Raises UserError also if `jobs` is more than 1."""
        if sweep.jobs not in (None, 1):
            raise UserError(
                f"--launcher here executes one run at a time, found --jobs {sweep.jobs}. Use --launcher processes."
            )
        device = choose_device(sweep.device)
        if sweep.max_memory is not None:
            check_cap(device)
        sweep.waiting()  # raise for unreadable records before the first run starts
        yield from run_sweep(sweep.runs, sweep.store, device, observer, sweep.cadence, executor=apart(sweep.max_memory))
