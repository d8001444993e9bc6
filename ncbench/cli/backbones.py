"""`ncbench backbones`: list, check and create backbones."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from ncbench.cli.display.listing import list_plugins, print_plugins
from ncbench.cli.display.output import print_json
from ncbench.cli.display.verdicts import CheckCommand, show_verdicts
from ncbench.cli.options import parameters
from ncbench.cli.options.names import Name, complete_settings
from ncbench.cli.options.parameters import FOLDER
from ncbench.cli.options.parameters import as_json as json_option


@click.group()
def backbones() -> None:
    """List, check and create backbones, the networks that methods train."""


@backbones.command("list")
@json_option
def list_backbones(as_json: bool) -> None:
    """List available backbones."""
    from ncbench.backbones.registry import BACKBONES, KIND, backbone_class, load_backbone
    from ncbench.plugins.discovery import Described, describe_plugins

    def summary(kind: type) -> str:
        return (inspect.getdoc(kind) or "").partition("\n")[0]

    built_in = [Described(name, summary(backbone_class(name)), None, backbone_class(name)) for name in BACKBONES]
    found = [*built_in, *list_plugins(describe_plugins(KIND, load_backbone, summary))]
    rows = [(backbone.name, backbone.summary) for backbone in found]
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    print_plugins("Backbones", ("name", "description"), rows, found)


@backbones.command("check", cls=CheckCommand)
@click.argument("name", metavar="NAME_OR_FILE", type=Name("backbones"))
@click.option(
    "--dataset",
    type=Name("datasets"),
    metavar="NAME",
    help="Dataset to build the backbone for, and to take a few pairs from.  [default: a tiny one]",
)
@parameters.data_root
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="backbone.KEY=VALUE",
    shell_complete=complete_settings,
    help="Override a size of the backbone.",
)
@json_option
def check_backbone_command(
    name: str, dataset: str | None, data_root: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Check that a backbone follows its contract.

    Checks shapes, gradients, that a score does not depend on the rest of the batch, that FLOPs are what torch counts,
    and that weights can be recorded. Exits with code 1 if a check fails.
    """
    from ncbench.backbones.registry import check_backbone, resolve
    from ncbench.data.registry import check_dataset, load_dataset
    from ncbench.errors import unknown_name
    from ncbench.method.settings import BACKBONE, apply_sizes, parse_override

    check_backbone(name)
    if dataset is not None:
        check_dataset(dataset)
    parsed = [parse_override(text, "--set") for text in overrides]
    for override in parsed:
        if override.target != BACKBONE:
            raise unknown_name("--set target", override.target, [BACKBONE])
    sizes = apply_sizes({}, parsed)

    from ncbench.checks.backbone.suite import check_backbone_named
    from ncbench.checks.shapes import Shapes

    loaded = Shapes().load() if dataset is None else load_dataset(dataset, data_root)
    show_verdicts(f"Checks of backbone {resolve(name)}", check_backbone_named(name, loaded, sizes), as_json)


@backbones.command("new")
@click.argument("name")
@click.option("--out", type=FOLDER, default="backbones", show_default=True, help="Folder to write to.")
def new_backbone(name: str, out: Path) -> None:
    """Create a template for a new backbone, with a test.

    The template averages regions and words. Its costs are measured.
    """
    from ncbench.backbones.scaffold import backbone_files
    from ncbench.plugins.scaffold import write_files

    for path in write_files(out, backbone_files(name)):
        click.echo(f"wrote {path}")
    click.echo(f"Check it with: ncbench backbones check {out / name}.py")
    click.echo(f"Run it with: ncbench run --method triplet,l2rm --backbone {out / name}.py --noise 0.4")
