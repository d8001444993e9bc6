"""`ncbench noise`: list and check noise protocols."""

from __future__ import annotations

import click

from ncbench.cli.display.listing import list_plugins, print_plugins
from ncbench.cli.display.output import print_json
from ncbench.cli.display.verdicts import CheckCommand, show_verdicts
from ncbench.cli.options.names import Name
from ncbench.cli.options.parameters import as_json as json_option

FACTS = ("usage", "version", "unit")  # of an installed protocol


@click.group()
def noise() -> None:
    """List and check noise protocols."""


@noise.command("list")
@json_option
def list_protocols(as_json: bool) -> None:
    """List available noise protocols."""
    from ncbench.noise.registry import KIND, load_protocol
    from ncbench.plugins.discovery import describe_plugins

    found = list_plugins(describe_plugins(KIND, load_protocol, lambda protocol: str(protocol.summary)))
    if as_json:
        print_json(
            [
                {"name": p.name, **{key: getattr(p.loaded, key, None) for key in FACTS}, "summary": p.summary}
                for p in found
            ]
        )
        return
    rows = [
        (p.loaded.usage, p.loaded.unit or "as in the file", p.loaded.version, p.summary)
        if p.loaded
        else (p.name, "?", "?", p.summary)
        for p in found
    ]
    print_plugins("Noise protocols", ("name", "unit", "version", "description"), rows, found)


@noise.command("check", cls=CheckCommand)
@click.argument("name", metavar="NAME_OR_FILE", type=Name("protocols"))
@json_option
def check_protocol_command(name: str, as_json: bool) -> None:
    """Check that a noise protocol follows its contract.

    Checks that it is seeded, reproducible and exact, and moves the unit that it declares. Protocols that read an index
    file are tested with generated files. Exits with code 1 if a check fails.
    """
    from ncbench.errors import UserError
    from ncbench.noise.registry import load_protocol

    if ":" in name and load_protocol(name.partition(":")[0]).reads_file:
        raise UserError(
            f"{name}: only protocols can be checked, not index files. Use: ncbench noise check {name.split(':')[0]}"
        )
    protocol = load_protocol(name)

    from ncbench.checks.noise import check_protocol_named

    show_verdicts(f"Checks of noise protocol {protocol.name}", check_protocol_named(name), as_json)
