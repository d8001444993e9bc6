"""Whether training is reproducible: from the same seed, from a saved state, after an interruption."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import torch

from ncbench.checks.method.candidate import Candidate, Recorded
from ncbench.checks.verdicts import Check, Failed, Skipped
from ncbench.runtime.sameness import differences
from ncbench.runtime.signals import Stopped
from ncbench.runtime.state import State
from ncbench.training.checkpoint import read_snapshot, write_snapshot
from ncbench.training.run import Cadence, Run

STOPS = (1, 6, 13)  # updates after which a run is interrupted; an epoch of plain training has 8
AT_EPOCHS = Cadence(epoch=0.0, midway=math.inf)
UPDATES_BEFORE_STATE = 10


def disturb(number: int) -> None:
    """Seed the global generators differently, as another process might."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def _compare(candidate: Candidate, other: Recorded, what: str) -> None:
    """Raise Failed unless a record is that of the plain run."""
    places = differences(candidate.plain.result, other.result)
    if places:
        raise Failed(f"{what} ends in another result: {', '.join(places[:3])}")
    if candidate.plain.weights != other.weights:
        raise Failed(f"{what} ends in other weights")


def _same_seed(candidate: Candidate) -> str:
    _ = candidate.plain
    disturb(1)
    time.sleep(0.01)
    _compare(candidate, Recorded.of(candidate.run()), "a second run")
    return "two runs end in the same result, bit by bit"


def _state(candidate: Candidate) -> str:
    loop = candidate.loop()
    loop.set_up()
    for number, scalars in enumerate(loop.updates()):
        if (number >= UPDATES_BEFORE_STATE and loop.method.resumes_midway) or scalars is None:
            break
    kept = loop.method.state_dict()
    folder = candidate.new_folder()
    write_snapshot(folder, 0, kept)
    read = read_snapshot(folder, _complain)
    if read is None:
        raise Failed("its state cannot be read back")
    _equal("after reading it from a file", kept, read)
    again = candidate.loop(first_weights=1)
    again.set_up()
    again.method.load_state_dict(read)
    _equal("after a new object has loaded it", kept, again.method.state_dict())
    size = sum(file.stat().st_size for file in folder.iterdir())
    return f"{size / 1024:.0f} KiB of safetensors and JSON, restored by a new object"


def _complain(message: str) -> None:
    raise Failed(message)


def _equal(how: str, kept: State, other: State) -> None:
    places = differences(kept, other)
    if places:
        raise Failed(f"its state differs {how}: {', '.join(places[:3])}")


def _resume(candidate: Candidate) -> str:
    folder = candidate.new_folder()
    interrupted = 0
    for number, stop in enumerate((*STOPS, None)):
        disturb(100 + number)
        run = candidate.run(folder=folder, cadence=AT_EPOCHS)
        _stop_at(run, stop)
        try:
            found = Recorded.of(run)
            break
        except Stopped:
            interrupted += 1
    if not interrupted:
        raise Skipped("it makes only one update, so it cannot be interrupted")
    _compare(candidate, found, f"a run that was interrupted {interrupted} times")
    how = "in the middle of epochs" if candidate.method.resumes_midway else "after complete epochs"
    return f"interrupted {interrupted} times and resumed {how}, with the same result"


def _stop_at(run: Run, updates: int | None) -> None:
    """Interrupt `run` after so many updates; None: never."""
    if updates is not None:
        run.should_stop = lambda: run.trainers[0].updates >= updates


SAME_SEED = Check(
    "same-seed",
    "the same seed gives the same result on this device, bit by bit",
    "draw from task.rng('a name') or torch's global generator; nothing may depend on time, sets or object addresses",
    _same_seed,
    after=("trains", "budget", "pair-scores"),
)
STATE = Check(
    "state",
    "its state survives safetensors and JSON, and a new object restores it, bit by bit",
    "keep state in attributes of supported types (ncbench.runtime.state), or define state_dict and load_state_dict",
    _state,
    after=("trains", "budget"),
)
RESUME = Check(
    "resume",
    "an interrupted run that resumes from its checkpoint ends in the same result as one without a break",
    "train_epoch is called again when an epoch is resumed: create batches there, in the same order every time; keep "
    "other state in attributes, not in local variables; prepare epochs in begin_epoch; or set resumes_midway = False",
    _resume,
    after=("trains", "budget", "pair-scores", "same-seed", "state"),
)
