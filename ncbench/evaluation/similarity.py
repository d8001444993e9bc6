"""Similarity matrices of whole splits, computed in blocks that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ncbench.backbones.base import Backbone
from ncbench.backbones.pieces import spans
from ncbench.data.dataset import FloatArray, Split
from ncbench.errors import UserError
from ncbench.evaluation.scoring import (
    Limits,
    caption_chunks,
    encode_images,
    evaluating,
    gib,
    parts_of,
    scorer,
    thread_map,
)
from ncbench.evaluation.unfinished import Position, Unfinished, weights_digest
from ncbench.runtime import memory


def directly(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with arguments, here."""
    return function(*args)


def similarity_matrix(
    backbones: Sequence[Backbone],
    split: Split,
    device: torch.device,
    unfinished: Unfinished | None = None,
    call: Callable[..., Any] = directly,
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
            f"the similarities of {shape[0]} images and {shape[1]} captions need {gib(needed)} of memory, but "
            f"{gib(free)} are free; use a smaller split or a machine with more memory"
        )
    return np.zeros(shape, np.float32)


def _add_similarities(
    total: FloatArray, backbone: Backbone, split: Split, device: torch.device, begun: Position
) -> Iterator[Position]:
    """Add the similarities of `backbone` to `total`, in place, from a position on; yield the position after a block."""
    limits = Limits.of([backbone], device)
    chunks = list(caption_chunks([backbone], split, limits))
    with thread_map(limits.threads) as apply:
        for rows, done in _image_spans(len(split.images), limits.images, begun):
            images = encode_images(backbone, split, rows, device)
            for chosen in caption_chunks([backbone], split, limits, done) if done else chunks:
                parts = parts_of([backbone], split, len(images), chosen, limits)
                scored = apply(scorer(backbone, split, images, chosen, device), parts)
                for part, scores in zip(parts, scored, strict=True):
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
