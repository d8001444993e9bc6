"""Scoring a part of a split: how much fits into memory at a time, and encoding and scoring that much."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from ncbench.backbones.base import Backbone, Encoded
from ncbench.backbones.pieces import spans
from ncbench.data.dataset import FloatArray, IntVector, Split
from ncbench.errors import UserError
from ncbench.runtime.device import free_bytes

ENCODE_BATCH_SIZE = 128
CPU_BLOCK_BYTES = 128 * 2**20  # of pairs scored at a time; larger blocks are no faster
DEVICE_BLOCK_BYTES = 4 * 2**30
FREE_MEMORY_DIVISOR = 4  # a block takes at most this part of the free memory


@dataclass(frozen=True)
class Limits:
    """What is held at a time: `block` bytes of pairs in each of `threads`, `images` encoded images, `free` bytes."""

    threads: int
    free: int
    block: int
    images: int

    @classmethod
    def of(cls, backbones: Sequence[Backbone], device: torch.device) -> Limits:
        """Return the limits for scoring by all `backbones` together with the memory that is free now."""
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        free = free_bytes(device)
        share = free // FREE_MEMORY_DIVISOR // len(backbones)
        largest = CPU_BLOCK_BYTES if device.type == "cpu" else DEVICE_BLOCK_BYTES
        image = max(backbone.image_bytes(backbone.sizes.n_regions) for backbone in backbones)
        return cls(threads, free, min(largest, share // threads), share // image)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put all modules of a network into evaluation mode inside the block."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def parts_of(
    backbones: Sequence[Backbone], split: Split, images: int, chosen: IntVector, limits: Limits, most: int | None = None
) -> list[slice]:
    """Return the images, of so many, to score together against the captions `chosen`: at most `most`."""
    longest = int(split.captions.lengths[chosen].max())
    per_image = len(chosen) * max(each.pair_bytes(each.sizes.n_regions, longest) for each in backbones)
    at_once = limits.block // per_image
    return list(spans(images, at_once if most is None else min(at_once, most)))


def scorer(
    backbone: Backbone, split: Split, images: Encoded, chosen: IntVector, device: torch.device
) -> Callable[[slice], FloatArray]:
    """Return a function from a part of the images to their similarities with the captions `chosen`."""
    tokens, lengths = split.captions.padded(chosen)
    captions = backbone.encode_captions(torch.from_numpy(tokens).to(device), torch.from_numpy(lengths))
    return partial(_score, backbone, images, captions)


@torch.no_grad()  # gradient mode is per thread
def _score(backbone: Backbone, images: Encoded, captions: Encoded, part: slice) -> FloatArray:
    scores: FloatArray = backbone.score(images.take(part), captions).cpu().numpy()
    return scores


@contextmanager
def thread_map(
    threads: int,
) -> Iterator[Callable[[Callable[[slice], FloatArray], list[slice]], Iterator[FloatArray]]]:
    """Provide a `map` that processes `threads` items in parallel, with one thread each.

    Scoring is made of many small operations, which gain nothing from several threads each.
    """
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool.map
        finally:
            torch.set_num_threads(threads)  # the initialisers changed the default of new threads


def caption_chunks(backbones: Sequence[Backbone], split: Split, limits: Limits, start: int = 0) -> Iterator[IntVector]:
    """Yield the captions to encode together, sorted by length to avoid padding, without the first `start` of them."""
    lengths = split.captions.lengths
    order = np.argsort(lengths, kind="stable")
    while start < len(order):
        stop = min(start + max(1, ENCODE_BATCH_SIZE), len(order))
        while _chunk_bytes(backbones, stop - start, int(lengths[order[stop - 1]])) > limits.block and stop > start + 1:
            stop = start + (stop - start) // 2
        needed = _chunk_bytes(backbones, 1, int(lengths[order[start]]))
        if needed > limits.free:
            number = int(order[start])
            raise UserError(
                f"caption {number} of the split has {lengths[number]} tokens and needs {gib(needed)} of memory, but "
                f"{gib(limits.free)} are free; shorten it or use a machine with more memory"
            )
        yield order[start:stop]
        start = stop


def _chunk_bytes(backbones: Sequence[Backbone], captions: int, length: int) -> int:
    """Return the bytes that `captions` of `length` need while they are encoded or scored against one image."""
    return captions * max(
        max(backbone.caption_bytes(length), backbone.pair_bytes(backbone.sizes.n_regions, length))
        for backbone in backbones
    )


def encode_images(backbone: Backbone, split: Split, rows: slice, device: torch.device) -> Encoded:
    """Return the encodings of the images `rows` of a split."""
    numbers = np.arange(rows.start, rows.stop)
    pieces = [
        backbone.encode_images(torch.from_numpy(split.images.take(numbers[span])).to(device))
        for span in spans(len(numbers), ENCODE_BATCH_SIZE)
    ]
    return Encoded.join(pieces)


def gib(size: int) -> str:
    """Return a number of bytes in words."""
    return f"{size / 2**30:.1f} GiB"
