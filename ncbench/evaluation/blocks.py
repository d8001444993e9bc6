"""Similarities of a split a block at a time, where the whole matrix would take too much memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ncbench.data.dataset import FloatArray, IntVector
from ncbench.evaluation.retrieval import Similarities


@dataclass(frozen=True)
class Block:
    """Similarities (I, C) float32 of some images (I,) and captions (C,), given by number, in any order.

    The scores may be overwritten when the next block is asked for.
    """

    images: IntVector
    captions: IntVector
    scores: FloatArray


class Blocks(ABC):
    """The similarities of all images and captions of a split, each in exactly one block.

    `shape` is (images, captions). Every iteration gives the same blocks with the same scores, bit for bit: ranks need
    two, as the scores of true pairs must be known before others are compared with them.
    """

    shape: tuple[int, int]

    @abstractmethod
    def __iter__(self) -> Iterator[Block]: ...


Scored: TypeAlias = "Similarities | Blocks"
"""The similarities of a split: a matrix (images, captions), or blocks of it."""
