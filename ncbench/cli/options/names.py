"""Names of things, completed by shells that know how (`ncbench completion`)."""

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


NAMED: dict[str, Callable[[], list[str]]] = {
    "methods": _methods,
    "datasets": _datasets,
    "protocols": _protocols,
    "backbones": _backbones,
}
"""What the parameters of commands that are called so take."""


def complete_names(what: str, incomplete: str) -> list[CompletionItem]:
    """Return the names that `incomplete`, one name or several with commas between, can be completed to."""
    before, comma, begun = incomplete.rpartition(",")
    try:
        names = NAMED[what]() if what in NAMED else []
    except UserError:  # which is said when the command runs
        names = []
    return [CompletionItem(before + comma + name) for name in names if name.startswith(begun)]


class Name(click.ParamType[str]):
    """One name of `what`, a key of NAMED."""

    name = "text"

    def __init__(self, what: str) -> None:
        self.what = what

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name as it is; who uses it knows what there is."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that there are."""
        return complete_names(self.what, incomplete)
