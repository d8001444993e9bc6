"""The final output and exit code of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ncbench.cli.display.live import labels_of
from ncbench.cli.display.output import print_json, say
from ncbench.cli.display.verbosity import verbosity
from ncbench.records.spec import RunSpec
from ncbench.records.store import ERROR_FILE
from ncbench.runtime.signals import stop_signal
from ncbench.sweeps.execution import FAILURES, Outcome
from ncbench.sweeps.launchers.base import Launcher
from ncbench.sweeps.observers import describe


def print_outcomes(
    specs: Sequence[RunSpec],
    outcomes: Sequence[Outcome],
    launcher: Launcher,
    out: Path,
    as_json: bool,
    cancelled: bool,
) -> None:
    """Print the outcomes of a sweep. Exits with a non-zero code unless all runs are done."""
    if as_json:
        print_json(
            [
                {
                    "status": o.status,
                    "folder": str(o.folder),
                    "error": o.message or None,
                    "result": o.result.to_dict() if o.result else None,
                }
                for o in outcomes
            ]
        )
    labels = dict(zip((spec.id for spec in specs), labels_of(specs), strict=True))
    failed = [outcome for outcome in outcomes if outcome.status in FAILURES]
    for outcome in failed:
        run = describe(outcome.spec, labels[outcome.spec.id])
        click.echo(f"{outcome.status}: {run}: {outcome.message}; see {outcome.folder / ERROR_FILE}", err=True)
    done = f"{sum(outcome.status in ('done', 'kept') for outcome in outcomes)} of {len(specs)} runs done"
    stopped_by = stop_signal()
    if stopped_by is not None:
        by = "ncbench cancel" if cancelled else stopped_by.name
        hint = Launcher.resume_hint if cancelled else launcher.resume_hint
        click.echo(f"Stopped by {by}: {done}. {hint}", err=True)
        raise SystemExit(128 + stopped_by)
    if any(outcome.status == "interrupted" for outcome in outcomes):
        click.echo(f"Interrupted from outside: {done}. {Launcher.resume_hint}", err=True)
        raise SystemExit(1)
    if failed:
        raise SystemExit(1)
    if not as_json and not verbosity().quiet:
        say(f"Records are in {out}. Create leaderboards with:", f"ncbench report --runs {out}")
