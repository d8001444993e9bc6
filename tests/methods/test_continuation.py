"""A method that is resumed in another process does what it would have done without the break."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT

from ncbench import Method, TrainingView
from ncbench.backbones.base import Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.budget import WorkMeter
from ncbench.noise.registry import draw_noise
from ncbench.runtime.sameness import differences
from ncbench.training.cost import baseline_epoch_work
from ncbench.training.loop import Loop, Workshop

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
    "rince": {"lr": 1e-2},
    "gce": {"lr": 1e-2},
    "coteaching": {"lr": 1e-2, "gradual": 0.0},
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


def make(name: str, seed: int) -> Loop:
    """Return the loop of a method, set up, with networks that dropout and batch statistics give a state of `seed`."""
    tiny = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["tiny_dataset"]()
    train = tiny.splits["train"]
    sizes = Sizes(6, 3, len(tiny.vocabulary), embed=16, similarity=8, word=8, dropout=0.4)
    torch.manual_seed(seed)
    epoch = baseline_epoch_work(build_backbone("saf", sizes), train.captions, 8)
    meter = WorkMeter(20 * epoch)
    workshop = Workshop("saf", sizes, CPU, "float32", meter)
    claimed = draw_noise("shuffle-captions", 0.4, train, 1).claimed
    view = TrainingView(train.images, train.captions, claimed, CPU)
    kind = method_class(name)
    method = kind(kind.Config(**{"batch_size": 8, **SETTINGS[name]}))
    loop = Loop(method, view, workshop, meter, 0, claimed == train.true)
    loop.set_up()
    return loop


def train(loop: Loop) -> list[float]:
    """Train to the end of the epoch; return the losses."""
    return [scalars["loss"] for scalars in takewhile(lambda scalars: scalars is not None, loop.updates())]


def snapshot(loop: Loop) -> dict[str, Any]:
    """Return all that resuming needs."""
    return {**loop.state_dict(), "random": torch.get_rng_state()}


def resume(name: str, path: Path) -> None:
    """Train from the snapshot in `path` to the end of the epoch, and put another snapshot in its place."""
    loop = make(name, seed=1)
    saved = torch.load(path, weights_only=False)
    torch.set_num_threads(saved.pop("threads"))
    loop.load_state_dict(saved)
    torch.set_rng_state(saved["random"])
    losses = train(loop)
    torch.save({**snapshot(loop), "losses": losses}, path)


def serve() -> None:
    """Resume every method that standard input names, followed by a tab and a path; answer in one line."""
    for line in sys.stdin:
        name, _, path = line.rstrip("\n").partition("\t")
        try:
            resume(name, Path(path))
            print("done", flush=True)
        except Exception as error:
            print(repr(error).replace("\n", " "), flush=True)


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Return a function that lets another process `resume`."""
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
def test_a_method_resumes_in_another_process(name: str, done: int, ask: Ask, tmp_path: Path) -> None:
    loop, path = make(name, seed=0), tmp_path / "snapshot"
    assert loop.method.resumes_midway
    train(loop)
    updates = loop.updates()
    for _ in range(done):
        next(updates)
    before = snapshot(loop)
    assert (before["epoch"], before["view"] is not None) == (1, done > 0)
    torch.save({**before, "threads": torch.get_num_threads()}, path)
    losses = [scalars["loss"] for scalars in takewhile(lambda scalars: scalars is not None, updates)]
    expected = {**snapshot(loop), "losses": losses}

    assert ask(name, path) == "done"
    assert differences(torch.load(path, weights_only=False), expected) == []
    moved = differences({**before, "losses": []}, expected)
    state = "['method']"
    networks = (
        (f"{state}['backbone']", f"{state}['networks']"),
        (f"{state}['optimiser']", f"{state}['optimisers']"),
    )
    for parts in (("['random']",), ("['work']",), ("['losses']",), *networks):
        assert any(place.startswith(parts) for place in moved), f"the second epoch leaves {parts} as they were"
