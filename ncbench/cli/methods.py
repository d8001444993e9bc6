"""`ncbench methods`: list, show, check and create methods."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import click

from ncbench.cli.display.listing import list_plugins, print_plugins
from ncbench.cli.display.output import print_json, print_table
from ncbench.cli.display.verdicts import CheckCommand, show_verdicts
from ncbench.cli.options.names import Name, complete_settings
from ncbench.cli.options.parameters import FOLDER
from ncbench.cli.options.parameters import as_json as json_option


@click.group()
def methods() -> None:
    """List, show, check and create training methods."""


@methods.command("list")
@json_option
def list_methods(as_json: bool) -> None:
    """List available methods."""
    from ncbench.method.registry import KIND, load_method
    from ncbench.plugins.discovery import describe_plugins

    found = list_plugins(
        describe_plugins(KIND, load_method, lambda method: (inspect.getdoc(method) or "").partition("\n")[0])
    )
    rows = [(method.name, method.summary) for method in found]
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    print_plugins("Methods", ("name", "description"), rows, found)


@methods.command("show")
@click.argument("name", type=Name("methods"))
@json_option
def show_method(name: str, as_json: bool) -> None:
    """Show a method, its settings and its presets."""
    from ncbench.method.registry import load_method

    method = load_method(name)
    about = inspect.getdoc(inspect.getmodule(method)) or inspect.getdoc(method) or ""
    settings = [
        {
            "key": entry.name,
            "default": entry.default,
            "presets": {
                dataset: values[entry.name] for dataset, values in method.presets.items() if entry.name in values
            },
            "meaning": entry.metadata.get("meaning", ""),
            "source": entry.metadata.get("source", ""),
        }
        for entry in fields(method.Config)
    ]
    if as_json:
        print_json({"name": name, "about": about, "settings": settings})
        return
    click.echo(about + "\n")
    rows = [
        (entry["key"], _short(entry["default"]), _presets(entry["presets"]), entry["meaning"], entry["source"])
        for entry in settings
    ]
    columns = ("setting", "default", "presets", "meaning", "source")
    print_table(f"Settings of {name} (override with --set {name}.KEY=VALUE)", columns, rows)


@methods.command("check", cls=CheckCommand)
@click.argument("name", metavar="NAME_OR_FILE", type=Name("methods"))
@click.option(
    "--backbone",
    type=Name("backbones"),
    default="vse",
    show_default=True,
    metavar="NAME",
    help="Backbone to train. See ncbench run.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME.KEY=VALUE",
    shell_complete=complete_settings,
    help="Override a method or backbone setting.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Time that one check may take. A check that takes longer fails.",
)
@json_option
def check_method_command(name: str, backbone: str, overrides: tuple[str, ...], seconds: float, as_json: bool) -> None:
    """Check that a method follows the method contract.

    Trains the method about a dozen times on a tiny dataset, for a few seconds each. Most checks run on the CPU, where
    results are compared bit by bit; other available devices get a short test. Uses the preset `shapes` if there is one,
    else `scenes`. Exits with code 1 if a check fails.
    """
    from ncbench.backbones.registry import check_backbone
    from ncbench.errors import unknown_name
    from ncbench.method.registry import load_method
    from ncbench.method.settings import BACKBONE, parse_override

    method = load_method(name)
    check_backbone(backbone)
    parsed = [parse_override(text, "--set", [method.name]) for text in overrides]
    for override in parsed:
        if override.target not in (method.name, BACKBONE):
            raise unknown_name("--set target", override.target, [method.name, BACKBONE])

    from ncbench.checks.method.limits import check_within_limits

    verdicts = check_within_limits(method, backbone, parsed, seconds)
    show_verdicts(f"Checks of method {method.name}", verdicts, as_json)


@methods.command("new")
@click.argument("name")
@click.option("--package", is_flag=True, help="Create a package with an entry point, a README and a CI workflow.")
@click.option("--out", type=FOLDER, help="Folder to write to.  [default: methods, or ncbench-NAME with --package]")
def new_method(name: str, package: bool, out: Path | None) -> None:
    """Create a template for a new method, with a test.

    The template implements plain triplet training.
    """
    from ncbench.method.scaffold import method_files, package_files
    from ncbench.plugins.scaffold import write_files

    texts = package_files(name) if package else method_files(name)
    folder = out or Path(f"ncbench-{name}" if package else "methods")
    for path in write_files(folder, texts):
        click.echo(f"wrote {path}")
    if package:
        click.echo(f"Install it with: pip install -e {folder}")
        click.echo(f"Then run it with: ncbench run --method {name} --noise 0.4")
        click.echo(f"Check it with: ncbench methods check {name}")
    else:
        click.echo(f"Run it with: ncbench run --method {folder / name}.py --noise 0.4")
        click.echo(f"Check it with: ncbench methods check {folder / name}.py")


def _presets(values: Mapping[str, object]) -> str:
    return ", ".join(f"{dataset} {_short(value)}" for dataset, value in values.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
