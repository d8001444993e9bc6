"""Shell completion for the names of methods, datasets, noise protocols and backbones."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from ncbench.errors import UserError


def _methods() -> list[str]:
    from ncbench.method.registry import method_names

    return method_names()


def _datasets() -> list[str]:
    from ncbench.data.registry import dataset_names

    return dataset_names()


def _protocols() -> list[str]:
    from ncbench.noise.registry import protocol_names

    return protocol_names()


def _backbones() -> list[str]:
    from ncbench.backbones.registry import BACKBONES, SHORT_NAMES

    return sorted([*BACKBONES, *SHORT_NAMES])


NAMES_BY_PARAMETER: dict[str, Callable[[], list[str]]] = {
    "methods": _methods,
    "datasets": _datasets,
    "protocols": _protocols,
    "backbones": _backbones,
}
"""The known names for each parameter that takes names."""


def complete_names(parameter: str, incomplete: str) -> list[CompletionItem]:
    """Return the completions of `incomplete`: one name, or a comma-separated list of names."""
    before, comma, prefix = incomplete.rpartition(",")
    try:
        names = NAMES_BY_PARAMETER[parameter]() if parameter in NAMES_BY_PARAMETER else []
    except UserError:  # reported when the command runs
        names = []
    return [CompletionItem(before + comma + name) for name in names if name.startswith(prefix)]


class Name(click.ParamType[str]):
    """A single name; `parameter` is a key of NAMES_BY_PARAMETER."""

    name = "text"

    def __init__(self, parameter: str) -> None:
        self.parameter = parameter

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name unchanged; the command checks it."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that complete `incomplete`."""
        return complete_names(self.parameter, incomplete)
