"""`ncbench submit` and `ncbench unpack`: bundle run records into one file for review, and unpack them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ncbench.cli.display.output import print_json
from ncbench.cli.options import parameters
from ncbench.errors import UserError


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=parameters.FOLDER)
@click.option("--name", metavar="NAME", help="Name of the submission, for example your method or group.")
@click.option(
    "--contact",
    metavar="TEXT",
    help="Who answers questions about it, such as 'Ada Lovelace <ada@example.org>'.  [default: your identity in git]",
)
@click.option("--about", default="", metavar="TEXT", help="Authors of the runs, and where to find the method's code.")
@click.option(
    "--method-file",
    "method_files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="File that defines a method of the runs, if it is not in methods/ or NCBENCH_PLUGINS. Repeat for several.",
)
@click.option(
    "--backbone-file",
    "backbone_files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="The same for a backbone, if its file is not in backbones/ or NCBENCH_PLUGINS.",
)
@click.option(
    "--out",
    type=parameters.FOLDER,
    default="leaderboards/submissions",
    show_default=True,
    help="Folder to write NAME.json to.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing submission.")
@parameters.as_json
def submit(
    folders: tuple[Path, ...],
    name: str | None,
    contact: str | None,
    about: str,
    method_files: tuple[Path, ...],
    backbone_files: tuple[Path, ...],
    out: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Bundle finished runs into a submission file.

    RUN is a run folder, or a folder with many. All records must pass `ncbench verify`. The file contains the test
    ranks, so that reviewers can recompute the scores, and the files that define methods and backbones which are not
    installed.
    """
    from ncbench.records.submission import bundle, check_name, write_submission
    from ncbench.records.verification import runs_below

    name = name if name is not None else _ask("name", "Name of the submission")
    check_name(name)
    path = out / f"{name}.json"
    if path.exists() and not force:
        raise UserError(f"{path} already exists; choose another --name, or overwrite it with --force.")
    identity = git_identity() if contact is None else contact
    if contact is None and (not identity or _on_terminal()):
        identity = _ask("contact", "Who answers questions about it (name <address>)", identity)
    if not identity.strip():
        raise UserError("--contact is empty; say who answers questions about the submission")
    runs = [run for folder in folders for run in runs_below(folder)]
    content = bundle(name, runs, about, identity, method_files, backbone_files)
    write_submission(path, content)
    if as_json:
        print_json({"written": str(path), "runs": len(content["runs"])})
        return
    count = len(content["runs"])
    click.echo(f"wrote {path} ({count} {'run' if count == 1 else 'runs'}); check it with: ncbench verify {path}")


def git_identity() -> str:
    """Return `name <address>` as git would write it into a commit; "" without git or an address."""
    import subprocess

    words = []
    for key in ("user.name", "user.email"):
        try:
            found = subprocess.run(["git", "config", key], capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            return ""
        words.append(found.stdout.strip())
    return f"{words[0]} <{words[1]}>".strip() if words[1] else ""


def _on_terminal() -> bool:
    return sys.stdin.isatty()


def _ask(option: str, question: str, default: str = "") -> str:
    """Ask on a terminal. Raises UserError elsewhere."""
    if not _on_terminal():
        raise UserError(f"a submission needs a {option}; give it with --{option}")
    answer: str = click.prompt(question, default=default or None, err=True)
    return answer


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--out", type=parameters.FOLDER, default="runs", show_default=True, help="Records folder to write to.")
@parameters.as_json
def unpack(file: Path, out: Path, as_json: bool) -> None:
    """Unpack a submission into a records folder.

    The runs can then be reported, and replayed with `ncbench replay --out DIR`, which also makes the beliefs and the
    weights that `audit` and `eval` need. Files that define methods and backbones become method.py and backbone.py
    beside the record; they are not run. Existing records are not overwritten.
    """
    from ncbench.records.plugin_sources import PARTS
    from ncbench.records.submission import read_submission
    from ncbench.records.submission import unpack as write_records

    written = write_records(file, out)
    if as_json:
        print_json({"written": [str(path) for path in written]})
        return
    existing = len(read_submission(file).runs) - len(written)
    click.echo(f"wrote {len(written)} {'run' if len(written) == 1 else 'runs'} to {out}; {existing} already existed")
    for part in PARTS:
        sources = [path / part.file for path in written if (path / part.file).is_file()]
        if sources:
            click.echo(
                f"{part.name_field}s from files are only run with {part.option}; read them first, such as {sources[0]}"
            )
