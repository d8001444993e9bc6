"""Plugins by entry point: which names a group offers, and what a name stands for."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from ncbench.errors import UserError, unknown_name


def plugin_names(group: str) -> list[str]:
    """Return the sorted names that installed packages register in `group`; loads none of them."""
    return sorted({entry.name for entry in entry_points(group=group)})


def check_plugin(group: str, kind: str, name: str) -> None:
    """Raise UserError unless `group` offers `name`; `kind` is the noun for the message."""
    if name not in plugin_names(group):
        raise unknown_name(kind, name, plugin_names(group))


def module_file(group: str, name: str) -> Path | None:
    """Return the file in which what `name` stands for is defined, without running it; None where that is not known."""
    for entry in entry_points(group=group, name=name):
        try:
            spec = find_spec(entry.value.partition(":")[0])
        except (ImportError, ValueError):
            continue
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    return None


def load_plugin(group: str, kind: str, name: str) -> object:
    """Return what `name` stands for in `group`. Raises UserError where it is unknown or cannot be imported."""
    check_plugin(group, kind, name)
    entry, *others = {entry.value: entry for entry in entry_points(group=group, name=name)}.values()
    if others:
        places = " and ".join(sorted(found.value for found in (entry, *others)))
        raise UserError(f"{kind} {name!r} is registered twice, as {places}; uninstall or rename one.")
    try:
        return entry.load()
    except Exception as error:
        raise UserError(f"{kind} {name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}") from error
