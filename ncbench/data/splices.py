"""Words of some captions in the place of words of others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("caption", "start", "donor", "donor_start", "length")


@dataclass(frozen=True)
class Splices:
    """Which words of which captions are replaced, (splices, 5) int64: the columns of COLUMNS, a caption at most once.

    The tokens `start` to `start + length` of a caption become those from `donor_start` on of the donor, as both were
    before any splice; positions count the start mark. Raises ValueError for rows that no captions could have.
    """

    rows: NDArray[np.int64]

    def __post_init__(self) -> None:
        rows = self.rows
        if rows.ndim != 2 or rows.shape[1] != len(COLUMNS) or rows.dtype != np.int64:
            raise ValueError(f"splices are (n, {len(COLUMNS)}) int64, found {rows.dtype} {rows.shape}")
        if rows.min(initial=0) < 0 or rows[:, 4].min(initial=1) < 1:
            raise ValueError("splices hold a negative number, or a length of 0")
        if len(np.unique(rows[:, 0])) != len(rows):
            raise ValueError("a caption is spliced twice")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def captions(self) -> NDArray[np.int64]:
        """The captions that are spliced, (n,)."""
        return self.rows[:, 0]

    def check(self, lengths: NDArray[np.int64]) -> None:
        """Raise ValueError unless all spliced words are words of captions of these `lengths`, marks included."""
        caption, start, donor, donor_start, length = self.rows.T
        if max(caption.max(initial=0), donor.max(initial=0)) >= len(lengths):
            raise ValueError(f"splices name captions beyond the {len(lengths):,} that there are")
        beyond = (start + length > lengths[caption] - 1) | (donor_start + length > lengths[donor] - 1)
        outside = beyond | (start < 1) | (donor_start < 1)
        if outside.any():
            raise ValueError(f"a splice reaches beyond the words of caption {caption[np.argmax(outside)]}")
