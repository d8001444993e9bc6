"""Replacing words of captions by words of other captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("caption", "start", "donor", "donor_start", "length")


@dataclass(frozen=True)
class Splices:
    """Replacements of words: (splices, 5) int64 with the columns COLUMNS, each caption at most once.

    The tokens `start` to `start + length` of a caption are replaced by those of the donor from `donor_start` on, as
    they were before any splice. Position 0 is the start token. Raises ValueError for invalid rows.
    """

    rows: NDArray[np.int64]

    def __post_init__(self) -> None:
        rows = self.rows
        if rows.ndim != 2 or rows.shape[1] != len(COLUMNS) or rows.dtype != np.int64:
            raise ValueError(f"expected splices of shape (n, {len(COLUMNS)}) int64, found {rows.dtype} {rows.shape}")
        if rows.min(initial=0) < 0 or rows[:, 4].min(initial=1) < 1:
            raise ValueError("splices contain a negative number or a length of 0")
        if len(np.unique(rows[:, 0])) != len(rows):
            raise ValueError("a caption is spliced twice")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def captions(self) -> NDArray[np.int64]:
        """The captions that are spliced, (n,)."""
        return self.rows[:, 0]

    def check(self, lengths: NDArray[np.int64]) -> None:
        """Raise ValueError unless all splices are within captions of these `lengths`, start and end tokens included."""
        caption, start, donor, donor_start, length = self.rows.T
        if max(caption.max(initial=0), donor.max(initial=0)) >= len(lengths):
            raise ValueError(f"splices refer to captions beyond {len(lengths):,}, the number of captions")
        beyond = (start + length > lengths[caption] - 1) | (donor_start + length > lengths[donor] - 1)
        outside = beyond | (start < 1) | (donor_start < 1)
        if outside.any():
            raise ValueError(f"a splice extends beyond the words of caption {caption[np.argmax(outside)]}")
