"""Runs in this process, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ncbench.errors import UserError
from ncbench.runtime.device import cap_memory, choose_device
from ncbench.sweeps.execution import Observer, Outcome, run_sweep
from ncbench.sweeps.launchers.base import Launcher, Sweep


def make(options: Mapping[str, object]) -> Here:
    """Return the launcher."""
    return Here()


class Here(Launcher):
    """This process."""

    name = "here"

    def slots(self, sweep: Sweep) -> int | None:
        """Return 1."""
        return 1

    def launch(self, sweep: Sweep, observer: Observer) -> Iterator[Outcome]:
        """Execute the runs here. Raises UserError as any launcher, and where several at a time are asked for."""
        if sweep.jobs not in (None, 1):
            raise UserError(f"--launcher here executes one run at a time, found --jobs {sweep.jobs}; take processes.")
        device = choose_device(sweep.device)
        if sweep.max_memory is not None:
            cap_memory(device, sweep.max_memory)
        sweep.waiting()  # a record that cannot be read is told before anything starts
        yield from run_sweep(sweep.runs, sweep.store, device, observer, sweep.cadence)
