"""Measure the speed of the backbones against the published loop over captions, and the overhead of the harness.

Usage: python benchmarks/speed.py [NAME ...] [--repeats 5] [--threads 2] [--device auto] [--out FILE.json]

Each row of the table compares two implementations of the same computation, with the same weights. They run in separate
processes that take turns, so that other load on the machine affects both. Columns: median seconds; the median of the
ratios of neighbours, with the smallest and the largest; our time relative to that of as many FLOPs at the rate of a
large matrix product, measured at the same time; peak memory; and the largest difference between the results.
Measurements (all of them unless named):

  train-paper      forward and backward of the 128 x 128 similarity, hardest negatives, at the size used in papers
  train-scenes     the same at the size of `scenes`, 32 x 32, on one thread, as the harness runs it
  eval-paper       similarities of 1,000 images and a sample of the 5,000 captions, the loop with 1,000 images per call
  eval-paper-100   the same, the loop with 100 images per call
  eval-scenes      the same at the size of `scenes` (1,000 of the captions)
  eval-scenes-100  the same, the loop with 100 images per call
  tf32, bf16       train-paper, our step against the same in another precision (for GPUs)
  transport        a training step at the size used in papers against L2RM's transport plan for it
  overhead         an update of triplet on `scenes` in the harness (trainer, meter, live table) against the method alone
  default-update   an update of the default regime of `scenes` (`vse-infinity`, 128 pairs) against one with torch's own
                   GRU, sort and Adam: FLOPs, bytes, rates of products and its floor; processor time on one thread
  default-run      a whole default run of triplet on `scenes` against its updates alone, with the share of each part:
                   dev evaluation (wanted: at most 5 %); meter, isolation, second count and writing (at most 3 %)

The loop runs in a plain process, as the published code does. `loop*` is the loop with the harness's allocator setting,
which keeps freed memory; it shows how much of a ratio is due to that.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
from default_regime import measure_updates, parts_of, run_shares
from published_loop import PublishedLoop
from rich.console import Console
from torch import Tensor

from ncbench import losses, transport
from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.graph import SGR
from ncbench.backbones.precision import matmul_precision
from ncbench.backbones.registry import build_backbone
from ncbench.budget import Budget
from ncbench.cli.display.live import LiveTable
from ncbench.cli.display.output import print_table
from ncbench.data.dataset import Captions, ImageFeatures, Split
from ncbench.data.registry import load_dataset
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.method.settings import Override
from ncbench.records.store import Store
from ncbench.runtime import environment, memory
from ncbench.runtime.device import DEVICES, choose_device, synchronise
from ncbench.sweeps.grid import Grid, plan_sweep
from ncbench.training.run import Run

PAPER = Sizes(image_dim=2048, n_regions=36, vocabulary=8481)
MARGIN = 0.2
PLANS = 50


@dataclass(frozen=True)
class Measurement:
    """A measurement: the kind of `work`, and the names of two implementations, the slower one first."""

    work: str
    size: str
    ways: tuple[str, str]
    claim: str


MEASUREMENTS = {
    "train-paper": Measurement("train", "paper", ("loop", "ours"), ">= 1.5, no more memory"),
    "train-paper*": Measurement("train", "paper", ("loop*", "ours"), ""),
    "train-scenes": Measurement("train", "scenes", ("loop", "ours"), ">= 3"),
    "train-scenes*": Measurement("train", "scenes", ("loop*", "ours"), ""),
    "eval-paper": Measurement("eval", "paper", ("loop 1000", "ours"), ">= 3"),
    "eval-paper*": Measurement("eval", "paper", ("loop* 1000", "ours"), ""),
    "eval-paper-100": Measurement("eval", "paper", ("loop 100", "ours"), ""),
    "eval-scenes": Measurement("eval", "scenes", ("loop 1000", "ours"), ">= 3"),
    "eval-scenes*": Measurement("eval", "scenes", ("loop* 1000", "ours"), ""),
    "eval-scenes-100": Measurement("eval", "scenes", ("loop 100", "ours"), ""),
    "tf32": Measurement("train", "paper", ("ours", "ours tf32"), ""),
    "bf16": Measurement("train", "paper", ("ours", "ours bf16"), ""),
    "transport": Measurement("train", "paper", ("ours", "transport"), ">= 20"),
    "overhead": Measurement("update", "scenes", ("harness", "method alone"), "<= 1.03"),
    "default-update": Measurement("default", "scenes", ("torch", "ours"), "<= 2 times the floor"),
    "default-run": Measurement("run", "scenes", ("run", "updates"), "dev 5 %, harness 3 %"),
}
BOTH_SIDES = ("update", "run")
"""Kinds of work whose two sides are measured in one process."""


def make_data(size: str, work: str) -> tuple[Sizes, Split]:
    """Return sizes of a network, and images and captions: synthetic ones, or training pairs of `scenes`."""
    rng = np.random.default_rng(0)
    n_images, n_captions = {"train-paper": (128, 128), "train-scenes": (32, 32), "eval-paper": (1000, 192)}.get(
        f"{work}-{size}", (1000, 1000)
    )
    if size == "scenes":
        dataset = load_dataset("scenes", None)
        train = dataset.splits["train"]
        chosen = rng.choice(len(train.captions), n_captions, replace=False)
        tokens, lengths = train.captions.padded(chosen)
        captions = Captions([""] * n_captions, [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)])
        images = ImageFeatures([train.images.take(np.arange(n_images))])
        scale: dict[str, Any] = {**dataset.scale, **SGR.PRESETS["scenes"]}
        sizes = Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), **scale)
        return sizes, Split(images, captions, np.arange(n_captions) % n_images)
    # Lengths like those of Flickr30K captions: 14 tokens on average, including start and end.
    lengths = rng.gamma(8, 1.4, n_captions).round().astype(int) + 3
    words = [rng.integers(4, PAPER.vocabulary, length).tolist() for length in lengths]
    features = rng.random((n_images, PAPER.n_regions, PAPER.image_dim), np.float32)
    return PAPER, Split(ImageFeatures([features]), Captions([""] * n_captions, words), np.arange(n_captions) % n_images)


def first_captions(split: Split, count: int) -> Split:
    """Return the split with only its first captions."""
    tokens, lengths = split.captions.padded(np.arange(count))
    words = [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    return Split(split.images, Captions([""] * count, words), split.true[:count])


def make_step(network: Backbone, way: str, split: Split, device: torch.device) -> Callable[[], Tensor]:
    """Return a function that does one forward and backward pass over a batch, and returns the similarities."""
    tokens, lengths = split.captions.padded(np.arange(len(split.captions)))
    images = torch.from_numpy(split.images.take(np.arange(len(split.images)))).to(device)
    words, n_words = torch.from_numpy(tokens).to(device), torch.from_numpy(lengths)
    score = PublishedLoop(network) if way.startswith("loop") else network

    def step() -> Tensor:
        network.zero_grad()
        similarities: Tensor = score(images, words, n_words)
        losses.hinge_max(similarities, MARGIN).backward()  # type: ignore[no-untyped-call]
        return similarities

    return step


def make_evaluation(network: Backbone, way: str, split: Split, device: torch.device) -> Callable[[], Tensor]:
    """Return a function that computes the similarities of a split; `way` says how many images per call."""
    network.eval()
    if way == "ours":
        return lambda: torch.from_numpy(similarity_matrix([network], split, device))
    loop, images_each = PublishedLoop(network), int(way.split()[1])

    @torch.no_grad()
    def evaluate() -> Tensor:
        numbers = np.arange(len(split.images))
        tokens, lengths = split.captions.padded(np.arange(len(split.captions)))
        words = loop.words(torch.from_numpy(tokens).to(device), torch.from_numpy(lengths))
        blocks = []
        for start in range(0, len(numbers), images_each):
            images = torch.from_numpy(split.images.take(numbers[start : start + images_each])).to(device)
            blocks.append(loop.score(loop.regions(images), words, torch.from_numpy(lengths)).cpu())
        return torch.cat(blocks)

    return evaluate


def update_seconds(device: torch.device) -> tuple[list[float], list[float]]:
    """Return the seconds of every update of triplet on `scenes`, with and without the harness.

    Both are measured on the same updates, because no machine is quiet enough to detect one per cent between two runs.
    The harness is everything that happens between two updates of the method, and the report of work before each call of
    the network.
    """
    small = [Override("triplet", "batch_size", "32")]
    grid = Grid(["scenes"], ["shuffle-images"], [0.4], ["triplet"], ["sgr"], [Budget(0.1)], [0], 1, small)
    (planned,) = plan_sweep(grid)
    whole: list[float] = []
    alone: list[float] = []
    reporting = [0.0]

    class Timed(planned.method):  # type: ignore[name-defined, misc]
        def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
            updates = super().train_epoch(epoch)
            before = None
            while True:
                started, reporting[0] = time.perf_counter(), 0.0
                scalars = next(updates, None)
                if scalars is None:
                    return
                if before is not None:
                    whole.append(time.perf_counter() - before)
                    alone.append(time.perf_counter() - started - reporting[0])
                before = time.perf_counter()
                yield scalars

    report = Backbone._report

    def timed_report(network: Backbone, flops: int, **counts: int) -> None:
        started = time.perf_counter()
        report(network, flops, **counts)
        reporting[0] += time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Backbone, "_report", timed_report):
        table = LiveTable([planned.spec], Console(file=io.StringIO(), force_terminal=True, width=200))
        table.started(0)
        spec, store = planned.spec, Store(Path(folder))
        run = Run(
            spec,
            planned.dataset,
            planned.noise,
            Timed,
            store.start(spec),
            device,
            lambda progress: table.progressed(0, progress),
        )
        with table.live:
            run.execute()
    return whole, alone


def plan_seconds(count: int, device: torch.device) -> list[float]:
    """Return the seconds of each of `count` transport plans, with the settings of L2RM on Flickr30K.

    Costs resemble those of `sgr` trained on `scenes`: complements of sigmoids that are nearly all close to 0.
    """
    generator = torch.Generator().manual_seed(0)
    given = torch.eye(128, dtype=torch.bool, device=device)
    seconds = []
    for _ in range(count + 1):  # the first one loads the solver
        cost = 1 - (2 * torch.randn(128, 128, generator=generator) - 7).sigmoid().to(device)
        synchronise(device)
        started = time.perf_counter()
        transport.partial_transport(cost, mass=0.1, reg=0.01, forbidden=given)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def measure(work: str, size: str, way: str, steps: int, device: torch.device) -> dict[str, Any]:
    """Return the seconds of each of `steps` of one implementation, its peak memory, and a sample of its result."""
    if work == "update":
        whole, alone = update_seconds(device)
        return {"seconds": whole, "alone": alone, "peak": None, "sample": None, "floor": None}
    if work == "default":
        return measure_updates(way, steps)
    if work == "run":
        found = run_shares("triplet", device)
        shares = parts_of(found)
        whole = sum(found[name] for name in shares)
        sides = {"seconds": [whole], "alone": [whole * shares["updates"]], "details": {**found, "shares": shares}}
        return {**sides, "peak": None, "sample": None, "floor": None}
    if way == "transport":
        return {"seconds": plan_seconds(PLANS, device), "peak": None, "sample": None, "floor": None}
    sizes, split = make_data(size, work)
    if not way.startswith("loop ") and way != "loop":
        memory.keep_freed_memory()
    torch.manual_seed(0)
    network = build_backbone("sgr", sizes).to(device).train()
    words = way.split()
    precision = words[1] if words[-1] in ("tf32", "bf16") else "float32"
    network.use_precision(precision)
    torch.manual_seed(1)
    for module in network.modules():  # so that both results can be compared
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    make = make_step if work == "train" else make_evaluation
    seconds = []
    with matmul_precision(precision):
        run = make(network, words[0] if precision != "float32" else way, split, device)
        memory.reset_peak()
        before = memory.peak_bytes() or 0
        if work == "eval":  # a complete evaluation would take minutes
            make(network, way, first_captions(split, 8), device)()
        for _ in range(steps + (work == "train")):  # the first step warms up
            synchronise(device)
            started = time.perf_counter()
            computed = run()
            synchronise(device)
            seconds.append(time.perf_counter() - started)
    floor = floor_flops(network, split, work) / product_rate(device) if way == "ours" else None
    on_device = (
        torch.cuda.max_memory_allocated(device) if device.type == "cuda" else (memory.peak_bytes() or 0) - before
    )
    return {"seconds": seconds[-steps:], "peak": on_device, "sample": computed[:8, :8].tolist(), "floor": floor}


def floor_flops(network: Backbone, split: Split, work: str) -> int:
    """Return the FLOPs of the formulation by the cost formulas, times three if there is a backward pass."""
    n_images, n_regions = len(split.images), network.sizes.n_regions
    lengths = split.captions.lengths.tolist()
    pairs = n_images * sum(network.pair_work(n_regions, length) for length in lengths)
    once = n_images * network.image_work(n_regions) + sum(map(network.caption_work, lengths)) + pairs
    return 3 * once if work == "train" else once


def product_rate(device: torch.device) -> float:
    """Return the FLOPs per second of a large matrix product, the best of several."""
    one, other = torch.randn(4096, 1024, device=device), torch.randn(1024, 256, device=device)
    seconds = []
    for _ in range(20):
        synchronise(device)
        started = time.perf_counter()
        one @ other
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return 2 * 4096 * 1024 * 256 / min(seconds)


def other_process(name: str, way: str, steps: int, threads: int, device: str) -> dict[str, Any]:
    """Return the result of `measure` in a separate process."""
    words = [sys.executable, __file__, name, "--way", way, "--steps", str(steps), "--device", device]
    done = subprocess.run([*words, "--threads", str(threads)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option("--repeats", default=5, show_default=True, help="Number of pairs of processes.")
@click.option("--steps", default=3, show_default=True, help="Steps or evaluations in each process.")
@click.option("--threads", default=2, show_default=True, help="Threads at the size used in papers.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--way", hidden=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the numbers as JSON.")
def main(
    names: tuple[str, ...], repeats: int, steps: int, threads: int, device: str, way: str | None, out: Path | None
) -> None:
    """Measure speed and memory of pairs of implementations; see the top of this file."""
    chosen = choose_device(device)
    if way is not None:
        measurement = MEASUREMENTS[names[0]]
        torch.set_num_threads(threads if measurement.size == "paper" else 1)
        print(json.dumps(measure(measurement.work, measurement.size, way, steps, chosen)))
        return
    results = {}
    rows = []
    default = [name for name in MEASUREMENTS if chosen.type == "cuda" or name not in ("tf32", "bf16")]
    for name in names or default:
        measurement = MEASUREMENTS[name]
        pairs = []
        for _ in range(repeats):
            ways = measurement.ways[: 1 if measurement.work in BOTH_SIDES else 2]
            sides = [other_process(name, one, steps, threads, device) for one in ways]
            if measurement.work in BOTH_SIDES:
                sides.append({**sides[0], "seconds": sides[0]["alone"]})
            pairs.append(sides)
            click.echo(f"{name}: {[statistics.median(side['seconds']) for side in sides]}", err=True)
        results[name] = summary(measurement, pairs)
        rows.append(row(name, measurement, results[name]))
        if results[name]["details"]:
            click.echo(json.dumps(results[name]["details"], indent=1), err=True)
    columns = ("measurement", "seconds", "ratio (range)", "wanted", "times the floor", "peak memory", "difference")
    print_table("Two implementations of the same computation", columns, rows)
    if out is not None:
        content = {"command": sys.argv, "environment": environment.describe(chosen), "measurements": results}
        out.write_text(json.dumps(content, indent=1) + "\n")


def summary(measurement: Measurement, pairs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return medians, ratios and memory over the pairs of processes of a measurement."""
    medians = [[statistics.median(side["seconds"]) for side in sides] for sides in pairs]
    samples = [[np.array(side["sample"]) for side in sides] for sides in pairs if sides[1]["sample"] is not None]
    return {
        "ways": measurement.ways,
        "seconds": [statistics.median(column) for column in zip(*medians, strict=True)],
        "ratios": sorted(first / second for first, second in medians),
        "peaks": [max((side["peak"] or 0) for side in column) for column in zip(*pairs, strict=True)],
        "floor": pairs[0][1]["floor"] and statistics.median(sides[1]["floor"] for sides in pairs),
        "details": pairs[-1][1].get("details"),
        "difference": max((float(abs(one - other).max()) for one, other in samples), default=None),
    }


def row(name: str, measurement: Measurement, found: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of the table."""
    ratios = found["ratios"]
    seconds = ", ".join(f"{way} {time:.3g}" for way, time in zip(found["ways"], found["seconds"], strict=True))
    peaks = " / ".join(f"{peak / 2**20:,.0f} MiB" for peak in found["peaks"]) if any(found["peaks"]) else "-"
    ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    difference = "-" if found["difference"] is None else f"{found['difference']:.1e}"
    floors = "-" if found["floor"] is None else f"{found['seconds'][1] / found['floor']:.2f}"
    return name, seconds, ratio, measurement.claim, floors, peaks, difference


if __name__ == "__main__":
    main()
