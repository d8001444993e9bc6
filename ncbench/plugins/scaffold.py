"""Files to start a plugin from, made of templates."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from ncbench.errors import UserError
from ncbench.runtime.files import write_text

NAME = re.compile(r"[a-z][a-z0-9_]*")


def facts_of(noun: str, name: str, known: Iterable[str]) -> dict[str, str]:
    """Return what templates say of a plugin called `name`. Raises UserError unless it is valid and not yet `known`."""
    if keyword.iskeyword(name):
        raise UserError(f"{name!r} is not a valid {noun} name: it is a Python keyword. Choose another name.")
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is not a valid {noun} name. Use a-z, 0-9 and '_', starting with a letter.")
    if name in known:
        raise UserError(f"a {noun} named {name!r} already exists; see ncbench {noun}s list.")
    return {"name": name, "title": "".join(word.capitalize() for word in name.split("_"))}


def filled(package: str, template: str, facts: Mapping[str, str]) -> str:
    """Return the text of a template in the folder `templates` of a package, filled with `facts`."""
    text = (files(package) / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(facts)


def write_files(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write the texts below `folder`. Raises UserError, and writes nothing, if one of the files already exists."""
    paths = {folder / path: text for path, text in texts.items()}
    for path in paths:
        if path.exists():
            raise UserError(f"{path} already exists; not overwritten. Choose another name or folder.")
    for path, text in paths.items():
        write_text(path, text)
    return list(paths)
