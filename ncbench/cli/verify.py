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
    found = {name: found for place in places for name, found in _verified(place).items()}
    bad = {name: problems for name, (problems, _) in found.items() if problems}
    earlier = [name for name, (_, earlier) in found.items() if earlier]
    if as_json:
        print_json({"runs": len(found), "problems": bad, "earlier_harness": earlier})
    else:
        for name, problems in bad.items():
            for problem in problems:
                click.echo(f"{name}: {problem.rstrip('.')}.")
        click.echo(f"{len(found)} {'run' if len(found) == 1 else 'runs'} checked, {len(bad)} with problems")
        if earlier:
            click.echo(f"{len(earlier)} made by an earlier version of the harness; results differ since")
    if bad:
        raise SystemExit(1)


def _verified(place: Path) -> dict[str, tuple[list[str], bool]]:
    """Return the problems of each run in a folder or submission, and whether it is of an earlier harness, by path."""
    from ncbench.records.submission import unpack
    from ncbench.records.verification import of_earlier_harness, runs_below, verify_run

    if not place.is_file():
        return {str(run): (verify_run(run), of_earlier_harness(run)) for run in runs_below(place)}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        runs = {f"{place}, {run.relative_to(root)}": run for run in unpack(place, root)}
        return {name: (verify_run(run), of_earlier_harness(run)) for name, run in runs.items()}
