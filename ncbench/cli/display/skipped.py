"""What is printed about pictures that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ncbench.runtime.printable import printable

SHOWN = 10


def print_skipped(file: Path, lines: Sequence[str]) -> None:
    """Print which pictures were left out, to standard error; `file` has the whole list."""
    count = len(lines)
    click.echo(f"{count:,} {'picture was' if count == 1 else 'pictures were'} left out; see {file}:", err=True)
    for line in lines[:SHOWN]:
        click.echo(f"  {printable(line)}", err=True)
    if count > SHOWN:
        click.echo(f"  and {count - SHOWN:,} more", err=True)
