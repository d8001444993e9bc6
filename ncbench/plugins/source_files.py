"""Plugins in files of their own, outside of any installed package: named by a path, or found where users keep them.

Looked through are the files and folders that NCBENCH_PLUGINS names (separated as in PATH), and of the working
directory `methods/*.py` for methods, `datasets/*.py` for datasets and `noise/*.py` for noise protocols. What a file
offers is seen without running it: a class says `name = "..."`, and so does a call such as `NoiseProtocol("...")`.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from ncbench.errors import UserError

LOG = logging.getLogger(__name__)
VARIABLE = "NCBENCH_PLUGINS"
LARGEST = 2**20  # bytes; a longer file is no plugin that someone has written


@dataclass(frozen=True)
class Kind:
    """A kind of plugin: the noun for messages, the group of its entry points, the folder where its files are found.

    `names` tells from a statement of a file, without running it, what plugins of this kind it makes.
    """

    noun: str
    group: str
    folder: Path
    names: Callable[[ast.stmt], Iterator[str]]


@dataclass(frozen=True)
class PluginFile:
    """A file that offers a plugin called `name`; of one that is no Python, this is the name of the file."""

    name: str
    path: Path


def is_path(name: str) -> bool:
    """Return whether what a user gave as a plugin is a path to a file."""
    return name.endswith(".py") or os.sep in name


def found_files(kind: Kind) -> list[PluginFile]:
    """Return the plugins of a kind in the files that are looked through, in that order; runs none of them.

    Raises UserError for a place in NCBENCH_PLUGINS that is not there.
    """
    places = [Path(text).expanduser() for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    for place in places:
        if not place.exists():
            raise UserError(f"{VARIABLE} names {place}, which is not there; correct it or unset it.")
    files = [file for place in [*places, kind.folder] for file in _files_in(place)]
    return [PluginFile(name, file) for file in dict.fromkeys(files) for name in _names_in(file, kind)]


def load_module(path: Path, noun: str) -> tuple[ModuleType, str]:
    """Run the file and return it as a module, and the first twelve digits of the SHA-256 of its text.

    A file that has not changed since is not run again. Raises UserError, about a `noun`, where there is none, and where
    it fails.
    """
    path = path.expanduser().resolve()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{noun} file {path}: {error.strerror}; give the path of a Python file.") from error
    digest = hashlib.sha256(text).hexdigest()[:12]
    name = f"ncbench_file_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{digest}"
    if name in sys.modules:
        return sys.modules[name], digest
    LOG.info("running %s file %s", noun, path)
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        # Not by an importer: its cache takes a file changed within a second, at the same size, for the old one.
        exec(compile(text, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"{noun} file {path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module, digest


def same_text(one: Path, other: Path) -> bool:
    """Return whether two files hold the same; False where one cannot be read."""
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _files_in(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(file.resolve() for file in place.glob("*.py") if not file.name.startswith("_"))
    elif place.is_file():
        yield place.resolve()


def _names_in(path: Path, kind: Kind) -> tuple[str, ...]:
    try:
        facts = path.stat()
        statements = _statements(path, facts.st_mtime_ns, facts.st_size)
    except OSError:
        return ()
    if statements is None:
        return (path.stem,)
    return tuple(name for statement in statements for name in kind.names(statement))


@lru_cache
def _statements(path: Path, changed: int, size: int) -> tuple[ast.stmt, ...] | None:
    """Return the statements of a file, none of one that is too long; None where it cannot be parsed."""
    if size > LARGEST:
        return ()
    try:
        return tuple(ast.parse(path.read_bytes()).body)
    except (SyntaxError, ValueError, RecursionError):
        return None


def name_of_class(node: ast.stmt) -> Iterator[str]:
    """Yield what a class definition says of itself with `name = "..."`."""
    for statement in node.body if isinstance(node, ast.ClassDef) else ():
        match statement:
            case ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name))):
                yield name
            case ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(value=str(name))):
                yield name


def name_in_call(node: ast.stmt, ending: str) -> Iterator[str]:
    """Yield the name in an assignment of a call: `X = NoiseProtocol("name", ...)`, of what ends in `ending`."""
    match node:
        case ast.Assign(value=ast.Call() as call) | ast.AnnAssign(value=ast.Call() as call):
            pass
        case _:
            return
    called = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
    if called.endswith(ending) and given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
        yield given[0].value


def has_function(node: ast.stmt, name: str) -> bool:
    """Return whether a class definition has a function called `name`."""
    return isinstance(node, ast.ClassDef) and any(
        isinstance(statement, ast.FunctionDef) and statement.name == name for statement in node.body
    )
