"""`ncbench report`: leaderboards from run records, next to published results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ncbench.cli.display.output import print_json, print_table, say
from ncbench.cli.display.problems import Problems
from ncbench.cli.options import parameters
from ncbench.cli.options.names import Name
from ncbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from ncbench.report.computed import Computed
    from ncbench.report.pages.formats import Format


@click.command()
@parameters.runs_folder
@click.option(
    "--with",
    "others",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    metavar="FILE|DIR",
    help="Runs to compare with: a submission file, or another folder of run records. Repeat for several.",
)
@click.option("--out", type=parameters.FOLDER, default="leaderboards", show_default=True, help="Folder for the pages.")
@click.option("--html", is_flag=True, help="Also write index.html: everything on one self-contained page.")
@click.option(
    "--data-root",
    type=parameters.FOLDER,
    help="Folder of dataset files, for figures of examples with pictures.",
)
@click.option(
    "--published", type=Name("datasets"), metavar="DATASET", help="Print published results next to ours; write nothing."
)
@click.option("--noise", "noises", help="With --published: only these ratios, or natural.")
@click.option("--method", "methods", help="With --published: only these methods, as printed.")
@click.option("--backbone", "backbones", help='With --published: only these backbones; "not stated" is one.')
@click.option("--paper", "papers", help="With --published: only papers whose names contain one of these.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "latex", "markdown", "summary"]),
    help="Print the tables in this format; write nothing. summary is one line per dataset, as for an abstract.",
)
@click.option(
    "--columns",
    type=parameters.NAMES,
    help="With --format latex: the columns, such as i2t_r1,t2i_r1,rsum,seconds.  [default: recalls and rSum]",
)
@click.option("--rows", type=parameters.NAMES, help="With --format latex: the methods, in this order.  [default: all]")
@parameters.as_json
def report(
    folder: Path,
    others: Sequence[Path],
    out: Path,
    html: bool,
    data_root: Path | None,
    published: str | None,
    noises: str | None,
    methods: str | None,
    backbones: str | None,
    papers: str | None,
    form: Format | Literal["summary"] | None,
    columns: Sequence[str] | None,
    rows: Sequence[str] | None,
    as_json: bool,
) -> None:
    """Write leaderboards: a folder per dataset with a page, figures and the runs as CSV.

    Checks every record as `ncbench verify` does. Results of records with problems are marked and never rank;
    records that cannot be read are left out. Both are named, on the page too, and the exit code is 1.

    Runs of others, which --with adds, are checked in the same way and rank beside yours.
    """
    if form and as_json:
        raise UserError("--format and --json cannot be combined")
    if html and (form or published is not None):
        other = "format" if form else "published"
        raise UserError(f"--html cannot be combined with --{other}, which only prints")
    from ncbench.records.gathered import records_folder

    folders = [folder, *map(records_folder, others)]
    chosen = {"noise": noises, "method": methods, "backbone": backbones, "paper": papers}
    if (columns or rows) and (form != "latex" or published is not None):
        raise UserError(f"{'--columns' if columns else '--rows'} needs --format latex")
    if form == "summary":
        if published is not None:
            raise UserError("--format summary sums up our runs; it cannot be combined with --published")
        _print_summary(folders)
    elif published is not None:
        _print_published(published, folders, chosen, form, as_json)
    elif any(value is not None for value in chosen.values()):
        name = next(name for name, value in chosen.items() if value is not None)
        raise UserError(f"--{name} filters published results; add --published DATASET")
    elif form:
        _print_formatted(folders, _sources(folder, others), form, columns or (), rows or ())
    else:
        _write(folders, out, html, data_root, as_json)


def _sources(folder: Path, others: Sequence[Path]) -> str:
    """Return the options that name where the runs are from."""
    return " ".join([f"--runs {folder}", *(f"--with {other}" for other in others)])


def _load(folders: Sequence[Path], problems: Problems) -> tuple[pd.DataFrame, Computed]:
    from ncbench.report.api import load_verified

    return load_verified(folders, problems.add)


def _print_published(
    dataset: str, folders: Sequence[Path], chosen: Mapping[str, str | None], form: Format | None, as_json: bool
) -> None:
    from ncbench.noise.ratio import amount_of
    from ncbench.records.gathered import results_of
    from ncbench.records.table import sound
    from ncbench.report.pages.formats import format_published
    from ncbench.report.tables.published_filters import Filters
    from ncbench.report.tables.published_summary import published_summaries
    from ncbench.report.tables.versus_published import BRIEF_COLUMNS, NUMERIC_COLUMNS, published_tables

    words = {
        name: [word.strip() for word in (value or "").split(",") if word.strip()] for name, value in chosen.items()
    }
    filters = Filters([amount_of(word) for word in words["noise"]], words["method"], words["backbone"], words["paper"])
    problems = Problems()
    has_runs = next(results_of(folders), None) is not None
    runs = sound(_load(folders, problems)[0]) if has_runs else None
    problems.show()
    tables = published_tables(dataset, runs, filters)
    if as_json:
        print_json([line.facts() for table in tables for line in table.lines])
    elif form:
        click.echo(format_published(tables, form), nl=False)
    elif filters:
        for table in tables:
            print_table(table.title, BRIEF_COLUMNS, table.cells(BRIEF_COLUMNS), numbers=NUMERIC_COLUMNS)
            for note in table.footnotes():
                say(f"  {note}", indent=5)
            click.echo()
    else:
        for summary in published_summaries(tables):
            print_table(f"{summary.title}: rSum", summary.columns, summary.rows, numbers=summary.columns[2:], keys=2)
        say("Sources, recalls and caveats of single results: add --noise, --method, --backbone or --paper.")
    problems.exit()


def _print_summary(folders: Sequence[Path]) -> None:
    from ncbench.report.pages.formats import summary_lines
    from ncbench.report.tables.leaderboard import leaderboards

    problems = Problems()
    runs, computed = _load(folders, problems)
    boards = leaderboards(runs, computed=computed)
    click.echo(summary_lines(boards), nl=False)
    problems.exit()


def _print_formatted(
    folders: Sequence[Path], sources: str, form: Format, columns: Sequence[str], rows: Sequence[str]
) -> None:
    from ncbench import __version__
    from ncbench.report.pages.formats import format_comparisons
    from ncbench.report.tables.comparisons import comparisons
    from ncbench.runtime.environment import commit

    problems = Problems()
    tables = comparisons(*_load(folders, problems))
    problems.show()
    options = [f"--{name} {','.join(names)}" for name, names in (("columns", columns), ("rows", rows)) if names]
    command = " ".join([f"ncbench report {sources} --format {form}", *options])
    source = f"{command} (ncbench {__version__}{f', commit {found}' if (found := commit()) else ''})"
    click.echo(format_comparisons(tables, form, columns, rows, source), nl=False)
    problems.exit()


def _write(folders: Sequence[Path], out: Path, html: bool, data_root: Path | None, as_json: bool) -> None:
    from ncbench.report.api import write_runs
    from ncbench.report.tables.comparisons import COLUMNS
    from ncbench.report.tables.overview import rows as overview_rows

    problems = Problems()
    found = _load(folders, problems)
    problems.show()
    warn = partial(click.echo, err=True)
    boards, written = write_runs(*found, folders, problems.found, out, html=html, data_root=data_root, warn=warn)
    tables = [table for board in boards for table in board.comparisons]
    if as_json:
        content = [{**table.key, "rows": table.rows.to_dict(orient="records")} for table in tables]
        named = [{"folder": str(each.folder), "problem": each.text} for each in problems.found]
        print_json({"written": [str(path) for path in written], "comparisons": content, "problems": named})
        problems.exit()
        return
    for overview in (each for board in boards for each in board.overviews):
        headings, *rows = map(tuple, overview_rows(overview))
        print_table(f"rSum over noise ratios: {overview.title}", headings, rows, numbers=headings[1:])
    for table in tables:
        headings = tuple(COLUMNS.values())
        print_table(table.title, headings, table.cells(), numbers=headings[1:])
    first = next(path for path in written if path.suffix in (".html", ".md"))
    say(f"Leaderboards are in {out} ({len(written)} files). Start with", str(written[-1] if html else first))
    problems.exit()
