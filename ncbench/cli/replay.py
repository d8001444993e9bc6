"""`ncbench replay`: rerun a recorded run and compare the results."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from ncbench.cli.display.output import print_json
from ncbench.cli.options import parameters


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@parameters.data_root
@click.option(
    "--method-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that defines the method, if it is neither installed nor found automatically.",
)
@parameters.device
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=100),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Largest accepted difference of test recalls, in percentage points, if results are not identical.",
)
@click.option("--out", type=parameters.FOLDER, help="Folder to keep the new record in.  [default: discard it]")
@parameters.as_json
def replay(
    run: Path,
    data_root: Path | None,
    method_file: Path | None,
    device: str,
    tolerance: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Rerun a recorded run and compare the results.

    RUN is a run folder, such as runs/scenes/l2rm/0123456789ab. Exits with code 1 if the results differ by more than
    --tolerance.
    """
    from ncbench.cli.display.live import watch
    from ncbench.errors import UserError, error_message
    from ncbench.records.store import Store
    from ncbench.runtime.device import choose_device
    from ncbench.runtime.signals import catch_signals, stop_signal
    from ncbench.sweeps.execution import run_sweep
    from ncbench.sweeps.fresh_process import execute_apart
    from ncbench.sweeps.replay import check_comparable, compare, plan_again

    check_comparable(run)  # fail before training if the record cannot be compared
    planned = plan_again(run, data_root, method_file)
    chosen = choose_device(device)
    with ExitStack() as stack:
        store = Store(out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ncbench-replay-"))))
        if store.find(planned.spec) is not None:
            raise UserError(f"{store.folder(planned.spec)} already contains this run; choose another --out folder.")
        with catch_signals(), watch([planned.spec], quiet=as_json) as observer:
            outcomes = list(run_sweep([planned], store, chosen, observer, executor=execute_apart))
        stopped_by = stop_signal()
        if stopped_by is not None:
            click.echo(f"Stopped by {stopped_by.name} before the replay was complete.", err=True)
            raise SystemExit(128 + stopped_by)
        if outcomes[0].error is not None:
            click.echo(f"{outcomes[0].status}: {error_message(outcomes[0].error)}", err=True)
            raise SystemExit(1)
        verdict = compare(run, outcomes[0].folder, tolerance)
    if as_json:
        print_json(asdict(verdict))
    elif verdict.outcome == "identical":
        click.echo(f"identical: {verdict.detail}")
    else:
        click.echo(
            f"{verdict.outcome}: test recalls differ by up to {verdict.largest:.2f} points (tolerance {tolerance:g}); "
            f"{verdict.detail}"
        )
    if verdict.outcome == "different":
        raise SystemExit(1)
