"""Whether the scores for all that fits follow from the stored ranks, and these from the dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from ncbench.data.fitting import fitting_pairs
from ncbench.records.arrays import FITTING_FILE, RANKS_FILE, SIDES, TOP_K_FILE
from ncbench.records.judgement import alike
from ncbench.records.record import ORIGIN_FILE, Record

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset


def check_fitting(record: Record) -> Iterator[str]:
    """Compute the scores again from the stored ranks; yield what differs from the result.

    Older records have neither, and submissions no ranks.
    """
    said, found = record.result.metrics.fitting, record.fitting
    if said is None and found is not None:
        yield f"there is {FITTING_FILE}, but the result has no scores for all that fits"
    if said is not None and found is None and not record.has(ORIGIN_FILE):
        yield f"the result has scores for all that fits, but {FITTING_FILE} is missing"
    if said is None or found is None or record.top_k is None:
        return
    whole, true = record.ranks.get("test_unfolded", record.ranks["test"]), record.top_k.true
    n_images, n_captions = len(record.top_k.i2t), len(true)
    if len(whole.t2i[0]) != n_captions or len(whole.i2t[0]) != len(np.unique(true)):
        yield f"{RANKS_FILE} and {TOP_K_FILE} have different queries"
        return
    for numbers, count in ((found.captions, n_captions), (found.images, n_images)):
        if numbers.max() >= count:
            yield f"{FITTING_FILE} has pairs beyond {n_images} images and {n_captions} captions"
            return
    if found.i2t.max() >= n_captions or found.t2i.max() >= n_images:
        yield f"{FITTING_FILE} has ranks beyond {n_captions} captions and {n_images} images"
    if said.pairs != len(found.captions):
        yield f"the result has {said.pairs} fitting pairs, {FITTING_FILE} {len(found.captions)}"
    expected = found.retrieval(whole, true)
    for side in SIDES:
        for key, value in asdict(getattr(expected, side)).items():
            stated = getattr(getattr(said, side), key)
            if not alike(stated, value):
                yield f"fitting {side} {key} is {stated}, but {FITTING_FILE} gives {value}"


def check_fitting_with_dataset(record: Record, dataset: Dataset) -> Iterator[str]:
    """Yield what differs if the dataset says which captions fit which images."""
    found = record.fitting
    if found is None:
        return
    pairs = fitting_pairs(dataset, "test")
    if pairs is None:
        yield f"there is {FITTING_FILE}, but {dataset.name} does not say what fits"
        return
    n_images = len(dataset.splits["test"].images)
    stored, known = (each.captions * n_images + each.images for each in (found, pairs))
    if wrong := len(np.setxor1d(stored, known)):
        yield f"{FITTING_FILE} differs from the {len(pairs)} fitting pairs of {dataset.name} in {wrong} pairs"
