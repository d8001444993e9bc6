"""Changing words of captions: other captions' words instead, fewer words, or words that nobody knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("caption", "start", "donor", "donor_start", "length", "replaced")

NO_DONOR = -1
"""The donor of words that are not in the vocabulary."""

_OF_EQUAL_LENGTH = len(COLUMNS) - 1


@dataclass(frozen=True)
class Splices:
    """Replacements of words: (splices, 6) int64 with the columns COLUMNS, each caption at most once.

    The tokens `start` to `start + replaced` of a caption give way to `length` tokens of the donor from `donor_start`
    on, as they were before any splice. Position 0 is the start token. A caption that is its own donor keeps these
    tokens only; the donor NO_DONOR (with `donor_start` 0) stands for unknown words, at most as many as they replace.
    Without the last column, (splices, 5), as many tokens are replaced as inserted. Raises ValueError for invalid rows.
    """

    rows: NDArray[np.int64]

    def __post_init__(self) -> None:
        rows = self.rows
        if rows.ndim != 2 or rows.shape[1] not in (_OF_EQUAL_LENGTH, len(COLUMNS)) or rows.dtype != np.int64:
            raise ValueError(
                f"expected splices of shape (n, {len(COLUMNS)}) or (n, {_OF_EQUAL_LENGTH}) int64, found {rows.dtype} "
                f"{rows.shape}"
            )
        caption, start, donor, donor_start, length, replaced = self.table.T
        least = [
            part.min(initial=1) for part in (caption, start, donor - NO_DONOR, donor_start, length - 1, replaced - 1)
        ]
        if min(least) < 0:
            raise ValueError("splices contain a negative number or a length of 0")
        if len(np.unique(caption)) != len(rows):
            raise ValueError("a caption is spliced twice")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def table(self) -> NDArray[np.int64]:
        """The rows with all COLUMNS, (n, 6)."""
        return self.rows if self.rows.shape[1] == len(COLUMNS) else np.column_stack([self.rows, self.rows[:, -1]])

    @property
    def captions(self) -> NDArray[np.int64]:
        """The captions that are spliced, (n,)."""
        return self.rows[:, 0]

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Whether the new words are not in the vocabulary, (n,)."""
        return np.asarray(self.rows[:, 2] == NO_DONOR)

    @property
    def own(self) -> NDArray[np.bool_]:
        """Whether the caption keeps some of its own words and gets no others, (n,)."""
        return np.asarray(self.rows[:, 2] == self.rows[:, 0])

    @property
    def growth(self) -> NDArray[np.int64]:
        """How many words longer the captions get, (n,); negative for captions that get shorter."""
        table = self.table
        return table[:, 4] - table[:, 5]

    def check(self, lengths: NDArray[np.int64]) -> None:
        """Raise ValueError unless all splices are within captions of these `lengths`, start and end tokens included."""
        caption, start, donor, donor_start, length, replaced = self.table.T
        if max(caption.max(initial=0), donor.max(initial=0)) >= len(lengths):
            raise ValueError(f"splices refer to captions beyond {len(lengths):,}, the number of captions")
        borrowed = (donor_start >= 1) & (donor_start + length <= lengths[donor] - 1)
        unknown = (donor_start == 0) & (length <= replaced)
        within = (start >= 1) & (start + replaced <= lengths[caption] - 1)
        within &= self.table[:, [1, 3, 4, 5]].max(axis=1) <= lengths.max(initial=0)  # sums may have overflowed
        outside = ~within | ~np.where(self.unknown, unknown, borrowed)
        if outside.any():
            raise ValueError(f"a splice extends beyond the words of caption {caption[np.argmax(outside)]}")
