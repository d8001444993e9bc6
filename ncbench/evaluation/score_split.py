"""`ncbench.score_split`: the similarity matrix of a split under anybody's network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from ncbench.data.dataset import IntVector, Split
from ncbench.errors import ArgumentError
from ncbench.evaluation.scoring import evaluating

Score = Callable[[Tensor, Tensor, Tensor], Tensor]


@torch.no_grad()
def score_split(
    score: Score,
    split: Split,
    *,
    images_at_once: int = 512,
    captions_at_once: int = 512,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the similarities (images, captions) of a split, float32 on the CPU, for `ncbench.evaluate`.

    `score(images, tokens, lengths)` is a function or a module. It gets images (I, R, D) float32, tokens (C, L) int64,
    padded by 0 on the right (where captions are vectors (C, T) float32), and lengths (C,) int64, all on `device`. It
    returns similarities (I, C). `device` defaults to that of the first parameter of a module, else to the CPU. Modules
    run in evaluation mode, and go back to their mode.

    Raises ArgumentError, also if `score` returns another shape.
    """
    if not callable(score):
        raise ArgumentError(f"score: expected a module or function of (images, tokens, lengths), found {score!r}")
    if not isinstance(split, Split):
        raise ArgumentError(f'split: expected a split, such as dataset.splits["test"], found {type(split).__name__}')
    for name, value in (("images_at_once", images_at_once), ("captions_at_once", captions_at_once)):
        if value < 1:
            raise ArgumentError(f"{name}: expected at least 1, found {value}")
    there = torch.device(device) if device is not None else _device_of(score)
    similarities = torch.empty(len(split.images), len(split.captions))
    with evaluating(score) if isinstance(score, nn.Module) else nullcontext():
        for rows in _parts(len(split.images), images_at_once):
            images = torch.from_numpy(split.images.take(rows)).to(there)
            for columns in _parts(len(split.captions), captions_at_once):
                tokens, lengths = split.captions.padded(columns)
                found = score(images, torch.from_numpy(tokens).to(there), torch.from_numpy(lengths).to(there))
                shape = (len(rows), len(columns))
                if not isinstance(found, Tensor) or tuple(found.shape) != shape:
                    said = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                    raise ArgumentError(f"score: expected similarities (images, captions) {shape}, it returned {said}")
                similarities[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = found
    return similarities


def _parts(count: int, size: int) -> Iterator[IntVector]:
    return (np.arange(start, min(start + size, count)) for start in range(0, count, size))


def _device_of(score: Score) -> torch.device:
    first = next(score.parameters(), None) if isinstance(score, nn.Module) else None
    return torch.device("cpu") if first is None else first.device
