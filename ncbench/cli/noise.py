"""`ncbench noise`: which noise protocols there are, and whether one is what it says."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli.display.listing import list_plugins, print_plugins
from ncbench.cli.display.output import print_json
from ncbench.cli.display.verdicts import json_file, show_verdicts
from ncbench.cli.options.names import Name
from ncbench.cli.options.parameters import as_json as json_option


@click.group()
def noise() -> None:
    """Noise protocols."""


@noise.command("list")
@json_option
def list_protocols(as_json: bool) -> None:
    """List the noise protocols that can be named after --protocol."""
    from ncbench.noise.registry import KIND, load_protocol
    from ncbench.plugins.discovery import described

    found = list_plugins(described(KIND, load_protocol, lambda protocol: str(protocol.summary)))
    if as_json:
        keys = ("usage", "version", "unit")
        print_json(
            [
                {"name": p.name, **{key: getattr(p.loaded, key, None) for key in keys}, "summary": p.summary}
                for p in found
            ]
        )
        return
    rows = [
        (p.loaded.usage, p.loaded.unit or "the file's", p.loaded.version, p.summary)
        if p.loaded
        else (p.name, "", "", p.summary)
        for p in found
    ]
    print_plugins("Noise protocols", ("name", "what moves", "version", "what it does"), rows, found)


@noise.command("check")
@click.argument("name", metavar="NAME_OR_FILE", type=Name("protocols"))
@json_file
def check_protocol_command(name: str, json_path: Path | None) -> None:
    """Check whether a noise protocol is what it says: seeded, stable, exact, of the stated unit.

    One that reads index files is given some. Ends with exit code 1 if a check fails.
    """
    from ncbench.errors import UserError
    from ncbench.noise.registry import load_protocol

    if ":" in name and load_protocol(name.partition(":")[0]).reads_file:
        raise UserError(f"{name}: the protocol is checked, not a file; write ncbench noise check {name.split(':')[0]}.")
    protocol = load_protocol(name)

    from ncbench.checks.noise import check_protocol_named

    show_verdicts(f"Conformance of the noise protocol {protocol.name}", check_protocol_named(name), json_path)
