"""Launchers execute the runs of a sweep: the interface is in `base`, and each launcher has its own module.

This module imports nothing heavy; `make_launcher` imports the module of the launcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from ncbench.errors import UserError, unknown_name

if TYPE_CHECKING:
    from ncbench.sweeps.launchers.base import Launcher

LAUNCHERS = ("here", "processes", "slurm")
DEFAULT_LAUNCHER = "processes"


def make_launcher(name: str, options: Mapping[str, object] | None = None) -> Launcher:
    """Return the launcher called `name`; only the Slurm launcher accepts `options`.

    Raises UserError for an unknown name, for invalid options, and if the launcher is not available on this machine.
    """
    if name not in LAUNCHERS:
        raise unknown_name("launcher", name, LAUNCHERS)
    if options and name != "slurm":
        raise UserError(f"--slurm requires --launcher slurm, found --launcher {name}")
    made: Launcher = import_module(f"ncbench.sweeps.launchers.{name}").make(options or {})
    return made
