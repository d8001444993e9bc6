"""Methods in files of their own, outside of any installed package: named by a path, or found where users keep them.

Looked through are the files and folders that NCBENCH_PLUGINS names (separated as in PATH), and `methods/*.py` of the
working directory. What a file is called after `--method` is seen without running it: a class in it says `name = "..."`.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from ncbench.errors import UserError

VARIABLE = "NCBENCH_PLUGINS"
FOLDER = Path("methods")
LARGEST = 2**20  # bytes; a longer file is no method that someone has written


@dataclass(frozen=True)
class MethodFile:
    """A file that offers a method called `name`; of one that is no Python, this is the name of the file."""

    name: str
    path: Path


def is_path(name: str) -> bool:
    """Return whether what a user gave as a method is a path to a file."""
    return name.endswith(".py") or os.sep in name


def found_files() -> list[MethodFile]:
    """Return the methods in the files that are looked through, in that order; runs none of them.

    Raises UserError for a place in NCBENCH_PLUGINS that is not there.
    """
    places = [Path(text).expanduser() for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    for place in places:
        if not place.exists():
            raise UserError(f"{VARIABLE} names {place}, which is not there; correct it or unset it.")
    files = [file for place in [*places, FOLDER] for file in _files_in(place)]
    return [MethodFile(name, file) for file in dict.fromkeys(files) for name in _names_in(file)]


def load_module(path: Path) -> tuple[ModuleType, str]:
    """Run the file and return it as a module, and the first twelve digits of the SHA-256 of its text.

    A file that has not changed since is not run again. Raises UserError where there is none, and where it fails.
    """
    path = path.expanduser().resolve()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"method file {path}: {error.strerror}; give the path of a Python file.") from error
    digest = hashlib.sha256(text).hexdigest()[:12]
    name = f"ncbench_file_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{digest}"
    if name in sys.modules:
        return sys.modules[name], digest
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        # Not by an importer: its cache takes a file changed within a second, at the same size, for the old one.
        exec(compile(text, str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"method file {path} cannot be loaded: {type(error).__name__}: {error}") from error
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


def _names_in(path: Path) -> tuple[str, ...]:
    try:
        facts = path.stat()
        return _names(path, facts.st_mtime_ns, facts.st_size)
    except OSError:
        return ()


@lru_cache
def _names(path: Path, changed: int, size: int) -> tuple[str, ...]:
    """Return the names that classes in the file give themselves; the file's own where it cannot be parsed."""
    if size > LARGEST:
        return ()
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return (path.stem,)
    return tuple(name for node in tree.body if isinstance(node, ast.ClassDef) for name in _name_of(node))


def _name_of(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name))):
                yield name
            case ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(value=str(name))):
                yield name
