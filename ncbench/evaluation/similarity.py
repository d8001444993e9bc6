"""Similarity matrices of whole splits, computed in blocks that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ncbench.backbones.base import Backbone, Encoded
from ncbench.backbones.pieces import spans
from ncbench.data.dataset import FloatArray, Split
from ncbench.errors import UserError
from ncbench.evaluation.unfinished import Position, Unfinished, weights_digest
from ncbench.runtime import memory
from ncbench.runtime.device import free_bytes

ENCODE_BATCH_SIZE = 128
CPU_BLOCK_BYTES = 128 * 2**20  # of pairs scored at a time; larger blocks are no faster
DEVICE_BLOCK_BYTES = 4 * 2**30
FREE_MEMORY_DIVISOR = 4  # a block takes at most this part of the free memory


def _directly(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def similarity_matrix(
    backbones: Sequence[Backbone],
    split: Split,
    device: torch.device,
    unfinished: Unfinished | None = None,
    call: Callable[..., Any] = _directly,
) -> FloatArray:
    """Return the similarities (images, captions) float32 of a split, averaged over `backbones`.

    Networks run in evaluation mode and are restored to their previous mode. Besides the matrix, memory holds one block
    of pairs, whose size depends on the device and on the free memory. `unfinished` keeps what is scored, and can
    interrupt this function after any block: the same call then goes on from there. All that runs code of the networks
    is done by `call`, which calls a function with arguments, possibly in another thread.
    Raises UserError if the matrix, or one image with the longest caption, does not fit into memory.
    """
    shape = (len(split.images), len(split.captions))
    begun = unfinished.begin(partial(call, weights_digest, backbones), shape) if unfinished is not None else None
    total, start = begun or (_zeros(shape), Position())
    blocks = call(_blocks, backbones, split, device, total, start)
    try:
        while (reached := call(next, blocks, None)) is not None:
            if unfinished is not None:
                unfinished.scored(total, reached)
    finally:
        call(blocks.close)
    if unfinished is not None:
        unfinished.finish(total, Position(len(backbones)))
    total /= np.float32(len(backbones))
    return total


@torch.no_grad()
def _blocks(
    backbones: Sequence[Backbone], split: Split, device: torch.device, total: FloatArray, start: Position
) -> Iterator[Position]:
    """Add the similarities of all backbones to `total`, from a position on; yield the position after every block."""
    for number in range(start.networks, len(backbones)):
        with evaluating(backbones[number]):
            for reached in _add_similarities(total, backbones[number], split, device, start):
                yield replace(reached, networks=number)
        start = Position()


def _zeros(shape: tuple[int, int]) -> FloatArray:
    needed, free = shape[0] * shape[1] * np.dtype(np.float32).itemsize, memory.available_bytes()
    if needed > free:
        raise UserError(
            f"the similarities of {shape[0]} images and {shape[1]} captions need {_gib(needed)} of memory, but "
            f"{_gib(free)} are free; use a smaller split or a machine with more memory"
        )
    return np.zeros(shape, np.float32)


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


def _add_similarities(
    total: FloatArray, backbone: Backbone, split: Split, device: torch.device, begun: Position
) -> Iterator[Position]:
    """Add the similarities of `backbone` to `total`, in place, from a position on; yield the position after a block."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    free = free_bytes(device)
    largest = CPU_BLOCK_BYTES if device.type == "cpu" else DEVICE_BLOCK_BYTES
    block = min(largest, free // FREE_MEMORY_DIVISOR // threads)
    chunks = list(_caption_chunks(backbone, split, block, free))
    at_once = free // FREE_MEMORY_DIVISOR // backbone.image_bytes(backbone.sizes.n_regions)
    with _thread_map(threads) as apply:
        for rows, done in _image_spans(len(split.images), at_once, begun):
            images = _encode_images(backbone, split, rows, device)
            for chosen in _caption_chunks(backbone, split, block, free, done) if done else chunks:
                tokens, lengths = split.captions.padded(chosen)
                captions = backbone.encode_captions(torch.from_numpy(tokens).to(device), torch.from_numpy(lengths))
                per_image = len(chosen) * backbone.pair_bytes(backbone.sizes.n_regions, int(lengths.max()))
                parts = list(spans(len(images), block // per_image))
                blocks = apply(partial(_score, backbone, images, captions), parts)
                for part, scores in zip(parts, blocks, strict=True):
                    total[rows.start + part.start : rows.start + part.stop, chosen] += scores
                done += len(chosen)
                yield Position(0, rows.start, rows.stop, done)


def _image_spans(count: int, at_once: int, begun: Position) -> Iterator[tuple[slice, int]]:
    """Yield the images to score together, from a position on, and the captions that they are scored with already.

    The images of a block that was interrupted stay together, even if less memory is free now.
    """
    if begun.stop > begun.start:
        yield slice(begun.start, begun.stop), begun.captions
    for rows in spans(count - begun.stop, at_once):
        yield slice(begun.stop + rows.start, begun.stop + rows.stop), 0


@torch.no_grad()  # gradient mode is per thread
def _score(backbone: Backbone, images: Encoded, captions: Encoded, part: slice) -> FloatArray:
    scores: FloatArray = backbone.score(images.take(part), captions).cpu().numpy()
    return scores


@contextmanager
def _thread_map(
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


def _caption_chunks(backbone: Backbone, split: Split, block: int, free: int, start: int = 0) -> Iterator[np.ndarray]:
    """Yield the captions to encode together, sorted by length to avoid padding, without the first `start` of them."""
    lengths = split.captions.lengths
    order = np.argsort(lengths, kind="stable")
    while start < len(order):
        stop = min(start + max(1, ENCODE_BATCH_SIZE), len(order))
        while _chunk_bytes(backbone, stop - start, int(lengths[order[stop - 1]])) > block and stop > start + 1:
            stop = start + (stop - start) // 2
        needed = _chunk_bytes(backbone, 1, int(lengths[order[start]]))
        if needed > free:
            number = int(order[start])
            raise UserError(
                f"caption {number} of the split has {lengths[number]} tokens and needs {_gib(needed)} of memory, but "
                f"{_gib(free)} are free; shorten it or use a machine with more memory"
            )
        yield order[start:stop]
        start = stop


def _chunk_bytes(backbone: Backbone, captions: int, length: int) -> int:
    """Return the bytes that `captions` of `length` need while they are encoded or scored against one image."""
    return captions * max(backbone.caption_bytes(length), backbone.pair_bytes(backbone.sizes.n_regions, length))


def _encode_images(backbone: Backbone, split: Split, rows: slice, device: torch.device) -> Encoded:
    numbers = np.arange(rows.start, rows.stop)
    pieces = [
        backbone.encode_images(torch.from_numpy(split.images.take(numbers[span])).to(device))
        for span in spans(len(numbers), ENCODE_BATCH_SIZE)
    ]
    return Encoded.join(pieces)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
