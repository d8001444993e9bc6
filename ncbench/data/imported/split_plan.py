"""Which split each image of a source goes to: those of the source by their names, others drawn from train."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ncbench.data.data_warning import DataWarning
from ncbench.data.imported.request import Request
from ncbench.data.imported.split_names import REST, SPLITS, split_of, words_of_split
from ncbench.errors import UserError
from ncbench.runtime.seeds import derive_rng

DRAWN_DIVISOR, MAX_DRAWN_ROWS = 10, 1_000
"""A split that the source lacks is drawn from train: a tenth of its rows, 1,000 at most."""


def used_splits(request: Request, names: Sequence[str]) -> dict[str, str]:
    """Return, for each split of the source that is used, the split of SPLITS that it becomes, train first.

    Warns (DataWarning) about others. Raises UserError if none is train.
    """
    sources = {split: _source_split(request, names, split) for split in SPLITS}
    if sources["train"] is None:
        raise UserError(
            f"{request.source}: cannot tell the training split among {', '.join(sorted(names))}; "
            "set it under [splits] in a configuration file"
        )
    used = {source: split for split, source in sources.items() if source is not None}
    for name in sorted(set(names) - set(used)):
        if REST in words_of_split(name) and "train" not in request.splits:
            used[name] = "train"
        elif not request.splits:
            warnings.warn(
                f"{request.source}: the rows of {name!r} are not used, as the name tells no split; "
                "set [splits] in a configuration file if that is wrong",
                DataWarning,
                stacklevel=2,
            )
    return used


def plan_splits(request: Request, used: Mapping[str, str], images: Mapping[str, int]) -> dict[str, NDArray[np.int8]]:
    """Return, for each split of the source that is `used`, the index in SPLITS that each image goes to.

    `images` counts the images of each. Splits that the source lacks are drawn from train: a tenth of its images each,
    1,000 at most, with seed 0. Raises UserError for splits that are too small.
    """
    plan = {name: np.full(images[name], SPLITS.index(split), np.int8) for name, split in used.items()}
    train = next(iter(plan))
    n_rows = images[train]
    order, start = derive_rng(0, "imported", "splits").permutation(n_rows), 0
    for number, split in enumerate(SPLITS):
        if split not in used.values():
            size = min(MAX_DRAWN_ROWS, max(1, n_rows // DRAWN_DIVISOR))
            plan[train][order[start : start + size]] = number
            start += size
    for number, split in enumerate(SPLITS):
        size = sum(int((rows == number).sum()) for rows in plan.values())
        if size < (2 if split == "train" else 1):
            raise UserError(
                f"{request.source}: {size} rows are too few for {split} ({n_rows} rows in the source's training split)"
            )
    return plan


def _source_split(request: Request, names: Sequence[str], split: str) -> str | None:
    """Return the source's name of `split`, or None. Raises UserError if it is missing, or could be one of several."""
    stated = request.splits.get(split)
    if stated is not None:
        if stated not in names:
            raise UserError(
                f"{request.source}: there is no split {stated!r} for {split}; found {', '.join(sorted(names))}"
            )
        return stated
    if split == "train" and len(names) == 1:
        return names[0]
    free = set(names) - set(request.splits.values())
    found = sorted(name for name in free if split_of(name) == split and REST not in words_of_split(name))
    if len(found) > 1:
        raise UserError(
            f"{request.source}: {', '.join(found)} could all be {split}; set [splits] {split} in a configuration file"
        )
    return found[0] if found else None
