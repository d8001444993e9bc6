"""`ncbench data`: which datasets there are, and whether one can be trained and tested on."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli import parameters
from ncbench.cli.listing import list_plugins
from ncbench.cli.names import Name
from ncbench.cli.output import print_json, print_table
from ncbench.cli.parameters import as_json as json_option
from ncbench.cli.verdicts import json_file, show_verdicts


@click.group()
def data() -> None:
    """Datasets."""


@data.command("list")
@json_option
def list_datasets(as_json: bool) -> None:
    """List the datasets that can be named after --dataset."""
    from ncbench.catalog import dataset_names, dataset_source

    sources = list_plugins(dataset_names(), dataset_source)
    if as_json:
        print_json([{"name": s.name, "summary": s.summary, "needs_root": s.needs_root} for s in sources])
        return
    rows = [(s.name, "--data-root DIR" if s.needs_root else "nothing", s.summary) for s in sources]
    print_table("Datasets", ("name", "needs", "what it is"), rows)


@data.command("check")
@click.argument("name", metavar="NAME_OR_FILE", type=Name("datasets"))
@click.option("--data-root", type=parameters.FOLDER, help="Where the files of released datasets lie.")
@json_file
def check_dataset_command(name: str, data_root: Path | None, json_path: Path | None) -> None:
    """Check whether a dataset can be trained and tested on: its splits, features, captions and digest.

    Ends with exit code 1 if a check fails.
    """
    from ncbench.catalog import dataset_source

    source = dataset_source(name)

    from ncbench.conformance.data import check_source

    show_verdicts(f"Conformance of the dataset {source.name}", check_source(source, data_root), json_path)
