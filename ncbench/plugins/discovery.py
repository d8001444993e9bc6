"""Finding and loading plugins (methods, datasets, noise protocols) by name.

Plugins are registered by entry points of installed packages, or defined in files (`ncbench.plugins.source_files`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Generic, Protocol, TypeVar, cast

from ncbench.errors import UserError, unknown_name
from ncbench.plugins.source_files import VARIABLE, Kind, find_files, is_path, load_module, same_content

LOG = logging.getLogger(__name__)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Named(Protocol):
    """The protocol of all plugins."""

    @property
    def name(self) -> str:
        """The name that users give."""
        ...


T = TypeVar("T", bound=Named)
P = TypeVar("P")


def plugin_names(group: str) -> list[str]:
    """Return the sorted names registered in entry point group `group`, without loading them."""
    return sorted({entry.name for entry in entry_points(group=group)})


def check_plugin(group: str, kind: str, name: str) -> None:
    """Raise UserError unless `name` is registered in `group`; `kind` is the noun for the message."""
    if name not in plugin_names(group):
        raise unknown_name(kind, name, plugin_names(group))


def load_plugin(group: str, kind: str, name: str) -> object:
    """Load the plugin `name` of `group`. Raises UserError if it is unknown or cannot be imported."""
    entries = list(entry_points(group=group, name=name))
    if not entries:
        raise unknown_name(kind, name, plugin_names(group))
    return _load_entry(entries, kind, name)


def _load_entry(entries: Iterable[EntryPoint], kind: str, name: str) -> object:
    """Load the one object that all `entries` called `name` refer to. Raises UserError."""
    entry, *others = {entry.value: entry for entry in entries}.values()
    if others:
        places = " and ".join(sorted(found.value for found in (entry, *others)))
        raise UserError(f"{kind} {name!r} is registered twice, as {places}; uninstall or rename one")
    LOG.debug("loading %s %s from %s", kind, name, entry.value)
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise UserError(f"{kind} {name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}") from error


def _file_of(entries: Iterable[EntryPoint]) -> Path | None:
    """Return the file that entry points refer to, without running it, or None if it is unknown."""
    for entry in entries:
        try:
            spec = find_spec(entry.value.partition(":")[0])
        except (ImportError, ValueError):
            continue
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    return None


def file_of(kind: Kind, name: str) -> Path | None:
    """Return the file that defines a plugin, given by name or path, without running it; None if it is unknown.

    Raises UserError if there is no such plugin, or several.
    """
    path, entries = _locate(kind, name, run_found=True)
    return path.expanduser() if path else _file_of(entries)


def names_of(kind: Kind) -> list[str]:
    """Return the sorted names of all plugins of a kind, in packages and files, without loading them.

    Raises UserError if a path in NCBENCH_PLUGINS does not exist.
    """
    return sorted({*plugin_names(kind.group), *(file.name for file in find_files(kind))})


def check_name(kind: Kind, name: str) -> None:
    """Raise UserError unless `name` is a known plugin of this kind or the path of a file. Loads nothing."""
    if is_path(name):
        if not Path(name).expanduser().is_file():
            raise UserError(f"{kind.noun} file {name}: file not found")
        if not name.endswith(".py"):  # nothing else is run as Python
            raise UserError(f"{kind.noun} file {name}: expected a Python file (.py)")
    elif name not in names_of(kind):
        raise unknown_name(kind.noun, name, names_of(kind))


def _locate(kind: Kind, name: str, run_found: bool) -> tuple[Path | None, list[EntryPoint]]:
    """Return the file that defines plugin `name`, or None and its entry points.

    Raises UserError if the name is unknown or ambiguous, and for a file that may not be run: see `find_plugin`.
    """
    if is_path(name):
        check_name(kind, name)
        if not run_found:
            raise UserError(f"{kind.noun} {name!r} is a path; files that a record names are not run")
        return Path(name), []
    entries = list(entry_points(group=kind.group, name=name))  # look up only once: this takes milliseconds
    files = [file.path for file in find_files(kind) if file.name == name]
    if not entries and not files:
        raise unknown_name(kind.noun, name, names_of(kind))
    own = _file_of(entries) if files else None
    files = [file for file in files if not (own and same_content(file, own))]
    if len(files) + bool(entries) > 1:
        places = " and ".join([*(["an installed package"] if entries else []), *map(str, files)])
        raise UserError(f"{kind.noun} {name!r} is defined in {places}; rename one, or give the path of a file")
    if files and not run_found and files[0] not in {file.path for file in find_files(kind, working_directory=False)}:
        raise UserError(
            f"{kind.noun} {name!r} is defined in {files[0]}, which is only run where you name it; if you trust the "
            f"file, set {VARIABLE} to its path"
        )
    return (files[0] if files else None), entries


def find_plugin(
    kind: Kind,
    name: str,
    noun: str,
    in_module: Callable[[ModuleType], Iterable[T]],
    *,
    run_found: bool = True,
) -> tuple[T, str]:
    """Return the plugin `name`, or the only plugin in the file with that path, and the digest of the file.

    `in_module` returns the plugins that a module defines; `noun` describes them in messages. The digest is "" for
    installed plugins. Without `run_found`, as for names from records, no path and no file found in the working
    directory is run. Raises UserError if the plugin is unknown, ambiguous, may not be run or cannot be loaded, and if
    the file does not define exactly one.
    """
    path, entries = _locate(kind, name, run_found)
    if path is None:
        return cast("T", _load_entry(entries, kind.noun, name)), ""
    module, digest = load_module(path, kind.noun)
    named = {str(found.name): found for found in in_module(module) if isinstance(getattr(found, "name", None), str)}
    chosen = list(named.values()) if is_path(name) else [named[name]] if name in named else []
    if len(chosen) != 1:
        found_names = ", ".join(sorted(named)) or "none"
        raise UserError(f"{kind.noun} file {path}: must define one {noun} with a name, found {found_names}")
    if not NAME.fullmatch(chosen[0].name):
        raise UserError(
            f"{kind.noun} file {path}: {chosen[0].name!r} is not a valid name. Use letters, digits, '.', '_' and '-'."
        )
    return chosen[0], digest


@dataclass(frozen=True)
class Described(Generic[P]):
    """A plugin as lists show it: `loaded` from an installed package, or defined in a `file`, which was not run."""

    name: str
    summary: str
    file: Path | None
    loaded: P | None = None


def describe_plugins(
    kind: Kind, load: Callable[[str], P], summary: Callable[[P], str]
) -> Iterator[Described[P] | UserError]:
    """Yield all plugins of a kind by name, without running a file; for a broken one, the error.

    `load` returns an installed plugin by its name, and `summary` one line about it.
    """
    installed = plugin_names(kind.group)
    files = {file.name: file for file in find_files(kind) if file.name not in installed}
    for name in sorted({*installed, *files}):
        if name in files:
            file = files[name]
            problem = UserError(f"{kind.noun} file {file.path} cannot be parsed: {file.error}")
            yield problem if file.error else Described(name, file.summary, file.path)
            continue
        try:
            found = load(name)
        except UserError as error:
            yield error
        else:
            yield Described(name, summary(found), None, found)


def check_complete(kind: Kind, name: str, found: type) -> None:
    """Raise UserError if the class `found`, which is called `name`, does not implement all that it must."""
    if isabstract(found):
        lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise UserError(f"{kind.noun} {name!r}: {found.__name__} does not implement {lacking}.")


def check_names_match(kind: Kind, name: str, found: Named) -> None:
    """Raise UserError unless a plugin has the name that it is registered under."""
    if not is_path(name) and found.name != name:
        raise UserError(f"entry point {name!r} loads a {kind.noun} named {found.name!r}; the two names must match")
