"""Where the runs of a sweep execute: one interface (`base`), and a module for each launcher.

Nothing heavy is loaded before `launcher` is asked for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ncbench.errors import UserError, unknown_name

if TYPE_CHECKING:
    from ncbench.launch.base import Launcher

LAUNCHERS = ("here", "processes", "slurm")
USUAL = "processes"


def launcher(name: str, options: Mapping[str, object] | None = None) -> Launcher:
    """Return the launcher called `name`; `options` are for Slurm.

    Raises UserError for an unknown one, for options that it does not take, and where it cannot work on this machine.
    """
    makers: dict[str, Callable[[], Launcher]] = {
        "here": _here,
        "processes": _processes,
        "slurm": lambda: _slurm(options),
    }
    if name not in makers:
        raise unknown_name("launcher", name, LAUNCHERS)
    if options and name != "slurm":
        raise UserError(f"--slurm is for --launcher slurm, found --launcher {name}; leave one of them out.")
    return makers[name]()


def _here() -> Launcher:
    from ncbench.launch.here import Here

    return Here()


def _processes() -> Launcher:
    from ncbench.launch.processes import Processes

    return Processes()


def _slurm(options: Mapping[str, object] | None) -> Launcher:
    from ncbench.launch.slurm import Slurm

    return Slurm(options or {})
