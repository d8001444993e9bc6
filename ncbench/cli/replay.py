"""`ncbench replay`: a stored run, once more."""

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
@click.option("--data-root", type=parameters.FOLDER, help="Where the files of released datasets lie.")
@click.option(
    "--method-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file of a method that is neither installed nor found.",
)
@parameters.device
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=100),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="How far test recalls may lie apart, in points, where the replay is not identical.",
)
@click.option("--out", type=parameters.FOLDER, help="Keep the record of the replay here.  [default: it is not kept]")
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
    """Run a stored record again from its own spec and compare.

    RUN is the folder of a run, as runs/scenes/l2rm/0123456789ab. Ends with exit code 1 if the replay is different.
    """
    from ncbench.cli.display.live import watch
    from ncbench.errors import UserError, in_words
    from ncbench.records.store import Store
    from ncbench.runtime.device import choose_device
    from ncbench.runtime.signals import asked, on_signals
    from ncbench.sweeps.execution import run_sweep
    from ncbench.sweeps.replay import check_comparable, compare, plan_again

    check_comparable(run)  # before hours of training
    planned = plan_again(run, data_root, method_file)
    chosen = choose_device(device)
    with ExitStack() as stack:
        store = Store(out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ncbench-replay-"))))
        if store.find(planned.spec) is not None:
            raise UserError(f"{store.folder(planned.spec)} holds this run already; replay into another folder.")
        with on_signals(), watch([planned.spec], quiet=as_json) as observer:
            outcomes = list(run_sweep([planned], store, chosen, observer))
        stopped_by = asked()
        if stopped_by is not None:
            click.echo(f"Stopped by {stopped_by.name}; the replay is not complete.", err=True)
            raise SystemExit(128 + stopped_by)
        if outcomes[0].error is not None:
            click.echo(f"{outcomes[0].status}: {in_words(outcomes[0].error)}", err=True)
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
