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


def first_bad_row(rows: NDArray[Any]) -> tuple[int, float] | None:
    """Return the first of `rows` (n, ...) with a number that is not finite or above MAX_SIZE, and its largest number.

    None if there is none.
    """
    with np.errstate(all="ignore"):
        for number, row in enumerate(rows):
            flat = np.ascontiguousarray(row, np.float32).ravel()
            # One pass that is as fast as memory: only if the sum of squares is too large, a number may be.
            if np.dot(flat, flat) <= MAX_SIZE**2:
                continue
            size = float(np.abs(flat).max())  # NaN if any is
            if not size <= MAX_SIZE:
                return number, size
    return None


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
