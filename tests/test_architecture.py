"""The map of CONTRIBUTING.md: what may import what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from places import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
MAP = re.search(r"^## The map\n(.*?)^## ", GUIDE, re.DOTALL | re.MULTILINE)
assert MAP is not None
LEVEL = {name: int(level) for level, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", MAP[1], re.MULTILINE)}
"""Packages and modules of `ncbench`, each with its level. It imports from those of a higher level, and from itself."""

MAX_MAP_LINES = 40
MAX_ENTRIES = 16
FILES = sorted((ROOT / "ncbench").rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


def package_of(module: str) -> str:
    return module.split(".")[1]


def modules_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the modules that import statements name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_down(path: Path) -> None:
    module = module_of(path)
    if module == "ncbench":  # the public face: its stub names what it hands on
        return
    for name in modules_in(ast.walk(ast.parse(path.read_text()))):  # also for type checkers alone
        assert not name.startswith("ncbench_methods"), f"{module} imports a method"
        if name.startswith("ncbench.") and package_of(name) != package_of(module):
            assert LEVEL[package_of(name)] > LEVEL[package_of(module)], f"{module} imports {name}, which is above it"


def test_no_module_needs_itself_to_load() -> None:
    """Functions may import what would be a circle at the top; there is no other need for it than time to load."""
    graph = {
        module_of(path): {name for name in modules_in(ast.parse(path.read_text()).body) if name in MODULES}
        for path in FILES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {' -> '.join(error.args[1])}")


def test_the_root_holds_packages_and_little_else() -> None:
    entries = {path.name for path in (ROOT / "ncbench").iterdir() if path.name != "__pycache__"}
    modules = {name for name in entries if not (ROOT / "ncbench" / name).is_dir()} - {"__init__.py"}
    assert modules == {"__init__.pyi", "py.typed", "budget.py", "errors.py"}
    assert {name.removesuffix(".py") for name in entries - {"__init__.py", "__init__.pyi", "py.typed"}} == set(LEVEL)
    assert len(LEVEL) <= MAX_ENTRIES


def test_the_map_fits_one_screen() -> None:
    assert MAP is not None
    assert len(MAP[0].splitlines()) <= MAX_MAP_LINES
    assert list(LEVEL.values()) == sorted(LEVEL.values()), "levels are listed from the top down"
