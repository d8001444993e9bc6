"""Methods by name, installed or in files. Listing names does not load them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ncbench.backbones.registry import defines_backbone
from ncbench.errors import UserError
from ncbench.method.base import Method
from ncbench.plugins.discovery import check_complete, check_name, check_names_match, find_plugin, names_of, plugin_names
from ncbench.plugins.source_files import Kind, Offer, has_function, offer_of_class

GROUP = "ncbench.methods"


def _methods_offered(node: ast.stmt) -> Iterator[Offer]:
    """Yield what a class offers, unless it is a dataset, which has a function `load`, or a backbone."""
    if not (has_function(node, "load") or defines_backbone(node)):
        yield from offer_of_class(node)


KIND = Kind("method", GROUP, Path("methods"), _methods_offered)


def method_names() -> list[str]:
    """Return the sorted names of all methods, installed or in files. Loads none. Raises UserError."""
    return names_of(KIND)


def check_method(name: str) -> None:
    """Raise UserError unless `name` is the name of a method or a path to a file. Loads nothing."""
    check_name(KIND, name)


def load_method(name: str, *, run_found: bool = True) -> type[Method]:
    """Return the method class called `name`, or the one in the file whose path is `name`.

    Without `run_found`, files are only run if NCBENCH_PLUGINS names them.

    Raises UserError for an unknown or broken method, a file that does not hold exactly one, and a name used twice.
    """
    found, digest = find_plugin(KIND, name, "subclass of ncbench.Method", _methods_in, run_found=run_found)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UserError(f"method {name!r} is {found!r}, not a subclass of ncbench.Method.")
    check_names_match(KIND, name, found)
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and is_dataclass(config)):
        raise UserError(
            f"method {name!r}: {found.__name__} has no dataclass Config; start it with `@dataclass(frozen=True) class "
            "Config(TrainingSettings)`."
        )
    if digest:
        found.source = digest
    return found


def preset_of(name: str, source: str, dataset: str) -> dict[str, object] | None:
    """Return the settings that an installed method has for `dataset`, without running a file.

    None for a method from a file, whose digest is `source`, and for one that is not installed or cannot be loaded.
    """
    if source or name not in plugin_names(GROUP):
        return None
    try:
        return settings_of(load_method(name, run_found=False), dataset)
    except UserError:
        return None


def _methods_in(module: ModuleType) -> list[type[Method]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]


def make_config(method: type[Method], settings: Mapping[str, object]) -> Any:
    """Return the Config of `method` with `settings`, for a run.

    Raises UserError for settings that the Config refuses, and for a method that lacks a part, such as its loss.
    """
    check_complete(KIND, method.name, method)
    try:
        return method.Config(**settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"settings of {method.name}: {error}.") from error


def settings_of(method: type[Method], dataset: str) -> dict[str, object]:
    """Return the settings of `method` for `dataset`: the defaults, updated by the preset if there is one."""
    defaults = {entry.name: entry.default for entry in fields(method.Config)}
    return {**defaults, **method.presets.get(dataset, {})}
