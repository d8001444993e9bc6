"""What keeping methods apart costs: a thread, a line to the meter, watched updates, a process per run.

python benchmarks/isolation.py [--updates 60]

Trains plainly on `scenes`, with its default backbone and sizes, on one thread: with everything as in a run, and without
one part after the other. Ways take turns, update by update, so that a busy machine slows all of them. Prints the median
time of an update and its ratio to the barest way, and the time from the start of a fork to its first word.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import torch

from ncbench.budget import Budget, WorkMeter
from ncbench.data.registry import load_dataset
from ncbench.method.registry import load_method, settings_of
from ncbench.method.settings import apply_sizes
from ncbench.noise.registry import draw_noise
from ncbench.records.spec import RunSpec, sizes_of
from ncbench.runtime.forks import Fork
from ncbench.runtime.products import counting
from ncbench.training.audit import Audit
from ncbench.training.cost import denormals_flushed, one_thread
from ncbench.training.loop import Loop, Workshop
from ncbench.training.numbering import Numbering
from ncbench.training.seclusion import Secluded


class Open(Secluded):
    """Calls a method in the thread of the harness."""

    def call(self, function: Callable[..., object], *args: object) -> object:  # type: ignore[override]
        """Return `function(*args)`."""
        return function(*args)


def updates(way: str, backbone: str) -> Iterator[object]:
    """Train by one of the ways; yield after every update."""
    dataset, kind = load_dataset("scenes", None), load_method("triplet")
    train, noise = dataset.splits["train"], draw_noise("shuffle-images", 0.4, dataset.splits["train"], 0)
    settings = settings_of(kind, "scenes")
    spec = RunSpec.of(
        dataset,
        noise,
        kind,
        settings,
        backbone=backbone,
        budget=Budget(1.0),
        evaluations=1,
        seed=0,
        sizes=apply_sizes(dataset.scale, ()),
    )
    meter = WorkMeter(10**18)
    workshop = Workshop(backbone, sizes_of(spec, dataset), torch.device("cpu"), "float32", meter)
    if way == "bare":
        workshop.line = meter  # type: ignore[assignment]
    method = (Secluded if way in ("secluded", "counted") else Open)(kind(kind.Config(**settings)))
    if way == "counted":
        method.watch = lambda update: method.call(counting, update)[0]
    numbering = Numbering.draw(len(train.captions), len(train.images), 0)
    view = numbering.view(train.images, train.captions, noise.claimed, torch.device("cpu"))
    torch.manual_seed(0)
    loop = Loop(method, view, workshop, meter, 0)  # type: ignore[arg-type]
    loop.set_up()
    return loop.updates()


UPDATES_OF_A_RUN = 785
"""Of a method with one network, at the default budget."""

WAYS = {
    "bare": "in the thread of the harness, with the meter itself",
    "line": "with a line to the meter",
    "secluded": "in a guarded thread of its own",
    "counted": "with every update counted by torch",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--backbone", default="vse-infinity")
    options = parser.parse_args()
    with one_thread(), denormals_flushed():
        trained = {way: updates(way, options.backbone) for way in WAYS}
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(options.updates + 3):
            for way, steps in trained.items():
                since = time.process_time()
                next(steps)
                if number >= 3:
                    times[way].append(time.process_time() - since)
        barest = sum(times["bare"])
        for way, words in WAYS.items():
            middle = 1000 * statistics.median(times[way])
            print(f"{way:10} {middle:7.2f} ms, {sum(times[way]) / barest - 1:+6.2%} in all: {words}")
        kind = load_method("triplet")
        audit = Audit(Open(kind(kind.Config())), WorkMeter(1))
        for _ in range(UPDATES_OF_A_RUN):
            audit.watch(lambda: None)
        watched = audit.state_dict()["watched"]
        share = watched * (sum(times["counted"]) / sum(times["secluded"]) - 1) / UPDATES_OF_A_RUN
        print(f"watched    {watched} of {UPDATES_OF_A_RUN} updates of a run are counted: {share:+.2%}")
        starts = [start() for _ in range(10)]
    print(f"fork       {1000 * statistics.median(starts):7.2f} ms until the first word of a process with the data set")


def start() -> float:
    """Return the seconds from the start of a fork to its first word."""

    def speak(pipe: Connection) -> None:
        pipe.send(None)

    since = time.perf_counter()
    with Fork(speak) as fork:
        fork.pipe.recv()
        return time.perf_counter() - since


if __name__ == "__main__":
    main()
