"""`ncbench cancel`: stop a sweep, wherever its runs execute."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli.options import parameters


@click.command()
@click.option("--runs", "folder", type=parameters.FOLDER, default="runs", show_default=True, help="Run records.")
@parameters.sweep
def cancel(folder: Path, sweep: str | None) -> None:
    """Stop a sweep: runs at work save what they have trained and end, Slurm jobs are cancelled.

    It reaches processes on other machines too, through the folder of records, within seconds.
    """
    from ncbench.records.lease import is_held
    from ncbench.records.store import Store
    from ncbench.sweeps.launchers.slurm import cancel_jobs
    from ncbench.sweeps.record import CONFIG, find_sweep

    record, store = find_sweep(folder, sweep), Store(folder)
    specs = record.specs()
    if all((store.folder(spec) / "result.json").is_file() for spec in specs):
        click.echo(f"Sweep {record.id} is over: {_count(len(specs), 'run')} done, nothing to stop.")
        return
    at_work = sum(is_held(store.folder(spec)) for spec in specs)
    record.ask_to_stop()
    jobs = cancel_jobs(record)
    told = [f"{_count(at_work, 'run')} at work {'is' if at_work == 1 else 'are'} asked to save and end"]
    if jobs:
        told.append(f"{_count(jobs, 'Slurm job')} {'is' if jobs == 1 else 'are'} cancelled")
    click.echo(f"Sweep {record.id}: {', '.join(told)}. To go on: ncbench run --config {record.folder / CONFIG}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
