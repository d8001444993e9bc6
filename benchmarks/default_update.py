"""Time an update of the default regime of `scenes` beside one with torch's own GRU, sort and optimiser.

Usage: OMP_NUM_THREADS=1 python benchmarks/default_update.py [--rounds 5]

Both train `vse-infinity` on the same batches, in turns, in one process. Prints the medians, their ratio, and how many
times the floor ours takes: the FLOPs of an update, by the cost formulas, at the rate of a large product, which is
measured in the same turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from unittest import mock

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ncbench import losses
from ncbench.backbones import encoders, gpo
from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.data.registry import load_dataset
from ncbench.runtime.memory import keep_freed_memory

BATCH_SIZE, N_BATCHES = 128, 10


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


def make_update(network: Backbone, fused: bool) -> Callable[[tuple[Tensor, ...]], None]:
    """Return a function that makes an update of a network on a batch."""
    adam = torch.optim.Adam(network.parameters(), 1e-3, fused=fused)

    def update(batch: tuple[Tensor, ...]) -> None:
        adam.zero_grad()
        losses.hinge_max(network(*batch), 0.2).backward()  # type: ignore[no-untyped-call]
        adam.step()

    return update


def flops_of(network: Backbone, batch: tuple[Tensor, ...]) -> int:
    """Return the FLOPs of an update on a batch, forward and backward, by the cost formulas."""
    images, _, lengths = batch
    regions = images.shape[1]
    encoders = len(images) * network.image_work(regions) + sum(map(network.caption_work, lengths.tolist()))
    return 3 * (encoders + len(images) * sum(network.pair_work(regions, length) for length in lengths.tolist()))


def product_rate() -> float:
    """Return the FLOP/s of a large product."""
    size = 1024
    one, other = torch.randn(size, size), torch.randn(size, size)
    since = time.perf_counter()
    one @ other
    return 2 * size**3 / (time.perf_counter() - since)


def batches() -> list[tuple[Tensor, ...]]:
    """Return random batches of training pairs: images, tokens, lengths."""
    train = load_dataset("scenes", None).splits["train"]
    rng, found = np.random.default_rng(0), []
    for _ in range(N_BATCHES):
        pairs = rng.choice(len(train.captions), BATCH_SIZE, replace=False)
        arrays = (train.images.take(train.true[pairs]), *train.captions.padded(pairs))
        found.append(tuple(torch.from_numpy(array) for array in arrays))
    return found


def seconds(update: Callable[[tuple[Tensor, ...]], None], given: list[tuple[Tensor, ...]]) -> list[float]:
    """Return the time of an update on each batch."""
    times = []
    for batch in given:
        since = time.perf_counter()
        update(batch)
        times.append(time.perf_counter() - since)
    return times


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of both, after one that does not count.")
def main(rounds: int) -> None:
    """Measure, and print the medians."""
    keep_freed_memory()  # as runs do
    network, given = make_network(), batches()
    ours, torchs = make_update(network, fused=True), make_update(make_network(), fused=False)
    times: tuple[list[float], list[float]] = ([], [])
    floors: list[float] = []
    work = statistics.mean(flops_of(network, batch) for batch in given)
    for number in range(rounds + 1):
        first = seconds(ours, given)
        with ExitStack() as stack:
            for module in (encoders, gpo):
                stack.enter_context(mock.patch.object(module, "mean_states", torchs_mean_states))
            stack.enter_context(mock.patch.object(gpo, "sort_descending", torchs_sort))
            second = seconds(torchs, given)
        if number:
            floors.append(1e3 * work / max(product_rate() for _ in range(10)))
            times[0].extend(first)
            times[1].extend(second)
    ours_took, torchs_took = (1e3 * statistics.median(each) for each in times)
    floor = statistics.median(floors)
    click.echo(f"ours {ours_took:.1f} ms, torch's {torchs_took:.1f} ms, ratio {ours_took / torchs_took:.2f}")
    click.echo(f"{work / 1e9:.2f} GFLOP, floor {floor:.1f} ms, ours {ours_took / floor:.2f} times that")


if __name__ == "__main__":
    main()
