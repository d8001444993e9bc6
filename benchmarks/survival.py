"""Measure the cost of checkpoints (time and bytes) and of the work meter (time) at the size used in papers.

Usage: python benchmarks/survival.py [--repeats 5] [--threads 2] [--folder DIR] [--out FILE.json]

One process measures in turn a training step of `sgr` (36 x 2048 regions, 1024-d, batch 128, hardest negatives), the
work reports of this step, and checkpoints of one and of two networks, as a run writes them: weights, both moments of
Adam and the best weights so far, flushed to disk in DIR. Bytes are file sizes. A checkpoint is written every two
minutes, so its share of the time is its seconds divided by 120.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
from speed import PAPER, make_data, make_step
from torch import Tensor

from ncbench.backbones.base import Backbone
from ncbench.backbones.registry import build_backbone
from ncbench.budget import WorkMeter
from ncbench.cli.display.output import print_table
from ncbench.method.optimiser import Optimiser
from ncbench.runtime import environment
from ncbench.runtime.state import State, capture
from ncbench.training.checkpoint import write_snapshot
from ncbench.training.run import DEFAULT_CADENCE

UNLIMITED_FLOPS = 10**18


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def trained(networks: int) -> tuple[list[Backbone], Optimiser]:
    """Return `networks` networks, and an optimiser with moments of all their weights."""
    made = [build_backbone("sgr", PAPER) for _ in range(networks)]
    optimiser = Optimiser(made, WorkMeter(UNLIMITED_FLOPS), lr=1e-4)
    losses: list[Tensor] = [weight.sum() for network in made for weight in network.parameters()]
    optimiser.step(torch.stack(losses).sum())
    return made, optimiser


def checkpoint(networks: list[Backbone], optimiser: Optimiser, folder: Path, number: int) -> None:
    """Write a checkpoint like a run's, without beliefs about pairs and their order, which are small in comparison."""
    best = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    state: State = {"networks": capture(networks), "optimiser": capture(optimiser), "selected": capture(best)}
    write_snapshot(folder, number, state)


class Listening:
    """A work meter that times itself: counting lengths, evaluating formulas, and charging."""

    def __init__(self) -> None:
        self.seconds, self.meter = 0.0, WorkMeter(UNLIMITED_FLOPS)

    def attach(self, network: Backbone) -> None:
        """Charge and time the work reports of a network."""
        network.on_work = self.meter.charge
        report = network._report

        def timed(*flops: int, **counts: int) -> None:
            self.seconds += seconds_of(lambda: report(*flops, **counts))

        network._report = timed  # type: ignore[method-assign]


@click.command()
@click.option("--repeats", default=5, show_default=True, help="Number of turns.")
@click.option("--threads", default=2, show_default=True, help="Threads of the training step.")
@click.option("--folder", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Folder for checkpoints.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the numbers as JSON.")
def main(repeats: int, threads: int, folder: Path | None, out: Path | None) -> None:
    """Measure the cost of checkpoints and the meter; see the top of this file."""
    torch.set_num_threads(threads)
    device = torch.device("cpu")
    sizes, split = make_data("paper", "train")
    network = build_backbone("sgr", sizes).train()
    listening = Listening()
    listening.attach(network)
    step = make_step(network, "ours", split, device)
    step()
    states = {"one network": trained(1), "two networks": trained(2)}
    turns: dict[str, list[float]] = {"step": [], "meter": [], **{name: [] for name in states}}
    sizes_of: dict[str, int] = {}
    for turn in range(repeats):
        listening.seconds = 0.0
        turns["step"].append(seconds_of(step))
        turns["meter"].append(listening.seconds)
        for name, state in states.items():
            with tempfile.TemporaryDirectory(dir=folder) as kept:
                turns[name].append(seconds_of(partial(checkpoint, *state, Path(kept), turn)))
                sizes_of[name] = sum(file.stat().st_size for file in Path(kept).iterdir())
        click.echo(f"{ {name: round(times[-1], 4) for name, times in turns.items()} }", err=True)
    medians = {name: statistics.median(times) for name, times in turns.items()}
    parts = [meter / whole for meter, whole in zip(turns["meter"], turns["step"], strict=True)]
    shares = {"meter": statistics.median(parts), **{name: medians[name] / DEFAULT_CADENCE.midway for name in states}}
    rows = [("step", f"{medians['step']:.3g} s", "-", "-")]
    rows += [("meter", f"{medians['meter'] * 1e3:.3g} ms", "-", f"{shares['meter']:.4%} of the step")]
    rows += [
        (f"checkpoint, {name}", f"{medians[name]:.3g} s", f"{sizes_of[name] / 2**20:,.0f} MiB", f"{shares[name]:.2%}")
        for name in states
    ]
    print_table("The cost of checkpoints and the meter", ("what", "median", "on disk", "share of the time"), rows)
    if out is not None:
        content = {"seconds": turns, "bytes": sizes_of, "shares": shares}
        facts = {"command": sys.argv, "environment": environment.describe(device)}
        out.write_text(json.dumps({**facts, **content}, indent=1) + "\n")


if __name__ == "__main__":
    main()
