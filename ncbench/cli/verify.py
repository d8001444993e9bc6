"""`ncbench verify`: check that run records and submissions are consistent."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from ncbench.cli.display.output import print_json
from ncbench.cli.options import parameters


@click.command()
@click.argument("places", metavar="DIR|FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@parameters.as_json
def verify(places: tuple[Path, ...], as_json: bool) -> None:
    """Check that run records are consistent.

    Takes run folders, folders with many runs, and submission files. Recomputes scores from the stored ranks, checks
    that training stayed within the budget, and that specs, ids, digests, dev evaluations and measurements agree. Exits
    with code 1 if a record is inconsistent.
    """
    found = {name: problems for place in places for name, problems in _problems(place).items()}
    bad = {name: problems for name, problems in found.items() if problems}
    if as_json:
        print_json({"runs": len(found), "problems": bad})
    else:
        for name, problems in bad.items():
            for problem in problems:
                click.echo(f"{name}: {problem.rstrip('.')}.")
        click.echo(f"{len(found)} {'run' if len(found) == 1 else 'runs'} checked, {len(bad)} with problems")
    if bad:
        raise SystemExit(1)


def _problems(place: Path) -> dict[str, list[str]]:
    """Return the problems of each run in a folder or submission, by the run's path."""
    from ncbench.records.submission import unpack
    from ncbench.records.verification import runs_below, verify_run

    if not place.is_file():
        return {str(run): verify_run(run) for run in runs_below(place)}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        return {f"{place}, {run.relative_to(root)}": verify_run(run) for run in unpack(place, root)}
