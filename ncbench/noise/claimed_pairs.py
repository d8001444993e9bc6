"""The claimed pairs of a training set as a `torch.utils.data.Dataset`, for training loops that are not ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils import data

from ncbench.data.dataset import Dataset, IntVector
from ncbench.errors import ArgumentError
from ncbench.noise.base import Noise


class Pair(NamedTuple):
    """One pair: its number, the image that it claims (R, D) float32, and its caption.

    `tokens` are word ids (L,) int64, or a vector (T,) float32 where captions are vectors.
    """

    pair: int
    image: Tensor
    tokens: Tensor


class PairBatch(NamedTuple):
    """Pairs: numbers `pairs` (B,) int64, `images` (B, R, D) float32, `tokens` (B, L) int64, `lengths` (B,) int64.

    Row i of `images` is the image that caption i claims. Tokens are padded by 0 on the right; where captions are
    vectors, they are (B, T) float32 and all lengths are 1. As a tuple of tensors, it can be pinned, and moved to
    devices by Lightning and accelerate.
    """

    pairs: Tensor
    images: Tensor
    tokens: Tensor
    lengths: Tensor


class ClaimedPairs(data.Dataset[Pair]):
    """The training pairs of `dataset` as `noise` claims them; pair p is caption p with image `claimed[p]`.

    For `torch.utils.data.DataLoader`, with `collate_fn=ncbench.collate_pairs`: it works with samplers and any number of
    workers, in forked and in spawned processes. It holds no truth: that is `noise.clean(dataset.splits["train"].true)`.
    Many datasets store the captions of an image side by side, so that numbers of pairs would tell a network which are
    matched: use them to look things up, and shuffle.
    Raises ArgumentError if `noise` was not drawn for these training pairs.
    """

    def __init__(self, dataset: Dataset, noise: Noise) -> None:
        if not isinstance(dataset, Dataset):
            raise ArgumentError(f"dataset: expected an ncbench.Dataset, found {type(dataset).__name__}")
        if not isinstance(noise, Noise):
            raise ArgumentError(
                f"noise: expected what ncbench.draw_noise(dataset) returns, found {type(noise).__name__}"
            )
        train = dataset.splits["train"]
        found, expected = len(noise.claimed), len(train.captions)
        if found != expected or noise.claimed.max(initial=-1) >= len(train.images):
            raise ArgumentError(
                f"noise: drawn for {found:,} captions, but {dataset.name} has {expected:,} training captions of "
                f"{len(train.images):,} images; draw it with ncbench.draw_noise(dataset)"
            )
        self._images, self._captions = train.images, noise.seen(train.captions, dataset.vocabulary)
        self.claimed: IntVector = noise.claimed.copy()
        self.claimed.setflags(write=False)

    def __len__(self) -> int:
        return len(self.claimed)

    def __getitem__(self, pair: SupportsIndex) -> Pair:
        """Return one pair. Raises IndexError."""
        (found,) = self.__getitems__([pair])
        return found

    def __getitems__(self, pairs: Sequence[SupportsIndex]) -> list[Pair]:
        """Return several pairs, whose features are read at once; `DataLoader` asks for a batch like this."""
        numbers = np.array([range(len(self))[pair] for pair in pairs], np.int64)
        images = torch.from_numpy(self._images.take(self.claimed[numbers]))
        tokens, lengths = self._captions.padded(numbers)
        rows = list(torch.from_numpy(tokens))
        if not self._captions.vector_dim:
            rows = [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]
        return [Pair(*parts) for parts in zip(numbers.tolist(), images, rows, strict=True)]


def collate_pairs(pairs: Sequence[Pair]) -> PairBatch:
    """Return a batch of pairs of `ClaimedPairs`: the `collate_fn` of its `DataLoader`. Raises ArgumentError."""
    if not pairs or not all(isinstance(pair, Pair) for pair in pairs):
        found = type(pairs[0]).__name__ if pairs else "no pair"
        raise ArgumentError(f"pairs: expected pairs of ncbench.ClaimedPairs, found {found}")
    captions = [pair.tokens for pair in pairs]
    vectors = captions[0].is_floating_point()
    return PairBatch(
        pairs=torch.tensor([pair.pair for pair in pairs]),
        images=torch.stack([pair.image for pair in pairs]),
        tokens=torch.stack(captions) if vectors else pad_sequence(captions, batch_first=True),
        lengths=torch.tensor([1 if vectors else len(caption) for caption in captions]),
    )
