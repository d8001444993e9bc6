"""Similarity matrices of whole splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from ncbench.backbones.base import Backbone, Encoded
from ncbench.data.dataset import FloatArray, Split

ENCODED_AT_ONCE = 256
SCORED_BYTES = 128 * 2**20  # pairs are scored in blocks of about this size: smaller ones pay for more calls


@torch.no_grad()
def similarity_matrix(backbones: Sequence[Backbone], split: Split, device: torch.device) -> FloatArray:
    """Return the similarities (images, captions) float32 of a split, averaged over `backbones`.

    Networks are put into evaluation mode for the purpose and left in the mode in which they were.
    """
    total = np.zeros((len(split.images), len(split.captions)), np.float32)
    for backbone in backbones:
        with _evaluating(backbone):
            total += _one_matrix(backbone, split, device)
    return total / np.float32(len(backbones))


@contextmanager
def _evaluating(backbone: Backbone) -> Iterator[None]:
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _one_matrix(backbone: Backbone, split: Split, device: torch.device) -> FloatArray:
    images = _encode_images(backbone, split, device)
    # Captions of similar length waste no padding on one another.
    order = np.argsort(split.captions.lengths, kind="stable")
    result = np.empty((len(split.images), len(split.captions)), np.float32)
    for columns in _spans(len(order), ENCODED_AT_ONCE):
        chosen = order[columns]
        tokens, lengths = split.captions.padded(chosen)
        captions = backbone.encode_captions(torch.from_numpy(tokens).to(device), torch.from_numpy(lengths))
        per_image = len(chosen) * backbone.pair_bytes(backbone.sizes.n_regions, int(lengths.max()))
        for rows in _spans(len(images), max(1, SCORED_BYTES // per_image)):
            result[rows, chosen] = backbone.score(images.take(rows), captions).cpu().numpy()
    return result


def _encode_images(backbone: Backbone, split: Split, device: torch.device) -> Encoded:
    numbers = np.arange(len(split.images))
    pieces = [
        backbone.encode_images(torch.from_numpy(split.images.take(numbers[span])).to(device))
        for span in _spans(len(numbers), ENCODED_AT_ONCE)
    ]
    return Encoded.join(pieces)


def _spans(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
