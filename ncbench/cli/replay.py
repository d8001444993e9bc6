"""`ncbench replay`: rerun a recorded run and compare the results."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncbench.cli.display.output import print_json
from ncbench.cli.options import parameters

if TYPE_CHECKING:
    from ncbench.sweeps.replay import Verdict


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@parameters.data_root
@click.option(
    "--method-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that defines the method, if it is neither installed nor found automatically.",
)
@click.option(
    "--backbone-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that defines the backbone, if it is neither built in nor found automatically.",
)
@parameters.device
@parameters.tolerance
@click.option("--out", type=parameters.FOLDER, help="Folder to keep the new record in.  [default: discard it]")
@parameters.as_json
def replay(
    run: Path,
    data_root: Path | None,
    method_file: Path | None,
    backbone_file: Path | None,
    device: str,
    tolerance: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Rerun a recorded run and compare the results.

    RUN is a run folder, such as runs/scenes/l2rm/0123456789ab. Exits with code 1 if the results differ by more than
    --tolerance.
    """
    verdict = run_again(run, data_root, method_file, backbone_file, device, tolerance, out, as_json)
    if as_json:
        print_json(asdict(verdict))
    else:
        click.echo(verdict.in_words(tolerance))
    if verdict.outcome == "different":
        raise SystemExit(1)


def run_again(
    run: Path,
    data_root: Path | None,
    method_file: Path | None,
    backbone_file: Path | None,
    device: str,
    tolerance: float,
    out: Path | None,
    quiet: bool,
) -> Verdict:
    """Run a recorded run again, keep the new record in `out` (None: nowhere), and return how the two compare.

    Exits if it is stopped, and with code 1 if the run fails. Raises UserError if it cannot be run here.
    """
    from ncbench.cli.display.live import watch
    from ncbench.errors import UserError
    from ncbench.records.store import Store
    from ncbench.runtime.device import choose_device
    from ncbench.runtime.signals import catch_signals, stop_signal
    from ncbench.sweeps.execution import run_sweep
    from ncbench.sweeps.fresh_process import execute_apart
    from ncbench.sweeps.replay import check_comparable, compare, plan_again

    check_comparable(run)  # fail before training if the record cannot be compared
    planned = plan_again(run, data_root, method_file, backbone_file)
    chosen = choose_device(device)
    with ExitStack() as stack:
        store = Store(out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ncbench-replay-"))))
        if store.find(planned.spec) is not None:
            raise UserError(f"{store.folder(planned.spec)} already contains this run; choose another --out folder.")
        with catch_signals(), watch([planned.spec], quiet=quiet) as observer:
            outcomes = list(run_sweep([planned], store, chosen, observer, executor=execute_apart))
        stopped_by = stop_signal()
        if stopped_by is not None:
            click.echo(f"Stopped by {stopped_by.name} before the replay was complete.", err=True)
            raise SystemExit(128 + stopped_by)
        if outcomes[0].error is not None:
            click.echo(f"{outcomes[0].status}: {outcomes[0].message}", err=True)
            raise SystemExit(1)
        return compare(run, outcomes[0].folder, tolerance)
