"""`ncbench run`: train and test methods over a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ncbench.backbones import BACKBONES, SHORT_NAMES
from ncbench.cli import parameters
from ncbench.cli.output import print_json
from ncbench.precision import Precision


@click.command()
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
    help="Noise protocols: shuffle-images, shuffle-captions, or file:PATH for a published index file.",
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
    "--jobs",
    type=click.IntRange(min=1),
    help="Runs to execute at a time, in processes of their own.  [default: small networks one per core, others 1]",
)
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
def run(
    out: Path,
    max_memory: int | None,
    checkpoint_every: float | None,
    device: str,
    precision: Precision,
    jobs: int | None,
    overrides: tuple[str, ...],
    variants: tuple[str, ...],
    data_root: Path | None,
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
    from ncbench.backbones import check_backbone
    from ncbench.catalog import check_dataset, with_dev_rule
    from ncbench.data.imported.request import with_columns
    from ncbench.methods import check_method
    from ncbench.noise import check_protocol
    from ncbench.settings import parse_override

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
    parsed = [parse_override(text) for text in overrides]
    varied = [parse_override(text, "--variant") for text in variants]

    from ncbench.cli.live import describe, told_apart, watch
    from ncbench.environment import choose_device
    from ncbench.execution import FAILURES
    from ncbench.launch import launch
    from ncbench.runner import USUAL, Cadence
    from ncbench.stopping import asked, on_signals
    from ncbench.store import ERROR_FILE, Store
    from ncbench.sweep import Grid, plan_sweep

    chosen = choose_device(device)
    grid = Grid(**axes, overrides=parsed, variants=varied, data_root=data_root, precision=precision)
    planned = plan_sweep(grid)
    cadence = USUAL if checkpoint_every is None else Cadence(checkpoint_every, checkpoint_every)
    with on_signals(), watch([run.spec for run in planned], quiet=as_json) as observer:
        launched = launch(grid, planned, Store(out), chosen, observer, jobs, cadence, max_memory)
        ended = {outcome.spec.id: outcome for outcome in launched}
    outcomes = [ended[run.spec.id] for run in planned if run.spec.id in ended]
    if as_json:
        print_json(
            [
                {
                    "status": o.status,
                    "folder": str(o.folder),
                    "error": repr(o.error) if o.error else None,
                    "result": o.result,
                }
                for o in outcomes
            ]
        )
    told = dict(zip((run.spec.id for run in planned), told_apart([run.spec for run in planned]), strict=True))
    failed = [outcome for outcome in outcomes if outcome.status in FAILURES]
    for outcome in failed:
        where = outcome.folder / ERROR_FILE
        words = describe(outcome.spec, told[outcome.spec.id])
        click.echo(f"{outcome.status}: {words}: {outcome.error!r}; see {where}", err=True)
    stopped_by = asked()
    if stopped_by is not None:
        done = sum(outcome.status in ("done", "kept") for outcome in outcomes)
        click.echo(
            f"Stopped by {stopped_by.name}: {done} of {len(planned)} runs are done, and what the others have trained "
            "is saved. The same command goes on from there.",
            err=True,
        )
        raise SystemExit(128 + stopped_by)
    if failed:
        raise SystemExit(1)
    if not as_json:
        click.echo(f"Records are in {out}. Leaderboards: ncbench report --runs {out}")
