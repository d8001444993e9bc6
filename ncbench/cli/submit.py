"""`ncbench submit` and `ncbench unpack`: bundle run records into one file for review, and unpack them."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli.display.output import print_json
from ncbench.cli.options import parameters
from ncbench.errors import UserError


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=parameters.FOLDER)
@click.option("--name", required=True, metavar="NAME", help="Name of the submission, for example your method or group.")
@click.option("--about", default="", metavar="TEXT", help="Authors of the runs, and where to find the method's code.")
@click.option(
    "--out",
    type=parameters.FOLDER,
    default="leaderboards/submissions",
    show_default=True,
    help="Folder to write NAME.json to.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing submission.")
@parameters.as_json
def submit(folders: tuple[Path, ...], name: str, about: str, out: Path, force: bool, as_json: bool) -> None:
    """Bundle finished runs into a submission file.

    RUN is a run folder, or a folder with many. All records must pass `ncbench verify`. The file contains the test
    ranks, so that reviewers can recompute the scores.
    """
    from ncbench.records.submission import bundle, check_name, write_submission
    from ncbench.records.verification import runs_below

    check_name(name)
    path = out / f"{name}.json"
    if path.exists() and not force:
        raise UserError(f"{path} already exists; choose another --name, or overwrite it with --force.")
    content = bundle(name, [run for folder in folders for run in runs_below(folder)], about)
    write_submission(path, content)
    if as_json:
        print_json({"written": str(path), "runs": len(content["runs"])})
    else:
        count = len(content["runs"])
        click.echo(f"wrote {path} ({count} {'run' if count == 1 else 'runs'}); check it with: ncbench verify {path}")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--out", type=parameters.FOLDER, default="runs", show_default=True, help="Records folder to write to.")
@parameters.as_json
def unpack(file: Path, out: Path, as_json: bool) -> None:
    """Unpack a submission into a records folder.

    The runs can then be reported and replayed. Existing records are not overwritten.
    """
    from ncbench.records.submission import read_submission
    from ncbench.records.submission import unpack as write_records

    written = write_records(file, out)
    if as_json:
        print_json({"written": [str(path) for path in written]})
        return
    existing = len(read_submission(file).runs) - len(written)
    click.echo(f"wrote {len(written)} {'run' if len(written) == 1 else 'runs'} to {out}; {existing} already existed")
