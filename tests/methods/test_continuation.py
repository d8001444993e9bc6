"""A method that goes on from its state in another process does what it would have done without the break."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from places import ROOT

from ncbench import Method, Task, TrainingView
from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.budget import WorkMeter
from ncbench.checks.method.sameness import differences
from ncbench.noise.registry import draw_noise
from ncbench.runtime.state import capture
from ncbench.training.cost import baseline_epoch_work

CPU = torch.device("cpu")
SETTINGS: dict[str, dict[str, Any]] = {
    "infonce": {},
    "rce": {},
    "oracle": {"warmup": 0.0},
    "rcl": {"ratio": 0.5},
    "decl": {"warmup": 0.0, "lr": 1e-2},
    "triplet": {"warmup": 0.0},
    "mscn": {"warmup": 0.0, "warmup_batch": 8, "meta_batch": 8, "hidden": 8, "lr": 1e-2, "meta_lr": 1e-2},
    "l2rm": {"warmup": 0.0, "queue": 8, "lr": 1e-2},
    "ncr": {"warmup": 0.0, "noisy_after": 0.0, "lr": 1e-2},
    "bicro": {"warmup": 0.0, "noisy_after": 0.0, "lr": 1e-2},
    "crcl": {"lr": 1e-2},
    "gsc": {"lr": 1e-2, "gamma": 1.0},
}
"""Small settings of every method, in which its second epoch depends on all that the first has left."""

Ask = Callable[[str, Path], str]


SERVE = """
import runpy, sys
sys.path[:0] = [sys.argv[1] + "/helpers"]
runpy.run_path(sys.argv[2])["serve"]()
"""


def method_class(name: str) -> type[Method]:
    """Return the method called `name`, which its module of the same name defines."""
    module = import_module(f"ncbench_methods.{name}")
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and getattr(value, "name", None) == name
    ]
    return found


def make(name: str, seed: int) -> Method:
    """Return a method after `setup`, with networks that dropout and batch statistics give a state; `seed` is theirs."""
    tiny = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["tiny_dataset"]()
    train = tiny.splits["train"]
    sizes = Sizes(6, 3, len(tiny.vocabulary), embed=16, similarity=8, word=8, dropout=0.4)
    torch.manual_seed(seed)
    epoch = baseline_epoch_work(build_backbone("saf", sizes), train.captions, 8)
    meter = WorkMeter(20 * epoch)

    def new_backbone(*, head: int = 0) -> Backbone:
        net = build_backbone("saf", replace(sizes, head=head))
        net.on_work = meter.charge
        return net

    claimed = draw_noise("shuffle-captions", 0.4, train, 1).claimed
    view = TrainingView(train.images, train.captions, claimed, CPU)
    kind = method_class(name)
    method = kind(kind.Config(**{"batch_size": 8, **SETTINGS[name]}))
    truth = claimed == train.true
    told = np.flatnonzero(truth)[: method.clean_pairs_needed(len(view))]
    method.setup(Task(view, CPU, meter, new_backbone, 0, truth if kind.needs_truth else None, told))
    return method


def train(method: Any, epoch: int) -> list[float]:
    return [scalars["loss"] for scalars in method.train_epoch(epoch)]


def snapshot(method: Any) -> dict[str, Any]:
    """Return all that training goes on from; the snapshot is of the middle of an epoch if `view` holds anything."""
    return {
        "state": method.state_dict(),
        "view": capture(dict(sorted(method.task.data.state_dict().items()))),
        "random": torch.get_rng_state(),
        "used": method.task.budget.used,
    }


def go_on(name: str, path: Path) -> None:
    """Train from the snapshot in `path` to the end of the second epoch, and put another snapshot in its place."""
    method: Any = make(name, seed=1)
    saved = torch.load(path, weights_only=False)
    torch.set_num_threads(saved["threads"])
    method.load_state_dict(saved["state"])
    torch.set_rng_state(saved["random"])
    method.task.budget.used = saved["used"]
    if saved["view"]:
        method.task.data.load_state_dict(saved["view"])
    losses = train(method, 1)
    torch.save({**snapshot(method), "losses": losses}, path)


def serve() -> None:
    """Go on with every method that standard input names, followed by a tab and a path; answer in one line."""
    for line in sys.stdin:
        name, _, path = line.rstrip("\n").partition("\t")
        try:
            go_on(name, Path(path))
            print("done", flush=True)
        except Exception as error:
            print(repr(error).replace("\n", " "), flush=True)


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Return a function that has another process `go_on`."""
    command = [sys.executable, "-c", SERVE, str(ROOT / "tests"), __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def answer(name: str, path: Path) -> str:
            process.stdin.write(f"{name}\t{path}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield answer


@pytest.mark.parametrize("done", [0, 1, 2, 3], ids=lambda done: f"after-{done}-updates-of-an-epoch")
@pytest.mark.parametrize("name", SETTINGS)
def test_goes_on_in_another_process(name: str, done: int, ask: Ask, tmp_path: Path) -> None:
    method, path = make(name, seed=0), tmp_path / "snapshot"
    assert method.resumes_midway
    train(method, 0)
    method.task.data.begin_epoch()  # type: ignore[attr-defined]
    epoch = method.train_epoch(1)
    for _ in range(done):
        next(epoch)
    torch.save({**snapshot(method), "threads": torch.get_num_threads()}, path)
    losses = [scalars["loss"] for scalars in epoch]
    expected = {**snapshot(method), "losses": losses}
    before = torch.load(path, weights_only=False)
    del before["threads"]

    assert ask(name, path) == "done"
    assert differences(torch.load(path, weights_only=False), expected) == []
    moved = differences({**before, "losses": []}, expected)
    networks = ("['state']['backbone']", "['state']['networks']"), ("['state']['optimiser']", "['state']['optimisers']")
    for parts in (("['random']",), ("['used']",), ("['losses']",), *networks):
        assert any(place.startswith(parts) for place in moved), f"the second epoch leaves {parts} as they were"
