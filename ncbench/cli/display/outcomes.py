"""How a sweep ended: what is printed, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ncbench.cli.display.live import describe, told_apart
from ncbench.cli.display.output import print_json
from ncbench.cli.display.verbosity import verbosity
from ncbench.errors import in_words
from ncbench.records.spec import RunSpec
from ncbench.records.store import ERROR_FILE
from ncbench.runtime.signals import asked
from ncbench.sweeps.execution import FAILURES, Outcome
from ncbench.sweeps.launchers.base import Launcher


def tell(
    specs: Sequence[RunSpec],
    outcomes: Sequence[Outcome],
    launcher: Launcher,
    out: Path,
    as_json: bool,
    cancelled: bool,
) -> None:
    """Print what became of the runs of a sweep; ends the process where they are not all done."""
    if as_json:
        print_json(
            [
                {
                    "status": o.status,
                    "folder": str(o.folder),
                    "error": in_words(o.error) if o.error else None,
                    "result": o.result.to_dict() if o.result else None,
                }
                for o in outcomes
            ]
        )
    told = dict(zip((spec.id for spec in specs), told_apart(specs), strict=True))
    failed = [outcome for outcome in outcomes if outcome.status in FAILURES]
    for outcome in failed:
        where = outcome.folder / ERROR_FILE
        words = describe(outcome.spec, told[outcome.spec.id])
        error = in_words(outcome.error).rstrip(".") if outcome.error else None
        click.echo(f"{outcome.status}: {words}: {error}; see {where}", err=True)
    done = f"{sum(outcome.status in ('done', 'kept') for outcome in outcomes)} of {len(specs)} runs are done"
    stopped_by = asked()
    if stopped_by is not None:
        by = "ncbench cancel" if cancelled else stopped_by.name
        after = Launcher.after_stop if cancelled else launcher.after_stop
        click.echo(f"Stopped by {by}: {done}, and {after}", err=True)
        raise SystemExit(128 + stopped_by)
    if any(outcome.status == "interrupted" for outcome in outcomes):
        click.echo(f"Interrupted from outside: {done}, and {Launcher.after_stop}", err=True)
        raise SystemExit(1)
    if failed:
        raise SystemExit(1)
    if not as_json and not verbosity().quiet:
        click.echo(f"Records are in {out}. Leaderboards: ncbench report --runs {out}")
