"""List plugins; a broken one gives a warning and does not hide the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import click

from ncbench.cli.display.verbosity import verbosity
from ncbench.errors import UserError

T = TypeVar("T")


def list_plugins(names: Iterable[str], load: Callable[[str], T]) -> list[T]:
    """Return `load(name)` for each name; print a one-line warning for each that cannot be loaded."""
    found = []
    for name in names:
        try:
            found.append(load(name))
        except UserError as error:
            if not verbosity().quiet:
                click.echo(f"Warning: {error}", err=True)
    return found
