"""Files to start a method from: a module with its test, or a package."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from ncbench.errors import UserError
from ncbench.method.registry import method_names
from ncbench.runtime.files import write_text

NAME = re.compile(r"[a-z][a-z0-9_]*")


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


def write_files(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write the texts below `folder`. Raises UserError, and writes nothing, if one of the files already exists."""
    paths = {folder / path: text for path, text in texts.items()}
    for path in paths:
        if path.exists():
            raise UserError(f"{path} already exists; not overwritten. Choose another name or folder.")
    for path, text in paths.items():
        write_text(path, text)
    return list(paths)


def _facts(name: str) -> dict[str, str]:
    if keyword.iskeyword(name):
        raise UserError(f"{name!r} is not a valid method name: it is a Python keyword. Choose another name.")
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is not a valid method name. Use a-z, 0-9 and '_', starting with a letter.")
    if name in method_names():
        raise UserError(f"a method named {name!r} already exists; see ncbench methods list.")
    return {"name": name, "title": "".join(word.capitalize() for word in name.split("_"))}


def _filled(template: str, facts: Mapping[str, str]) -> str:
    text = (files("ncbench.method") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(facts)
