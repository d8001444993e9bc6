"""Features that no network can learn from: not finite, or of an absurd size."""

from __future__ import annotations

import warnings

import numpy as np

from ncbench.data.data_warning import DataWarning
from ncbench.data.dataset import Dataset
from ncbench.errors import UserError

N_CHECKED_IMAGES = 256
"""Images per split that are read whenever a dataset is opened, evenly spaced: all of Flickr30K takes minutes."""

MAX_SIZE, DOUBTFUL_SIZE = 1e6, 1e4
"""Absolute values above which features are refused, and doubted. Published features stay below 100."""


def check_sizes(dataset: Dataset) -> None:
    """Warn (DataWarning) about the first split with large features, or zeros only.

    Raises UserError for features that are not finite, or absurd.
    """
    for name, split in dataset.splits.items():
        if not len(split.images):
            continue
        numbers = np.unique(np.linspace(0, len(split.images) - 1, N_CHECKED_IMAGES).astype(np.int64))
        largest = np.abs(split.images.take(numbers)).max((1, 2))  # NaN if any is
        bad = ~(largest <= MAX_SIZE)
        if bad.any():
            first = int(np.argmax(bad))
            raise UserError(
                f"dataset {dataset.name}: image {numbers[first]} of {name} has features of size {largest[first]:g}, "
                f"expected finite numbers up to {MAX_SIZE:g}; compute or download the features again"
            )
        if largest.max() > DOUBTFUL_SIZE or not largest.any():
            warnings.warn(
                f"dataset {dataset.name}: features of {name} are up to {largest.max():g}, expected about 1 to 100; "
                "scale them, or networks may not learn",
                DataWarning,
                stacklevel=2,
            )
            return
