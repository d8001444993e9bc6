"""Files to start a method from: a module with its test, or a package."""

from __future__ import annotations

from collections.abc import Mapping

from ncbench.method.registry import method_names
from ncbench.plugins.scaffold import facts_of, filled


def method_files(name: str) -> dict[str, str]:
    """Return the files of a method called `name`, paths and texts. Raises UserError if the name is not valid."""
    facts = _facts(name)
    test = {**facts, "method": f'str(Path(__file__).with_name("{name}.py"))'}
    return {f"{name}.py": _filled("method.py", facts), f"test_{name}.py": _filled("test_method.py", test)}


def package_files(name: str) -> dict[str, str]:
    """Return the files of a package `ncbench-<name>`, paths and texts. Raises like `method_files`."""
    facts = _facts(name)
    return {
        "pyproject.toml": _filled("pyproject.toml", facts),
        "README.md": _filled("README.md", facts),
        ".github/workflows/tests.yml": _filled("workflow.yml", facts),
        f"src/ncbench_{name}/__init__.py": _filled("method.py", facts),
        f"tests/test_{name}.py": _filled("test_method.py", {**facts, "method": f'"{name}"'}),
    }


def _facts(name: str) -> dict[str, str]:
    return facts_of("method", name, method_names())


def _filled(template: str, facts: Mapping[str, str]) -> str:
    return filled("ncbench.method", template, facts)
