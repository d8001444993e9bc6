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
from typing import NamedTuple

from ncbench.errors import UserError

LOG = logging.getLogger(__name__)
VARIABLE = "NCBENCH_PLUGINS"
LARGEST = 2**20  # bytes; a longer file is no plugin that someone has written


class Offer(NamedTuple):
    """A plugin as the source of its file states it: its name, and its summary if it has one."""

    name: str
    summary: str


@dataclass(frozen=True)
class Kind:
    """A kind of plugin: the noun for messages, the group of its entry points, the folder where its files are found.

    `offers` yields from a statement of a file, without running it, the plugins of this kind that it defines.
    """

    noun: str
    group: str
    folder: Path
    offers: Callable[[ast.stmt], Iterator[Offer]]


@dataclass(frozen=True)
class PluginFile:
    """A file that offers a plugin called `name`, as its source says; `error` says why it cannot be parsed.

    A file that cannot be parsed goes by the name of the file.
    """

    name: str
    path: Path
    summary: str = ""
    error: str = ""


def is_path(name: str) -> bool:
    """Return whether what a user gave as a plugin is a path to a file."""
    return name.endswith(".py") or os.sep in name


def found_files(kind: Kind, *, working_directory: bool = True) -> list[PluginFile]:
    """Return the plugins of a kind in the files that are looked through, in that order; runs none of them.

    Without the `working_directory`, only places that NCBENCH_PLUGINS names are looked through. Raises UserError for one
    of these that is not there.
    """
    places = [Path(text).expanduser() for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    for place in places:
        if not place.exists():
            raise UserError(f"{VARIABLE} names {place}, which is not there; correct it or unset it.")
    places += [kind.folder] if working_directory else []
    files = [file for place in places for file in _files_in(place)]
    return [offer for file in dict.fromkeys(files) for offer in _offers_in(file, kind)]


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


def _offers_in(path: Path, kind: Kind) -> list[PluginFile]:
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
    """Return the statements of a file, none of one that is too long; the error where it cannot be parsed."""
    if size > LARGEST:
        return ()
    try:
        return tuple(ast.parse(path.read_bytes()).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"


def offer_of_class(node: ast.stmt) -> Iterator[Offer]:
    """Yield what a class definition says of itself with `name = "..."` and `summary = "..."`, or its docstring."""
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
    """Yield the name and summary in `X = NoiseProtocol("name", ...)`, a call of what ends in `ending`.

    The name is its first argument, the summary that at `summary_at`, or both are given by keyword.
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
    """Return whether a class definition has a function called `name`."""
    return isinstance(node, ast.ClassDef) and any(
        isinstance(statement, ast.FunctionDef) and statement.name == name for statement in node.body
    )
