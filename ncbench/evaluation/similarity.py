"""Similarity matrices of whole splits, in blocks that memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from ncbench.backbones.base import Backbone, Encoded
from ncbench.backbones.pieces import spans
from ncbench.data.dataset import FloatArray, Split
from ncbench.errors import UserError
from ncbench.runtime import memory
from ncbench.runtime.device import free_bytes

ENCODED_AT_ONCE = 128
SCORED_BYTES = {"cpu": 128 * 2**20}  # of a block of pairs where memory is plenty; larger ones are no faster
SCORED_BYTES_ELSEWHERE = 4 * 2**30
SHARE = 4  # no block takes more than this part of what is free


@torch.no_grad()
def similarity_matrix(backbones: Sequence[Backbone], split: Split, device: torch.device) -> FloatArray:
    """Return the similarities (images, captions) float32 of a split, averaged over `backbones`.

    Networks are put into evaluation mode for the purpose and left in the mode in which they were. Beside the matrix
    itself, blocks of a size that depends on the device are held, smaller ones where memory is scarce.
    Raises UserError where the matrix, or one image against the longest caption, does not fit.
    """
    shape = (len(split.images), len(split.captions))
    total = _zeros(shape)
    for backbone in backbones:
        with _evaluating(backbone):
            _add_similarities(total, backbone, split, device)
    total /= np.float32(len(backbones))
    return total


def _zeros(shape: tuple[int, int]) -> FloatArray:
    needed, free = shape[0] * shape[1] * np.dtype(np.float32).itemsize, memory.available_bytes()
    if needed > free:
        raise UserError(
            f"the similarities of {shape[0]} images and {shape[1]} captions take {_gib(needed)}, of which "
            f"{_gib(free)} are free; take a smaller split or a larger machine."
        )
    return np.zeros(shape, np.float32)


@contextmanager
def _evaluating(backbone: Backbone) -> Iterator[None]:
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _add_similarities(total: FloatArray, backbone: Backbone, split: Split, device: torch.device) -> None:
    """Add the similarities that `backbone` gives to `total`."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    free = free_bytes(device)
    block = min(SCORED_BYTES.get(device.type, SCORED_BYTES_ELSEWHERE), free // SHARE // threads)
    chunks = list(_caption_chunks(backbone, split, block, free))
    with _side_by_side(threads) as apply:
        for rows in spans(len(split.images), free // SHARE // backbone.image_bytes(backbone.sizes.n_regions)):
            images = _encode_images(backbone, split, rows, device)
            for chosen in chunks:
                tokens, lengths = split.captions.padded(chosen)
                captions = backbone.encode_captions(torch.from_numpy(tokens).to(device), torch.from_numpy(lengths))
                per_image = len(chosen) * backbone.pair_bytes(backbone.sizes.n_regions, int(lengths.max()))
                parts = list(spans(len(images), block // per_image))
                blocks = apply(partial(_score, backbone, images, captions), parts)
                for part, scores in zip(parts, blocks, strict=True):
                    total[rows.start + part.start : rows.start + part.stop, chosen] += scores


@torch.no_grad()  # which each thread has to be told
def _score(backbone: Backbone, images: Encoded, captions: Encoded, part: slice) -> FloatArray:
    scores: FloatArray = backbone.score(images.take(part), captions).cpu().numpy()
    return scores


@contextmanager
def _side_by_side(
    threads: int,
) -> Iterator[Callable[[Callable[[slice], FloatArray], list[slice]], Iterator[FloatArray]]]:
    """Give a `map` that works on so many items at a time, one thread each.

    Much of scoring is small operations, which gain nothing from being split up among threads.
    """
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool.map
        finally:
            torch.set_num_threads(threads)  # the initialisers have changed what later threads start with


def _caption_chunks(backbone: Backbone, split: Split, block: int, free: int) -> Iterator[np.ndarray]:
    """Yield numbers of captions that are encoded at once, by length: then they waste no padding on one another."""
    lengths = split.captions.lengths
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = min(start + max(1, ENCODED_AT_ONCE), len(order))
        while _chunk_bytes(backbone, stop - start, int(lengths[order[stop - 1]])) > block and stop > start + 1:
            stop = start + (stop - start) // 2
        needed = _chunk_bytes(backbone, 1, int(lengths[order[start]]))
        if needed > free:
            number = int(order[start])
            raise UserError(
                f"caption {number} of the split has {lengths[number]} tokens, for which {_gib(needed)} are needed and "
                f"{_gib(free)} are free; shorten it, or take a larger machine."
            )
        yield order[start:stop]
        start = stop


def _chunk_bytes(backbone: Backbone, captions: int, length: int) -> int:
    """Return the bytes that captions of `length` take while they are encoded, or scored against one image."""
    return captions * max(backbone.caption_bytes(length), backbone.pair_bytes(backbone.sizes.n_regions, length))


def _encode_images(backbone: Backbone, split: Split, rows: slice, device: torch.device) -> Encoded:
    numbers = np.arange(rows.start, rows.stop)
    pieces = [
        backbone.encode_images(torch.from_numpy(split.images.take(numbers[span])).to(device))
        for span in spans(len(numbers), ENCODED_AT_ONCE)
    ]
    return Encoded.join(pieces)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
