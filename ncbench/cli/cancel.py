"""`ncbench cancel`: stop a sweep on every machine that runs it."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli.options import parameters


@click.command()
@parameters.runs_folder
@parameters.sweep
def cancel(folder: Path, sweep: str | None) -> None:
    """Stop a running sweep.

    Active runs save their state and exit within seconds, also on other machines that share the records folder. Slurm
    jobs are cancelled.
    """
    from ncbench.records.lease import is_held
    from ncbench.records.store import Store
    from ncbench.sweeps.launchers.slurm import cancel_jobs
    from ncbench.sweeps.record import CONFIG, find_sweep

    record, store = find_sweep(folder, sweep), Store(folder)
    specs = record.specs()
    if all((store.folder(spec) / "result.json").is_file() for spec in specs):
        click.echo(f"Sweep {record.id} is complete: {_count(len(specs), 'run')} done, nothing to stop.")
        return
    running = sum(is_held(store.folder(spec)) for spec in specs)
    record.request_stop()
    jobs = cancel_jobs(record)
    actions = [f"requested {_count(running, 'active run')} to stop"]
    if jobs:
        actions.append(f"cancelled {_count(jobs, 'Slurm job')}")
    click.echo(f"Sweep {record.id}: {', '.join(actions)}. To resume: ncbench run --config {record.folder / CONFIG}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
