"""`ncbench run`: train and test methods over a grid."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from ncbench.backbones.precision import Precision
from ncbench.backbones.registry import BACKBONES, SHORT_NAMES
from ncbench.cli.options import config, parameters
from ncbench.sweeps.launchers import LAUNCHERS, USUAL


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=config.load,
    help="A sweep file, TOML, with `methods`, `ratios`, `budgets` and so on; options given beside it override it.",
)
@click.option(
    "--method",
    "methods",
    type=parameters.NAMES,
    required=True,
    help="Methods (see `ncbench methods list`), or paths of files that hold one: my_method.py.",
)
@click.option(
    "--noise", "ratios", type=parameters.RATIOS, default="0.2,0.4,0.6", show_default=True, help="Noise ratios."
)
@click.option(
    "--protocol",
    "protocols",
    type=parameters.NAMES,
    default="shuffle-images",
    show_default=True,
    help="Noise protocols: see `ncbench noise list`; file:PATH for a published index file, or my_protocol.py.",
)
@click.option(
    "--dataset",
    "datasets",
    type=parameters.NAMES,
    default="scenes",
    show_default=True,
    help="Datasets: see `ncbench data list`; hf:NAME_OR_PATH for any that `datasets` reads, or a .toml file that says "
    "more of it.",
)
@parameters.dev_rule
@parameters.image_features
@parameters.captions
@parameters.text_features
@click.option("--data-root", type=parameters.FOLDER, help="Where the files of released datasets lie.")
@click.option(
    "--backbone",
    "backbones",
    type=parameters.NAMES,
    default="sgr",
    show_default=True,
    help=f"Backbones: {', '.join(BACKBONES)}; scan is short for {SHORT_NAMES['scan']}.",
)
@click.option(
    "--budget",
    "budgets",
    type=parameters.BUDGETS,
    default=(),
    help="What a run may spend on training: 5 (work, in epochs of plain triplet training), 2e15flops, 90s, 10m, 2h; "
    "not compute-matched: 5own-epochs (of the method, whatever they cost), paper (as published).  "
    "[default: the dataset's]",
)
@click.option(
    "--seed",
    "seeds",
    type=parameters.SEEDS,
    default="0",
    show_default=True,
    help="Seeds; each draws its own noise, first weights and order of pairs: 0,1,2.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(1, 1000),
    help="How often dev is evaluated, at equal shares of the budget.  [default: once per epoch of the budget, 10 times "
    "where it is in flops or time]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME.KEY=VALUE",
    help="Change a setting of a method, or backbone.embed, .similarity, .word, .dropout or .lse.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME.KEY=VALUE",
    help="Run everything once more with this change; given several times, each change is made alone: an ablation.",
)
@click.option("--out", type=parameters.FOLDER, default="runs", show_default=True, help="Where run records are kept.")
@parameters.device
@parameters.precision
@click.option(
    "--launcher",
    type=click.Choice(LAUNCHERS),
    default=USUAL,
    show_default=True,
    help="Where runs execute: in this process; in processes, one per CUDA device or a few on a CPU; as Slurm jobs.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Runs to execute at a time.  [default: one per CUDA device; on a CPU small networks one per core, others 1; "
    "in Slurm as many as it admits]",
)
@click.option(
    "--slurm",
    multiple=True,
    metavar="KEY=VALUE,...",
    help="Of each job: partition=gpu,time=2h,gpus=1,account=name, or a TOML file with these.",
)
@click.option("--dry-run", is_flag=True, help="Print the runs, which are done, and estimates of work and time.")
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Seconds between checkpoints of a run.  [default: 120, and 10 after an epoch]",
)
@click.option(
    "--max-memory",
    type=parameters.Bytes(),
    metavar="SIZE",
    help="Most memory that a run may take on a CUDA device, as 8GiB; one that needs more ends as over-memory.",
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
    dev_rule: str,
    image_features: str | None,
    captions: str | None,
    text_features: str | None,
    as_json: bool,
    **axes: Any,
) -> None:
    """Train and test methods under noise; keep records.

    Options that take a list make a grid. Runs that have a record already are not run again; what was broken off goes on
    from its checkpoint, to the same record. Several processes, on any machines, may share a folder of records.
    """
    from ncbench.backbones.registry import check_backbone
    from ncbench.data.imported.request import with_columns
    from ncbench.data.registry import check_dataset, with_dev_rule
    from ncbench.method.registry import check_method
    from ncbench.method.settings import parse_override
    from ncbench.noise.registry import check_protocol
    from ncbench.sweeps.launchers.slurm_options import parse_options

    # All that can be checked without torch is checked before it is loaded.
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
    overrides = (*config.added(ctx, "overrides"), *overrides)
    parsed = [parse_override(text) for text in overrides]
    varied = [parse_override(text, "--variant") for text in variants]
    options = parse_options(slurm)
    if launcher == "slurm":
        options = {**dict(config.added(ctx, "slurm")), **options}
    params = {**ctx.params, "overrides": overrides, "slurm": options}

    from ncbench.cli.display.live import watch
    from ncbench.cli.display.outcomes import tell
    from ncbench.records.store import Store
    from ncbench.runtime.signals import ask, on_signals
    from ncbench.sweeps.grid import Grid, plan_sweep
    from ncbench.sweeps.launchers import launcher as launcher_called
    from ncbench.sweeps.launchers.base import Sweep
    from ncbench.sweeps.record import listening, record_of
    from ncbench.training.run import USUAL as OFTEN
    from ncbench.training.run import Cadence

    chosen = launcher_called(launcher, options)
    if not dry_run:
        chosen.check(device)
    grid = Grid(**axes, overrides=parsed, variants=varied, data_root=data_root, precision=precision)
    planned = plan_sweep(grid)
    specs = [run.spec for run in planned]
    cadence = OFTEN if checkpoint_every is None else Cadence(checkpoint_every, checkpoint_every)
    record = record_of(out, specs)
    sweep = Sweep(grid, planned, Store(out), record, device, jobs, cadence, max_memory)
    if dry_run:
        from ncbench.cli.display.dry_run import show

        show(sweep, chosen, as_json)
        return
    record.write(specs, config.resolved(params))
    with (
        on_signals(),
        listening(record, lambda: ask(signal.SIGTERM)) as cancelled,
        watch(specs, quiet=as_json) as observer,
    ):
        ended = {outcome.spec.id: outcome for outcome in chosen.launch(sweep, observer)}
    tell(specs, [ended[spec.id] for spec in specs if spec.id in ended], chosen, out, as_json, cancelled.heard)
