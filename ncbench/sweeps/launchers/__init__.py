"""Where the runs of a sweep execute: one interface (`base`), and a module for each launcher.

Nothing heavy is loaded before `launcher` is asked for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from ncbench.errors import UserError, unknown_name

if TYPE_CHECKING:
    from ncbench.sweeps.launchers.base import Launcher

LAUNCHERS = ("here", "processes", "slurm")
USUAL = "processes"


def launcher(name: str, options: Mapping[str, object] | None = None) -> Launcher:
    """Return the launcher called `name`; `options` are for Slurm.

    Raises UserError for an unknown one, for options that it does not take, and where it cannot work on this machine.
    """
    if name not in LAUNCHERS:
        raise unknown_name("launcher", name, LAUNCHERS)
    if options and name != "slurm":
        raise UserError(f"--slurm is for --launcher slurm, found --launcher {name}; leave one of them out.")
    made: Launcher = import_module(f"ncbench.sweeps.launchers.{name}").make(options or {})
    return made
