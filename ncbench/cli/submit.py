"""`ncbench submit` and `ncbench unpack`: records in one file to be reviewed, and back."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli.display.output import print_json
from ncbench.cli.options import parameters
from ncbench.errors import UserError


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=parameters.FOLDER)
@click.option("--name", required=True, help="What the submission is called, as your method, or your group.")
@click.option("--about", default="", metavar="TEXT", help="Who made the runs, and where the code of a method lies.")
@click.option(
    "--out",
    type=parameters.FOLDER,
    default="leaderboards/submissions",
    show_default=True,
    help="Where NAME.json is written.",
)
@click.option("--force", is_flag=True, help="Write over a submission of this name.")
@parameters.as_json
def submit(folders: tuple[Path, ...], name: str, about: str, out: Path, force: bool, as_json: bool) -> None:
    """Bundle finished runs into NAME.json, with the test ranks from which their scores can be computed again.

    RUN is the folder of a run, or of many. Only records that `ncbench verify` passes are taken.
    """
    from ncbench.records.submission import bundle, check_name, write_submission
    from ncbench.records.verification import runs_below

    check_name(name)
    path = out / f"{name}.json"
    if path.exists() and not force:
        raise UserError(f"{path} exists; choose another --name, or write over it with --force.")
    content = bundle(name, [run for folder in folders for run in runs_below(folder)], about)
    write_submission(path, content)
    if as_json:
        print_json({"written": str(path), "runs": len(content["runs"])})
    else:
        count = len(content["runs"])
        click.echo(f"wrote {path} ({count} {'run' if count == 1 else 'runs'}); check it with: ncbench verify {path}")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--out", type=parameters.FOLDER, default="runs", show_default=True, help="The folder of records.")
@parameters.as_json
def unpack(file: Path, out: Path, as_json: bool) -> None:
    """Write the runs of a submission into a folder of records, where they can be reported and replayed.

    Runs that have a record there are left as they are.
    """
    from ncbench.records.submission import read_submission
    from ncbench.records.submission import unpack as write_records

    written = write_records(file, out)
    if as_json:
        print_json({"written": [str(path) for path in written]})
        return
    there = len(read_submission(file).runs) - len(written)
    click.echo(f"wrote {len(written)} {'run' if len(written) == 1 else 'runs'} into {out}, {there} were there already")
