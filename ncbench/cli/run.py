"""`ncbench run`: train and test methods over a grid of conditions."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from ncbench.backbones.precision import Precision
from ncbench.backbones.registry import BACKBONES, SHORT_NAMES
from ncbench.cli.options import config, parameters
from ncbench.cli.options.names import complete_settings
from ncbench.errors import UserError
from ncbench.sweeps.launchers import DEFAULT_LAUNCHER, LAUNCHERS


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=config.load,
    help="TOML file with defaults for these options, by their names, such as `method`, `noise` and `data-root`. "
    "Options on the command line take precedence.",
)
@click.option(
    "--method",
    "methods",
    type=parameters.NAMES,
    required=True,
    help="Methods; see `ncbench methods list`. A path such as my_method.py loads a method from a file.",
)
@click.option(
    "--noise",
    "ratios",
    type=parameters.RATIOS,
    default="0.2,0.4,0.6",
    show_default=True,
    help="Noise ratios in [0, 1), or `natural` for datasets that are noisy by nature.",
)
@click.option(
    "--protocol",
    "protocols",
    type=parameters.NAMES,
    default="shuffle-images",
    show_default=True,
    help="Noise protocols; see `ncbench noise list`. file:PATH reads a published index file; my_protocol.py loads a "
    "protocol from a file.",
)
@click.option(
    "--dataset",
    "datasets",
    type=parameters.NAMES,
    default="scenes",
    show_default=True,
    help="Datasets; see `ncbench data list`. hf:NAME_OR_PATH reads tables of Hugging Face `datasets`; a "
    ".toml file describes such a dataset in more detail.",
)
@parameters.dev_rule
@parameters.image_features
@parameters.captions
@parameters.text_features
@parameters.data_root
@click.option(
    "--backbone",
    "backbones",
    type=parameters.NAMES,
    default=(),
    help=f"Backbones: {', '.join(BACKBONES)}. scan is short for {SHORT_NAMES['scan']}. A path such as my_network.py "
    "loads a backbone from a file.  [default: set by the dataset]",
)
@click.option(
    "--budget",
    "budgets",
    type=parameters.BUDGETS,
    default=(),
    help="Training budget per run: 5 (baseline epochs: the work of 5 epochs of plain triplet training), 2e15flops, "
    "90s, 10m or 2h. Not compute-matched: 5own-epochs (epochs of the method, at any cost) or paper (as published).  "
    "[default: set by the dataset]",
)
@click.option(
    "--seed",
    "seeds",
    type=parameters.SEEDS,
    default="0",
    show_default=True,
    help="Random seeds. Each seed has its own noise, initial weights and data order.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Number of dev evaluations, evenly spaced over the budget.  [default: one per epoch; 10 if the budget is in "
    "FLOPs or time]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME.KEY=VALUE",
    shell_complete=complete_settings,
    help="Override a setting of method NAME, or backbone.embed, .similarity, .word, .dropout or .lse. Can be repeated.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME.KEY=VALUE",
    shell_complete=complete_settings,
    help="Repeat all runs with this one setting changed, for ablations. Can be repeated; changes are not combined.",
)
@click.option(
    "--out", type=parameters.FOLDER, default="runs", show_default=True, help="Folder to write run records to."
)
@parameters.device
@parameters.precision
@click.option(
    "--launcher",
    type=click.Choice(LAUNCHERS),
    default=DEFAULT_LAUNCHER,
    show_default=True,
    help="Where to execute runs: in this process, in several local processes, or as Slurm jobs.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of runs to execute in parallel.  [default: one per CUDA device; on a CPU one per core if networks are "
    "small, else 1; with Slurm no limit]",
)
@click.option(
    "--slurm",
    multiple=True,
    metavar="KEY=VALUE,...",
    help="Options of each Slurm job, such as partition=gpu,time=2h,gpus=1,account=name, or a TOML file with them.",
)
@click.option("--dry-run", is_flag=True, help="Print the planned runs with estimates of work and time, and exit.")
@click.option(
    "--assume",
    metavar="DEVICE",
    help="With --dry-run: estimate times on a measured device, or `here`, measured by `ncbench doctor --speed`.",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Minimum time between checkpoints.  [default: 120, or 10 at the end of an epoch]",
)
@click.option(
    "--max-memory",
    type=parameters.Bytes(),
    metavar="SIZE",
    help="Limit on the CUDA memory of a run, for example 8GiB. Runs that exceed it end with status over-memory.",
)
@parameters.as_json
@click.pass_context
def run(
    ctx: click.Context,
    /,
    out: Path,
    max_memory: int | None,
    checkpoint_every: float | None,
    device: str,
    precision: Precision,
    launcher: str,
    jobs: int | None,
    slurm: tuple[str, ...],
    overrides: tuple[str, ...],
    variants: tuple[str, ...],
    data_root: Path | None,
    dry_run: bool,
    assume: str | None,
    dev_rule: str,
    image_features: str | None,
    captions: str | None,
    text_features: str | None,
    as_json: bool,
    **axes: Any,
) -> None:
    """Train and test methods under noise.

    Runs every combination of the options that take a list. Finished runs are not repeated, and interrupted runs resume
    from their last checkpoint. Several processes, on one or more machines, can share a records folder.
    """
    from ncbench.backbones.registry import check_backbone
    from ncbench.data.imported.request import with_columns
    from ncbench.data.registry import check_dataset, with_dev_rule
    from ncbench.method.registry import check_method
    from ncbench.method.settings import parse_override
    from ncbench.noise.registry import check_protocol
    from ncbench.sweeps.launchers.slurm_options import parse_options

    # Check everything that can be checked without importing torch first.
    if assume is not None:
        from ncbench.sweeps.devices import check_device

        if not dry_run:
            raise UserError("--assume needs --dry-run")
        check_device(assume)
    for name in axes["methods"]:
        check_method(name)
    columns = {"image-features": image_features, "captions": captions, "text-features": text_features}
    axes["datasets"] = with_dev_rule(with_columns(axes["datasets"], columns), dev_rule)
    for name in axes["datasets"]:
        check_dataset(name)
    for name in axes["backbones"]:
        check_backbone(name)
    for text in axes["protocols"]:
        check_protocol(text)
    overrides = (*config.merged(ctx, "overrides"), *overrides)
    parsed = [parse_override(text, "--set", axes["methods"]) for text in overrides]
    parsed_variants = [parse_override(text, "--variant", axes["methods"]) for text in variants]
    options = parse_options(slurm)
    if launcher == "slurm":
        options = {**dict(config.merged(ctx, "slurm")), **options}
    params = {**ctx.params, "overrides": overrides, "slurm": options}

    from ncbench.cli.display.live import watch
    from ncbench.cli.display.outcomes import print_outcomes
    from ncbench.records.store import Store
    from ncbench.runtime.signals import catch_signals, request_stop
    from ncbench.sweeps.grid import Grid, plan_sweep
    from ncbench.sweeps.launchers import make_launcher
    from ncbench.sweeps.launchers.base import Sweep
    from ncbench.sweeps.record import record_for, watch_for_stop
    from ncbench.training.run import DEFAULT_CADENCE, Cadence

    chosen = make_launcher(launcher, options)
    if not dry_run:
        chosen.check(device)
    grid = Grid(**axes, overrides=parsed, variants=parsed_variants, data_root=data_root, precision=precision)
    planned = plan_sweep(grid)
    specs = [run.spec for run in planned]
    cadence = DEFAULT_CADENCE if checkpoint_every is None else Cadence(checkpoint_every, checkpoint_every)
    record = record_for(out, specs)
    sweep = Sweep(grid, planned, Store(out), record, device, jobs, cadence, max_memory)
    if dry_run:
        from ncbench.cli.display.dry_run import show

        show(sweep, chosen, as_json, assume)
        return
    record.write(specs, config.sweep_file(params))
    with (
        catch_signals(),
        watch_for_stop(record, lambda: request_stop(signal.SIGTERM)) as cancelled,
        watch(specs, quiet=as_json) as observer,
    ):
        outcomes = {outcome.spec.id: outcome for outcome in chosen.launch(sweep, observer)}
    reported = [outcomes[spec.id] for spec in specs if spec.id in outcomes]
    print_outcomes(specs, reported, chosen, out, as_json, cancelled.stop_requested)
