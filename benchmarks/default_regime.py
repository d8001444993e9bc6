"""The default regime of `scenes` for `speed.py`: an update beside torch's own way and its floor, and shares of a run.

All seconds are processor time on one thread, the floor's too, so that other work on the machine counts less.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ncbench import losses
from ncbench.backbones import encoders, gpo
from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.backbones.vse_infinity import hidden_width
from ncbench.data.registry import load_dataset
from ncbench.records.store import Store
from ncbench.runtime.memory import keep_freed_memory
from ncbench.runtime.products import counting
from ncbench.sweeps.fresh_process import warm_up
from ncbench.sweeps.grid import Grid, plan_sweep
from ncbench.training import audit
from ncbench.training.cost import denormals_flushed
from ncbench.training.loop import Loop
from ncbench.training.result import Assessment
from ncbench.training.run import Run
from ncbench.training.trainer import Trainer

BATCH_SIZE, N_BATCHES = 128, 10
WHOLE, END = "second count", object()
FLOAT_BYTES, LARGE = 4, 1024
WORD_FLOATS, POOLED_FLOATS, WEIGHT_FLOATS = 32, 16, 10
"""How often an update reads or writes, at least.

Per word and direction, each unit of the recurrent network: forward 12 times (gates of the input 3, written and read,
those of the state 3, new 1, states 1, states before 1), backward 20 times (the same and their gradients by the loop,
then by two products each). Each element that is pooled: padding, transposition, keys of two words and their sorting,
the sum, and back. Each weight: forward, backward, gradient, and seven times by Adam.
"""


def torchs_mean_states(gru: nn.GRU, packed: PackedSequence) -> Tensor:
    """Return what `mean_states` returns, by torch's GRU alone."""
    states, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
    forward, backward = states.chunk(2, dim=-1)
    return (forward + backward) / 2


def torchs_sort(values: Tensor) -> Tensor:
    """Return what `sort_descending` returns, by torch's sort."""
    return values.sort(dim=-1, descending=True).values


def make_network() -> Backbone:
    """Return the default network of `scenes`."""
    dataset = load_dataset("scenes", None)
    torch.manual_seed(0)
    sizes = Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), **dataset.scale)
    return build_backbone("vse-infinity", sizes)


def make_update(network: Backbone, fused: bool) -> Callable[[tuple[Tensor, ...]], Tensor]:
    """Return a function that makes an update of a network on a batch, and returns the similarities."""
    adam = torch.optim.Adam(network.parameters(), 1e-3, fused=fused)

    def update(batch: tuple[Tensor, ...]) -> Tensor:
        adam.zero_grad()
        similarities: Tensor = network(*batch)
        losses.hinge_max(similarities, 0.2).backward()  # type: ignore[no-untyped-call]
        adam.step()
        return similarities.detach()

    return update


def flops_of(network: Backbone, batch: tuple[Tensor, ...]) -> int:
    """Return the FLOPs of an update on a batch, forward and backward, by the cost formulas."""
    images, _, lengths = batch
    regions = images.shape[1]
    encoders = len(images) * network.image_work(regions) + sum(map(network.caption_work, lengths.tolist()))
    return 3 * (encoders + len(images) * sum(network.pair_work(regions, length) for length in lengths.tolist()))


def products_of(network: Backbone, batch: tuple[Tensor, ...]) -> Counter[tuple[int, int, int]]:
    """Return how many products (m, k) x (k, n) of each size an update makes: the maps of regions and the recurrence.

    What the formulas count besides, pooling, is left out.
    """
    images, _, lengths = batch
    embed, word, dim = network.sizes.embed, network.sizes.word, network.sizes.image_dim
    hidden, regions, words = hidden_width(embed), images.shape[0] * images.shape[1], int(lengths.sum())
    found: Counter[tuple[int, int, int]] = Counter()
    for inputs, outputs in ((dim, embed), (dim, hidden), (hidden, embed)):
        _add(found, regions, inputs, outputs, inputs is not dim)  # features need no gradient
    for _ in range(2):
        _add(found, words, word, 3 * embed)
        for step in range(int(lengths.max())):
            rows = int((lengths > step).sum())
            found[rows, embed, 3 * embed] += 1
            found[rows, 3 * embed, embed] += 1
        found[3 * embed, words, embed] += 1
    return found


def _add(found: Counter[tuple[int, int, int]], rows: int, inputs: int, outputs: int, first: bool = True) -> None:
    """Add the products of a linear map: of rows, gradients of weights and, unless left out, of rows."""
    found[rows, inputs, outputs] += 1
    found[outputs, rows, inputs] += 1
    found[rows, outputs, inputs] += first


def bytes_of(network: Backbone, batch: tuple[Tensor, ...]) -> int:
    """Return an estimate of the bytes that an update reads and writes: see `WORD_FLOATS`."""
    images, tokens, lengths = batch
    embed = network.sizes.embed
    pooled = len(images) * images.shape[1] + tokens.numel()
    weights = sum(weight.numel() for weight in network.parameters())
    floats = 2 * WORD_FLOATS * int(lengths.sum()) * embed + POOLED_FLOATS * pooled * embed + WEIGHT_FLOATS * weights
    return FLOAT_BYTES * floats


def product_seconds(m: int, k: int, n: int, repeats: int) -> float:
    """Return the seconds of a product (m, k) x (k, n), the best of several."""
    one, other = torch.randn(m, k), torch.randn(k, n)
    return min(_seconds(lambda: one @ other) for _ in range(repeats))


def copied_bytes_per_second() -> float:
    """Return how many bytes a large copy reads and writes per second, the best of several."""
    source = torch.randn(2**23)
    target = torch.empty_like(source)
    return 2 * source.numel() * FLOAT_BYTES / min(_seconds(lambda: target.copy_(source)) for _ in range(5))


def _seconds(function: Callable[[], object]) -> float:
    since = time.process_time()
    function()
    return time.process_time() - since


def batches() -> list[tuple[Tensor, ...]]:
    """Return random batches of training pairs: images, tokens, lengths."""
    train = load_dataset("scenes", None).splits["train"]
    rng, found = np.random.default_rng(0), []
    for _ in range(N_BATCHES):
        pairs = rng.choice(len(train.captions), BATCH_SIZE, replace=False)
        arrays = (train.images.take(train.true[pairs]), *train.captions.padded(pairs))
        found.append(tuple(torch.from_numpy(array) for array in arrays))
    return found


def measure_updates(way: str, steps: int) -> dict[str, Any]:
    """Return seconds of updates by "ours" or "torch" on each batch, `steps` times, and what the floor is made of."""
    keep_freed_memory()  # as runs do
    network, given = make_network(), batches()
    update = make_update(network, fused=way == "ours")
    seconds: list[float] = []
    floors: list[dict[str, float]] = []
    with ExitStack() as stack:
        stack.enter_context(denormals_flushed())
        if way == "torch":
            for module in (encoders, gpo):
                stack.enter_context(mock.patch.object(module, "mean_states", torchs_mean_states))
            stack.enter_context(mock.patch.object(gpo, "sort_descending", torchs_sort))
        sample = update(given[0])[:8, :8].tolist()
        for batch in given:
            update(batch)
        for _ in range(steps):
            seconds.extend(_seconds(lambda batch=batch: update(batch)) for batch in given)  # type: ignore[misc]
            if way == "ours":
                floors.append(floor_of(network, given))
    floor = {key: statistics.median(found[key] for found in floors) for key in floors[0]} if floors else None
    return {"seconds": seconds, "peak": None, "sample": sample, "floor": floor and floor["floor"], "details": floor}


def floor_of(network: Backbone, given: list[tuple[Tensor, ...]]) -> dict[str, float]:
    """Return the work of an update, mean over batches, rates as they are now, and the seconds of the floor."""
    flops = statistics.mean(flops_of(network, batch) for batch in given)
    rate = 2 * LARGE**3 / product_seconds(LARGE, LARGE, LARGE, 5)
    products = products_of(network, given[0])
    at_hand = sum(count * product_seconds(*size, 5) for size, count in products.items())
    counted = sum(2 * m * k * n * count for (m, k, n), count in products.items())
    moved, copied = statistics.mean(bytes_of(network, batch) for batch in given), copied_bytes_per_second()
    return {
        "flops": flops,
        "bytes": moved,
        "rate of a large product": rate,
        "rate of products at these sizes": counted / at_hand,
        "bytes copied per second": copied,
        "floor": flops / rate,
        "floor at these sizes": flops * at_hand / counted,
        "seconds of copying the bytes": moved / copied,
    }


class Shares:
    """Processor seconds of the parts of a run, each counted without the parts inside it; `inside` times a function.

    What is inside `WHOLE` is not counted separately.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner, self._whole = [0.0], False

    def inside(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, timed as `part`."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._whole:
                return function(*args, **kwargs)
            self._inner.append(0.0)
            self._whole = part == WHOLE
            since = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - since
                self._whole = False
                self.seconds[part] += took - self._inner.pop()
                self._inner[-1] += took

        return timed


def run_shares(method: str, device: torch.device) -> dict[str, float]:
    """Return the processor seconds of the parts of a default run of `scenes`, and the number of its updates.

    "updates" is what the method does, without "meter": its reports of work. "isolation" is what the loop, the guarded
    thread and the line to the meter add around them. `WHOLE` are the updates in which torch counts, of which there are
    "counted". What a thread does while another waits counts for the part that waits.
    """
    (planned,) = plan_sweep(Grid(["scenes"], ["shuffle-images"], [0.4], [method], [], [], [0]))
    warm_up(planned.dataset)  # as the parent of a run does
    shares, plain_updates, numbers = Shares(), Loop.updates, Counter[str]()

    class Timed(planned.method):  # type: ignore[name-defined, misc]
        def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
            found = super().train_epoch(epoch)
            step = shares.inside("updates", lambda: next(found, None))
            while (scalars := step()) is not None:
                numbers["of updates"] += 1
                yield scalars

    def timed_updates(loop: Loop) -> Iterator[object]:
        found = plain_updates(loop)
        step = shares.inside("isolation", lambda: next(found, END))
        while (scalars := step()) is not END:
            yield scalars

    def counted(update: Callable[[], object]) -> tuple[object, int]:
        numbers["counted"] += 1
        return counting(update)

    timed: list[tuple[Any, str, str, Any]] = [
        (Backbone, "_report", "meter", Backbone._report),
        (Trainer, "set_up", "start", Trainer.set_up),
        (Trainer, "_select", "dev evaluation", Trainer._select),
        (Assessment, "result", "test evaluation and beliefs", Assessment.result),
        (Assessment, "measurements", "judgement of the second count", Assessment.measurements),
        (Run, "_save", "checkpoints", Run._save),
        (Run, "_execute", "reports and writing", Run._execute),
        (audit, "counting", WHOLE, counted),
    ]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for owner, name, part, function in timed:
            stack.enter_context(mock.patch.object(owner, name, shares.inside(part, function)))
        stack.enter_context(mock.patch.object(Loop, "updates", timed_updates))
        spec, store = planned.spec, Store(Path(folder))
        Run(spec, planned.dataset, planned.noise, Timed, store.start(spec), device, lambda progress: None).execute()
    return {**shares.seconds, **numbers}


def parts_of(found: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of a whole run from what `run_shares` returns; of `WHOLE`, only what it adds to updates."""
    seconds = {name: value for name, value in found.items() if name not in ("of updates", "counted")}
    whole = sum(seconds.values())
    each = seconds["updates"] / (found["of updates"] - found["counted"])
    seconds["updates"] += each * found["counted"]
    seconds[WHOLE] -= each * found["counted"]
    return {name: value / whole for name, value in seconds.items()}
