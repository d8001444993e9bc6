"""Plugins in single files, given by path or found automatically.

Plugins are searched for in the files and folders listed in NCBENCH_PLUGINS (separated as in PATH), and in the folders
`methods/`, `datasets/` and `noise/` of the working directory. Their names are read from the source without running it:
from `name = "..."` in a class, or from a call such as `NoiseProtocol("...")`.
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
MAX_FILE_BYTES = 2**20  # larger files are ignored


@dataclass(frozen=True)
class Kind:
    """A kind of plugin: its noun in messages, its entry point group, and the folder to search for files.

    `names` yields the names of the plugins that a top-level statement defines.
    """

    noun: str
    group: str
    folder: Path
    names: Callable[[ast.stmt], Iterator[str]]


@dataclass(frozen=True)
class PluginFile:
    """A file that defines plugin `name`; if the file cannot be parsed, `name` is its stem."""

    name: str
    path: Path


def is_path(name: str) -> bool:
    """Return whether a plugin given by the user is the path of a file."""
    return name.endswith(".py") or os.sep in name


def find_files(kind: Kind) -> list[PluginFile]:
    """Return the plugins of a kind found in files, in search order, without running them.

    Raises UserError if a path in NCBENCH_PLUGINS does not exist.
    """
    paths = [Path(text).expanduser() for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    for path in paths:
        if not path.exists():
            raise UserError(f"{VARIABLE}: {path} does not exist; correct or unset the variable")
    files = [file for path in [*paths, kind.folder] for file in _files_in(path)]
    return [PluginFile(name, file) for file in dict.fromkeys(files) for name in _names_in(file, kind)]


def load_module(path: Path, noun: str) -> tuple[ModuleType, str]:
    """Run a file as a module; return the module and the first 12 hex digits of the file's SHA-256.

    An unchanged file runs only once. Raises UserError, naming the `noun`, if the file is missing or fails.
    """
    path = path.expanduser().resolve()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{noun} file {path}: {error.strerror}") from error
    digest = hashlib.sha256(text).hexdigest()[:12]
    name = f"ncbench_file_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{digest}"
    if name in sys.modules:
        return sys.modules[name], digest
    LOG.info("running %s file %s", noun, path)
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look up their module
    try:
        # Not importlib: its cache misses a change within the same second that keeps the size.
        exec(compile(text, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"{noun} file {path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module, digest


def same_content(one: Path, other: Path) -> bool:
    """Return whether two files have the same content; False if one cannot be read."""
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _files_in(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file.resolve() for file in path.glob("*.py") if not file.name.startswith("_"))
    elif path.is_file():
        yield path.resolve()


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
    """Return the top-level statements of a file; () if it is too large, None if it cannot be parsed."""
    if size > MAX_FILE_BYTES:
        return ()
    try:
        return tuple(ast.parse(path.read_bytes()).body)
    except (SyntaxError, ValueError, RecursionError):
        return None


def name_of_class(node: ast.stmt) -> Iterator[str]:
    """Yield the value of `name = "..."` in a class definition."""
    for statement in node.body if isinstance(node, ast.ClassDef) else ():
        match statement:
            case ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name))):
                yield name
            case ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(value=str(name))):
                yield name


def name_in_call(node: ast.stmt, ending: str) -> Iterator[str]:
    """Yield the name in an assignment such as `X = NoiseProtocol("name", ...)`; the callee ends in `ending`."""
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
    """Return whether a statement is a class definition with a method `name`."""
    return isinstance(node, ast.ClassDef) and any(
        isinstance(statement, ast.FunctionDef) and statement.name == name for statement in node.body
    )
