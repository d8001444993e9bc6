"""Features that no network can learn from: not finite, or of an absurd size."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.data_warning import DataWarning
from ncbench.errors import UserError

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset

N_CHECKED_IMAGES = 256
"""Images per split that are read whenever a dataset is opened, evenly spaced: all of Flickr30K takes minutes.

The others are checked when they are first read; see `ImageFeatures.take`.
"""

MAX_SIZE, DOUBTFUL_SIZE = 1e6, 1e4
"""Absolute values above which features are refused, and doubted. Published features stay below 100."""

CACHED_NUMBERS = 2**18


def first_bad_row(rows: NDArray[Any]) -> tuple[int, float] | None:
    """Return the first of `rows` (n, ...) with a number that is not finite or above MAX_SIZE, and its largest number.

    None if there is none.
    """
    at_once = rows_at_once(rows)
    with np.errstate(all="ignore"):
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            if _may_be_bad(part):
                for number, row in enumerate(part, start):
                    if _may_be_bad(row) and not (size := float(np.abs(row).max())) <= MAX_SIZE:  # NaN if any is
                        return number, size
    return None


def rows_at_once(rows: NDArray[Any]) -> int:
    """Return how many of `rows` (n, ...) to look at together: as many as stay in the cache."""
    return max(1, CACHED_NUMBERS // max(1, int(np.prod(rows.shape[1:]))))


def _may_be_bad(rows: NDArray[Any]) -> bool:
    """Return whether the sum of squares is so large that a number may be; one pass, as fast as memory."""
    flat = np.ascontiguousarray(rows, np.float32).ravel()
    return not np.dot(flat, flat) <= MAX_SIZE**2


def bad_size(size: float) -> str:
    """Return in words what is wrong with a row whose largest number is `size`, and what was expected."""
    found = "NaN or infinity" if not np.isfinite(size) else f"a number of size {size:g}"
    return f"contains {found}, expected finite numbers up to {MAX_SIZE:g}"


def check_sizes(dataset: Dataset) -> None:
    """Warn (DataWarning) about the first split with large features, or zeros only.

    Raises UserError for features that are not finite, or absurd.
    """
    for name, split in dataset.splits.items():
        if not len(split.images):
            continue
        numbers = np.unique(np.linspace(0, len(split.images) - 1, N_CHECKED_IMAGES).astype(np.int64))
        try:
            largest = np.abs(split.images.take(numbers)).max()
        except UserError as error:
            raise UserError(f"dataset {dataset.name}, {name}: {error}") from error
        if largest > DOUBTFUL_SIZE or not largest:
            warnings.warn(
                f"dataset {dataset.name}: features of {name} are up to {largest:g}, expected about 1 to 100; "
                "scale them, or networks may not learn",
                DataWarning,
                stacklevel=2,
            )
            return
