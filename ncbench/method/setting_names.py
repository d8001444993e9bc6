"""The settings of methods as the source of their files states them. Runs no code of a method, and imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ncbench.errors import UserError
from ncbench.method.registry import KIND
from ncbench.method.settings import BACKBONE, SIZES
from ncbench.plugins.discovery import file_of
from ncbench.plugins.source_files import MAX_FILE_BYTES

CONFIG = "Config"


def setting_names(target: str) -> dict[str, list[str]]:
    """Return the settings of a method, or of `backbone`, and the values of those that have a few; {} if unknown."""
    if target == BACKBONE:
        return {key: [] for key in SIZES}
    try:
        path = file_of(KIND, target)
        return _fields(_config_in(path, target), path) if path else {}
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, UserError):
        return {}


def _config_in(path: Path, name: str) -> ast.ClassDef | None:
    """Return the class Config of the method called `name`, or of the only method, in a file."""
    found: dict[str, ast.ClassDef] = {}
    for node in _classes(path):
        configs = [inner for inner in node.body if isinstance(inner, ast.ClassDef) and inner.name == CONFIG]
        names = [
            part.value.value
            for part in node.body
            if isinstance(part, ast.Assign | ast.AnnAssign) and isinstance(part.value, ast.Constant)
            and "name" in [target.id for target in _targets(part) if isinstance(target, ast.Name)]
        ]  # fmt: skip
        if configs and names:
            found[str(names[0])] = configs[0]
    only = next(iter(found.values())) if len(found) == 1 else None
    return found.get(name, only)


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _fields(config: ast.ClassDef | None, path: Path) -> dict[str, list[str]]:
    """Return the fields of a dataclass: those of its bases, in the file, beside it or in this package, then its own."""
    if config is None:
        return {}
    fields: dict[str, list[str]] = {}
    for base in config.bases:
        name = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
        for place in (path, *sorted(path.parent.glob("_*.py")), *sorted(Path(__file__).parent.glob("*.py"))):
            found = next((node for node in _classes(place) if node.name == name and node is not config), None)
            if found is not None:
                fields |= _fields(found, place)
                break
    for node in config.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            fields[node.target.id] = list(_values(node.annotation))
    return fields


def _values(annotation: ast.expr) -> Iterator[str]:
    """Yield the values that an annotation allows, if it is bool or a Literal."""
    if isinstance(annotation, ast.Name) and annotation.id == "bool":
        yield from ("true", "false")
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Literal"):
        yield from (str(node.value) for node in ast.walk(annotation.slice) if isinstance(node, ast.Constant))


def _classes(path: Path) -> tuple[ast.ClassDef, ...]:
    facts = path.stat()
    return _classes_of(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=64)
def _classes_of(path: Path, changed: int, size: int) -> tuple[ast.ClassDef, ...]:
    tree = ast.parse(path.read_bytes()) if size <= MAX_FILE_BYTES else ast.Module([], [])
    return tuple(node for node in tree.body if isinstance(node, ast.ClassDef))
