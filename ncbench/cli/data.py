"""`ncbench data`: which datasets there are."""

from __future__ import annotations

import click

from ncbench.cli.output import print_json, print_table
from ncbench.cli.parameters import as_json as json_option


@click.group()
def data() -> None:
    """Datasets."""


@data.command("list")
@json_option
def list_datasets(as_json: bool) -> None:
    """List the datasets that can be named after --dataset."""
    from ncbench.catalog import dataset_names, dataset_source
    from ncbench.data.imported.source import stored

    sources = [*map(dataset_source, dataset_names()), *stored()]
    if as_json:
        print_json([{"name": s.name, "summary": s.summary, "needs_root": s.needs_root} for s in sources])
        return
    rows = [(s.name, "--data-root DIR" if s.needs_root else "nothing", s.summary) for s in sources]
    print_table("Datasets", ("name", "needs", "what it is"), rows)
