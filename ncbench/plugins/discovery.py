"""Plugins: methods, datasets, noise protocols. Which names there are, and what a name stands for.

They come by entry points of installed packages, and in files (`ncbench.plugins.source_files`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Generic, Protocol, TypeVar, cast

from ncbench.errors import UserError, unknown_name
from ncbench.plugins.source_files import VARIABLE, Kind, found_files, is_path, load_module, same_text

LOG = logging.getLogger(__name__)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Named(Protocol):
    """What every plugin has."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...


T = TypeVar("T", bound=Named)
P = TypeVar("P")


def plugin_names(group: str) -> list[str]:
    """Return the sorted names that installed packages register in `group`; loads none of them."""
    return sorted({entry.name for entry in entry_points(group=group)})


def check_plugin(group: str, kind: str, name: str) -> None:
    """Raise UserError unless `group` offers `name`; `kind` is the noun for the message."""
    if name not in plugin_names(group):
        raise unknown_name(kind, name, plugin_names(group))


def load_plugin(group: str, kind: str, name: str) -> object:
    """Return what `name` stands for in `group`. Raises UserError where it is unknown or cannot be imported."""
    entries = list(entry_points(group=group, name=name))
    if not entries:
        raise unknown_name(kind, name, plugin_names(group))
    return _loaded(entries, kind, name)


def _loaded(entries: Iterable[EntryPoint], kind: str, name: str) -> object:
    """Return what the entry points called `name` stand for, which must be one thing. Raises UserError."""
    entry, *others = {entry.value: entry for entry in entries}.values()
    if others:
        places = " and ".join(sorted(found.value for found in (entry, *others)))
        raise UserError(f"{kind} {name!r} is registered twice, as {places}; uninstall or rename one.")
    LOG.debug("loading %s %s from %s", kind, name, entry.value)
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise UserError(f"{kind} {name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}") from error


def _file_of(entries: Iterable[EntryPoint]) -> Path | None:
    """Return the file in which what entry points stand for is defined, without running it; None: it is not known."""
    for entry in entries:
        try:
            spec = find_spec(entry.value.partition(":")[0])
        except (ImportError, ValueError):
            continue
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    return None


def names_of(kind: Kind) -> list[str]:
    """Return the sorted names of all plugins of a kind, of installed packages and of files; loads none.

    Raises UserError for a place in NCBENCH_PLUGINS that is not there.
    """
    return sorted({*plugin_names(kind.group), *(file.name for file in found_files(kind))})


def check_name(kind: Kind, name: str) -> None:
    """Raise UserError unless `name` is that of a plugin of this kind, or a path to a file; loads nothing."""
    if is_path(name):
        if not Path(name).expanduser().is_file():
            raise UserError(f"{kind.noun} file {name}: file not found; give the path of a Python file.")
        if not name.endswith(".py"):  # nothing else is run as Python
            raise UserError(f"{kind.noun} file {name}: expected a Python file, with a name that ends in .py.")
    elif name not in names_of(kind):
        raise unknown_name(kind.noun, name, names_of(kind))


def _located(kind: Kind, name: str, run_found: bool) -> tuple[Path | None, list[EntryPoint]]:
    """Return the file that holds the plugin called `name`, or None and its entry points.

    Raises UserError for an unknown name, for two plugins of one name, and for a file in the working directory unless
    `run_found`.
    """
    if is_path(name):
        check_name(kind, name)
        if not run_found:
            raise UserError(f"{kind.noun} {name!r} is a path, and files that records name are not run.")
        return Path(name), []
    entries = list(entry_points(group=kind.group, name=name))  # once: it takes some milliseconds
    files = [file.path for file in found_files(kind) if file.name == name]
    if not entries and not files:
        raise unknown_name(kind.noun, name, names_of(kind))
    own = _file_of(entries) if files else None
    files = [file for file in files if not (own and same_text(file, own))]
    if len(files) + bool(entries) > 1:
        places = " and ".join([*(["an installed package"] if entries else []), *map(str, files)])
        raise UserError(f"{kind.noun} {name!r} is there twice, in {places}; rename one, or name a file by its path.")
    if files and not run_found and files[0] not in {file.path for file in found_files(kind, working_directory=False)}:
        raise UserError(
            f"{kind.noun} {name!r} is defined in {files[0]}, which is only run where you name it; if you trust "
            f"the file, set {VARIABLE} to its path."
        )
    return (files[0] if files else None), entries


def find_plugin(
    kind: Kind,
    name: str,
    what: str,
    in_module: Callable[[ModuleType], Iterable[T]],
    *,
    run_found: bool = True,
) -> tuple[T, str]:
    """Return the plugin called `name`, or the only one in the file whose path that is, and the digest of its file.

    `in_module` returns those that a file makes, `what` says what it must. The digest is "" for an installed one.
    Without `run_found`, as for names that come from records, neither paths nor files found in the working directory are
    run. Raises UserError for an unknown, broken or ambiguous one, for a file that does not hold it, and it alone, and
    for a file that is not to be run.
    """
    path, entries = _located(kind, name, run_found)
    if path is None:
        return cast("T", _loaded(entries, kind.noun, name)), ""
    module, digest = load_module(path, kind.noun)
    named = {str(found.name): found for found in in_module(module) if isinstance(getattr(found, "name", None), str)}
    chosen = list(named.values()) if is_path(name) else [named[name]] if name in named else []
    if len(chosen) != 1:
        held = ", ".join(sorted(named)) or "none"
        raise UserError(f"{kind.noun} file {path}: must define one {what} with a name, found {held}.")
    if not NAME.fullmatch(chosen[0].name):
        raise UserError(
            f"{kind.noun} file {path}: {chosen[0].name!r} is no name; use letters, digits, '.', '_' and '-'."
        )
    return chosen[0], digest


@dataclass(frozen=True)
class Described(Generic[P]):
    """A plugin as lists show it: `loaded` from an installed package, or defined in a `file`, which was not run."""

    name: str
    summary: str
    file: Path | None
    loaded: P | None = None


def described(kind: Kind, load: Callable[[str], P], summary: Callable[[P], str]) -> Iterator[Described[P] | UserError]:
    """Yield all plugins of a kind by name, without running a file; for a broken one, what is wrong with it.

    `load` returns an installed plugin by its name, and `summary` what it says of itself.
    """
    installed = plugin_names(kind.group)
    files = {file.name: file for file in found_files(kind) if file.name not in installed}
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


def check_calls_itself(kind: Kind, name: str, found: Named) -> None:
    """Raise UserError unless a plugin that is registered as `name` calls itself so."""
    if not is_path(name) and found.name != name:
        raise UserError(f"{kind.noun} {name!r} calls itself {found.name!r}; its name and its entry point must agree.")
