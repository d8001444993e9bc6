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
from typing import NamedTuple

from ncbench.errors import UserError

LOG = logging.getLogger(__name__)
VARIABLE = "NCBENCH_PLUGINS"
MAX_FILE_BYTES = 2**20  # larger files are ignored


class Offer(NamedTuple):
    """The name of a plugin, and its summary, "" if it has none, as the source of its file states them."""

    name: str
    summary: str


@dataclass(frozen=True)
class Kind:
    """A kind of plugin: its noun in messages, its entry point group, and the folder to search for files.

    `offers` yields the plugins that a top-level statement of a file defines, without running it.
    """

    noun: str
    group: str
    folder: Path
    offers: Callable[[ast.stmt], Iterator[Offer]]


@dataclass(frozen=True)
class PluginFile:
    """A file that defines plugin `name`; if the file cannot be parsed, `name` is its stem and `error` says why."""

    name: str
    path: Path
    summary: str = ""
    error: str = ""


def is_path(name: str) -> bool:
    """Return whether a plugin given by the user is the path of a file."""
    return name.endswith(".py") or os.sep in name


def find_files(kind: Kind, *, working_directory: bool = True) -> list[PluginFile]:
    """Return the plugins of a kind found in files, in search order, without running them.

    Without the `working_directory`, only paths in NCBENCH_PLUGINS are searched. Raises UserError if one of these does
    not exist.
    """
    paths = [Path(text).expanduser() for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    for path in paths:
        if not path.exists():
            raise UserError(f"{VARIABLE}: {path} does not exist; correct or unset the variable")
    paths += [kind.folder] if working_directory else []
    files = [file for path in paths for file in _files_in(path)]
    return [found for file in dict.fromkeys(files) for found in _plugins_in(file, kind)]


def load_module(path: Path, noun: str) -> tuple[ModuleType, str]:
    """Run a file as a module; return the module and the first 12 hex digits of the file's SHA-256.

    An unchanged file runs only once. Raises UserError, naming the `noun`, if the file is missing or fails.
    """
    path = path.expanduser().resolve()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{noun} file {path}: {error.strerror}") from error
    digest = source_digest(text)
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


def source_digest(content: bytes) -> str:
    """Return the digest that identifies the content of a plugin file: the first 12 hex digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:12]


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


def _plugins_in(path: Path, kind: Kind) -> list[PluginFile]:
    try:
        facts = path.stat()
        statements = _statements(path, facts.st_mtime_ns, facts.st_size)
    except OSError:
        return []
    if isinstance(statements, str):
        return [PluginFile(path.stem, path, error=statements)]
    offers = (offer for statement in statements for offer in kind.offers(statement))
    return [PluginFile(offer.name, path, offer.summary) for offer in offers]


@lru_cache
def _statements(path: Path, changed: int, size: int) -> tuple[ast.stmt, ...] | str:
    """Return the top-level statements of a file; () if it is too large, the error if it cannot be parsed."""
    if size > MAX_FILE_BYTES:
        return ()
    try:
        return tuple(ast.parse(path.read_bytes()).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"


def offer_of_class(node: ast.stmt) -> Iterator[Offer]:
    """Yield the values of `name = "..."` and `summary = "..."` in a class definition; a docstring is a summary too."""
    if not isinstance(node, ast.ClassDef):
        return
    texts = {"summary": (ast.get_docstring(node) or "").partition("\n")[0]}
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=key)], value=ast.Constant(value=str(text))):
                texts[key] = text
            case ast.AnnAssign(target=ast.Name(id=key), value=ast.Constant(value=str(text))):
                texts[key] = text
    if "name" in texts:
        yield Offer(texts["name"], texts["summary"])


def offer_in_call(node: ast.stmt, ending: str, summary_at: int) -> Iterator[Offer]:
    """Yield the name and summary in an assignment such as `X = NoiseProtocol("name", ...)`.

    The callee ends in `ending`. The name is the first argument and the summary the one at `summary_at`, or both are
    given by keyword.
    """
    match node:
        case ast.Assign(value=ast.Call() as call) | ast.AnnAssign(value=ast.Call() as call):
            pass
        case _:
            return
    called = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    given = {"name": call.args[:1], "summary": call.args[summary_at : summary_at + 1]}
    texts = {
        key: node.value
        for key, nodes in given.items()
        for node in [*nodes, *(keyword.value for keyword in call.keywords if keyword.arg == key)]
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    if called.endswith(ending) and "name" in texts:
        yield Offer(texts["name"], texts.get("summary", ""))


def has_function(node: ast.stmt, name: str) -> bool:
    """Return whether a statement is a class definition with a method `name`."""
    return isinstance(node, ast.ClassDef) and any(
        isinstance(statement, ast.FunctionDef) and statement.name == name for statement in node.body
    )
