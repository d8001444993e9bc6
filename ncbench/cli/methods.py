"""`ncbench methods`: which methods there are, and their settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import click

from ncbench.cli.display.listing import list_plugins, print_plugins
from ncbench.cli.display.output import print_json, print_table
from ncbench.cli.display.verdicts import json_file, show_verdicts
from ncbench.cli.options.names import Name
from ncbench.cli.options.parameters import FOLDER
from ncbench.cli.options.parameters import as_json as json_option


@click.group()
def methods() -> None:
    """Training methods."""


@methods.command("list")
@json_option
def list_methods(as_json: bool) -> None:
    """List the methods that can be named after --method."""
    from ncbench.method.registry import KIND, load_method
    from ncbench.plugins.discovery import described

    found = list_plugins(described(KIND, load_method, lambda method: (inspect.getdoc(method) or "").partition("\n")[0]))
    if as_json:
        print_json([{"name": method.name, "summary": method.summary} for method in found])
        return
    rows = [(method.name, method.summary) for method in found]
    print_plugins("Methods", ("name", "what it does"), rows, found)


@methods.command("show")
@click.argument("name", type=Name("methods"))
@json_option
def show_method(name: str, as_json: bool) -> None:
    """Show what a method does, its settings and their presets per dataset."""
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
    columns = ("setting", "default", "presets", "meaning", "source of the default")
    print_table(f"Settings of {name} (change one with --set {name}.KEY=VALUE)", columns, rows)


@methods.command("check")
@click.argument("name", metavar="NAME_OR_FILE", type=Name("methods"))
@click.option("--backbone", default="vse", show_default=True, help="The network to train; see ncbench run --help.")
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME.KEY=VALUE", help="Change a setting, for the checks alone."
)
@json_file
def check_method_command(name: str, backbone: str, overrides: tuple[str, ...], json_path: Path | None) -> None:
    """Check whether a method keeps its contract: the conformance suite, on a tiny set.

    Trains it a dozen times, for seconds each, on the CPU, where results can be compared to the last bit; and shortly on
    every other device that is here. Settings are those of its preset `shapes`, or else `scenes`. Ends with exit code 1
    if a check fails.
    """
    from ncbench.backbones.registry import check_backbone
    from ncbench.errors import unknown_name
    from ncbench.method.registry import load_method
    from ncbench.method.settings import BACKBONE, parse_override

    method = load_method(name)
    check_backbone(backbone)
    parsed = [parse_override(text) for text in overrides]
    for override in parsed:
        if override.target not in (method.name, BACKBONE):
            raise unknown_name("target of --set here", override.target, [method.name, BACKBONE])

    from ncbench.checks.method.suite import check_method_class

    verdicts = check_method_class(method, backbone, parsed)
    show_verdicts(f"Conformance of {method.name}", verdicts, json_path)


@methods.command("new")
@click.argument("name")
@click.option("--package", is_flag=True, help="A whole package, with an entry point, a README and a workflow for CI.")
@click.option(
    "--out", type=FOLDER, help="Where to put it.  [default: methods; of a package, ncbench-NAME; both in this folder]"
)
def new_method(name: str, package: bool, out: Path | None) -> None:
    """Write a method to begin from: plain triplet training, with its test."""
    from ncbench.method.scaffold import method_files, package_files, write_files

    texts = package_files(name) if package else method_files(name)
    folder = out or Path(f"ncbench-{name}" if package else "methods")
    for path in write_files(folder, texts):
        click.echo(f"wrote {path}")
    if package:
        click.echo(f"Install it: pip install -e {folder}")
        click.echo(f"Then: ncbench run --method {name} --noise 0.4")
        click.echo(f"Check it: ncbench methods check {name}")
    else:
        click.echo(f"Run it: ncbench run --method {folder / name}.py --noise 0.4")
        click.echo(f"Check it: ncbench methods check {folder / name}.py")


def _presets(values: Mapping[str, object]) -> str:
    return ", ".join(f"{dataset} {_short(value)}" for dataset, value in values.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
