"""The arrays of a record: beliefs, ranks, also those of all that fits, and what was retrieved first.

`beliefs.npz` holds the beliefs about every training pair at the end of training, in the order of the pairs:

* `p_clean`, `soft_labels`: (pairs,) float64, as they were judged; float32 in older records;
* `rematch_captions`, `rematch_images` (n,) int32, `rematch_weights` (n,) float64: pairs used instead of claimed ones;
* `told`: (n,) int32, the clean pairs that the method was given;
* `plan` (images, captions) float32: the transport plan of one batch; `plan_images`, `plan_captions`: its pairs;
* `clean` (pairs,) bool and `plan_true` (captions,) int32: the ground truth, if it is known.

Arrays that a method does not estimate are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.evaluation.beliefs import Beliefs
from ncbench.evaluation.fitting import FittingRanks
from ncbench.evaluation.retrieval import Ranks
from ncbench.evaluation.top_k import Retrieved
from ncbench.method.base import Plan, Rematches
from ncbench.runtime.archives import Declared, read_arrays, read_headers
from ncbench.runtime.files import write_atomic

BELIEFS_FILE = "beliefs.npz"
BELIEF_ARRAYS: Mapping[str, tuple[type[np.generic], int]] = {
    "p_clean": (np.floating, 1),
    "soft_labels": (np.floating, 1),
    "rematch_captions": (np.integer, 1),
    "rematch_images": (np.integer, 1),
    "rematch_weights": (np.floating, 1),
    "told": (np.integer, 1),
    "clean": (np.bool_, 1),
    "plan": (np.floating, 2),
    "plan_captions": (np.integer, 1),
    "plan_images": (np.integer, 1),
    "plan_true": (np.integer, 1),
}
"""Type and number of dimensions of each array."""

MAX_NUMBER = 2**31
"""Numbers of pairs, images and captions, and ranks, are below this."""

IN_UNIT_INTERVAL = ("p_clean", "soft_labels")
PER_PAIR = (*IN_UNIT_INTERVAL, "clean")
REMATCH_ARRAYS = ("rematch_captions", "rematch_images", "rematch_weights")
PLAN_ARRAYS = ("plan_captions", "plan_images", "plan")


def save_beliefs(path: Path, beliefs: Beliefs) -> None:
    """Write beliefs. Raises OSError."""
    arrays: dict[str, Any] = {"told": beliefs.given_clean.astype(np.int32)}
    for name in ("p_clean", "soft_labels"):
        values = getattr(beliefs, name)
        if values is not None:
            arrays[name] = values.astype(np.float64)
    if beliefs.rematches is not None:
        arrays["rematch_captions"] = beliefs.rematches.captions.astype(np.int32)
        arrays["rematch_images"] = beliefs.rematches.images.astype(np.int32)
        arrays["rematch_weights"] = beliefs.rematches.weights.astype(np.float64)
    if beliefs.plan is not None:
        arrays["plan"] = beliefs.plan.mass.astype(np.float32)
        arrays["plan_captions"] = beliefs.plan.captions.astype(np.int32)
        arrays["plan_images"] = beliefs.plan.images.astype(np.int32)
    if beliefs.clean is not None:
        arrays["clean"] = beliefs.clean
    if beliefs.true_images is not None:
        arrays["plan_true"] = beliefs.true_images.astype(np.int32)
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def load_beliefs(path: Path, pairs: int | None = None) -> Beliefs:
    """Return what `save_beliefs` wrote about a training set of so many `pairs`; None if their number is unknown.

    Raises UserError for a file that is missing, damaged, or of another kind, before it is loaded if its headers tell.
    """
    try:
        arrays = read_arrays(path, partial(_check_declared, path=path, pairs=pairs))
        for name, array in arrays.items():
            if not np.isfinite(array).all() or (array.size and array.min() < 0):
                raise ValueError(f"{name} has values that are negative or not finite")
            if array.dtype.kind in "iu" and array.max(initial=0) >= MAX_NUMBER:
                raise ValueError(f"{name} has numbers beyond {MAX_NUMBER:,}")
        for name in IN_UNIT_INTERVAL:
            if name in arrays and arrays[name].max(initial=0) > 1:
                raise _not_per_pair(path, name, len(arrays[name]))
        return Beliefs(
            _optional(arrays, "p_clean", np.float64),
            _optional(arrays, "soft_labels", np.float64),
            _rematches(arrays),
            arrays["told"].astype(np.int64),
            _plan(arrays),
            arrays.get("clean"),
            _optional(arrays, "plan_true", np.int64),
        )
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as beliefs ({error}); restore it") from error


def stored_in_single_precision(path: Path) -> bool:
    """Return whether a file of beliefs has scores in single precision, as in older records. Raises UserError."""
    try:
        declared = read_headers(path)
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as beliefs ({error}); restore it") from error
    return any(declared[name].dtype.itemsize < 8 for name in IN_UNIT_INTERVAL if name in declared)


def _check_kinds(declared: Mapping[str, Declared], expected: Mapping[str, tuple[type[np.generic], int]]) -> None:
    """Raise ValueError unless the headers of an archive are of `expected` types and numbers of dimensions."""
    for name, array in declared.items():
        if name not in expected:
            raise ValueError(f"it has an unknown array {name!r}")
        kind, dimensions = expected[name]
        if len(array.shape) != dimensions or not np.issubdtype(array.dtype, kind) or array.dtype.itemsize > 8:
            raise ValueError(f"{name} has {len(array.shape)} dimensions of {array.dtype}")


def _check_declared(declared: Mapping[str, Declared], path: Path, pairs: int | None) -> None:
    """Raise unless the headers of an archive are those of beliefs about a training set of so many pairs."""
    _check_kinds(declared, BELIEF_ARRAYS)
    lengths = {name: declared[name].shape[0] for name in PER_PAIR if name in declared}
    expected = next(iter(lengths.values()), None) if pairs is None else pairs
    for name, length in lengths.items():
        if length != expected:
            raise _not_per_pair(path, name, expected)
    if expected is not None and "told" in declared and declared["told"].shape[0] > expected:
        raise ValueError(f"told has {declared['told'].shape[0]:,} of {expected:,} pairs")


def _not_per_pair(path: Path, name: str, pairs: int | None) -> UserError:
    return UserError(f"{path}: {name} must be {pairs:,} numbers in [0, 1], one per training pair; restore it")


def _optional(arrays: Mapping[str, NDArray[Any]], name: str, dtype: type[np.generic]) -> NDArray[Any] | None:
    return arrays[name].astype(dtype) if name in arrays else None


def _all_or_none(arrays: Mapping[str, NDArray[Any]], names: tuple[str, ...], what: str) -> list[NDArray[Any]]:
    found = [arrays[name] for name in names if name in arrays]
    if found and len(found) != len(names):
        raise ValueError(f"{what}: incomplete")
    return found


def _rematches(arrays: Mapping[str, NDArray[Any]]) -> Rematches | None:
    found = _all_or_none(arrays, REMATCH_ARRAYS, "rematches")
    if len({len(array) for array in found}) > 1:
        raise ValueError("rematches: arrays of different lengths")
    if not found:
        return None
    captions, images, weights = found
    return Rematches(captions.astype(np.int64), images.astype(np.int64), weights.astype(np.float64))


def _plan(arrays: Mapping[str, NDArray[Any]]) -> Plan | None:
    found = _all_or_none(arrays, PLAN_ARRAYS, "the plan")
    if not found:
        return None
    captions, images, mass = found
    true = arrays.get("plan_true", captions)
    if mass.shape != (len(images), len(captions)) or len(true) != len(captions):
        raise ValueError(f"the plan of {len(images)} images and {len(captions)} captions has shape {mass.shape}")
    return Plan(captions.astype(np.int64), images.astype(np.int64), mass.astype(np.float64))


RANKS_FILE = "ranks.npz"

SIDES = ("i2t", "t2i")
RANK_ARRAYS = tuple(f"{side}{part}" for side in SIDES for part in ("", "_folded", "_per_fold"))
MAX_RANK_BYTES = 64 * 2**20
"""Of ranks and of what was retrieved first: a million queries."""


def save_ranks(path: Path, whole: Ranks, folded: Ranks | None = None) -> None:
    """Write the ranks within the whole test split, and within its folds if it has any. Raises OSError."""
    arrays = {side: getattr(whole, side)[0] for side in SIDES}
    if folded is not None:
        for side in SIDES:
            parts = getattr(folded, side)
            arrays[f"{side}_folded"] = np.concatenate(parts)
            arrays[f"{side}_per_fold"] = np.array([len(part) for part in parts])
    write_atomic(path, lambda file: np.savez_compressed(file, **{k: v.astype(np.int32) for k, v in arrays.items()}))


def load_ranks(path: Path) -> dict[str, Ranks]:
    """Return ranks by the metric that they belong to: `test`, and `test_unfolded` if `test` is a mean over folds.

    Raises UserError for a file that is missing, damaged, or of another kind.
    """
    try:
        arrays = read_arrays(path, _check_vectors, MAX_RANK_BYTES)
        whole = Ranks(*((_vector(arrays, side),) for side in SIDES))
        if "i2t_folded" not in arrays:
            return {"test": whole}
        return {"test": Ranks(*(_split(arrays, side) for side in SIDES)), "test_unfolded": whole}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as ranks ({error}); restore it") from error


def _check_vectors(declared: Mapping[str, Declared]) -> None:
    for name, array in declared.items():
        if name not in RANK_ARRAYS or array.dtype.kind not in "iu" or len(array.shape) != 1 or not array.shape[0]:
            raise ValueError(f"{name} is not a vector of integers")


def _vector(arrays: Mapping[str, NDArray[np.generic]], name: str) -> IntVector:
    found = arrays[name]
    vector: IntVector = found.astype(np.int64)
    for extreme in (vector.min(), vector.max()):
        if not 0 <= extreme < MAX_NUMBER:
            raise ValueError(f"{name} has a rank of {extreme}")
    return vector


def _split(arrays: Mapping[str, NDArray[np.generic]], side: str) -> tuple[IntVector, ...]:
    ranks, counts = _vector(arrays, f"{side}_folded"), _vector(arrays, f"{side}_per_fold")
    if counts.min() == 0 or counts.max() > len(ranks) or counts.sum() != len(ranks):
        raise ValueError(f"{side}_per_fold does not match {side}_folded")
    return tuple(np.split(ranks, np.cumsum(counts)[:-1]))


FITTING_FILE = "fitting.npz"
FITTING_ARRAYS: Mapping[str, tuple[type[np.generic], int]] = {
    "captions": (np.integer, 1),
    "images": (np.integer, 1),
    "i2t": (np.integer, 1),
    "t2i": (np.integer, 1),
}


def save_fitting(path: Path, found: FittingRanks) -> None:
    """Write the ranks of all fitting pairs. Raises OSError."""
    arrays = {name: getattr(found, name).astype(np.int32) for name in FITTING_ARRAYS}
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def load_fitting(path: Path) -> FittingRanks:
    """Return what `save_fitting` wrote. Raises UserError for a file that is missing, damaged, or of another kind."""
    try:
        arrays = read_arrays(path, lambda declared: _check_kinds(declared, FITTING_ARRAYS), MAX_RANK_BYTES)
        captions, images, i2t, t2i = (arrays[name].astype(np.int64) for name in FITTING_ARRAYS)
        if len({len(captions), len(images), len(i2t), len(t2i)}) > 1 or not len(captions):
            raise ValueError("it must have four numbers per pair, and at least one pair")
        for numbers in (captions, images, i2t, t2i):
            if numbers.min() < 0 or numbers.max() >= MAX_NUMBER:
                raise ValueError(f"it has numbers outside [0, {MAX_NUMBER:,})")
        for what, one, other in (("pairs", captions, images), ("ranks", images, i2t), ("ranks", captions, t2i)):
            if len(np.unique(one * MAX_NUMBER + other)) < len(one):
                raise ValueError(f"it has equal {what}")
        return FittingRanks(captions, images, i2t, t2i)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as ranks of fitting pairs ({error}); restore it") from error


TOP_K_FILE = "retrieved.npz"
TOP_K_ARRAYS: Mapping[str, tuple[type[np.generic], int]] = {
    "i2t": (np.integer, 2),
    "t2i": (np.integer, 2),
    "true": (np.integer, 1),
}


def save_retrieved(path: Path, found: Retrieved) -> None:
    """Write the items that were retrieved first. Raises OSError."""
    arrays = {name: getattr(found, name).astype(np.int32) for name in ("i2t", "t2i", "true")}
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def load_retrieved(path: Path) -> Retrieved:
    """Return what `save_retrieved` wrote. Raises UserError for a file that is missing, damaged, or of another kind."""
    try:
        arrays = read_arrays(path, lambda declared: _check_kinds(declared, TOP_K_ARRAYS), MAX_RANK_BYTES)
        i2t, t2i, true = (arrays[name] for name in ("i2t", "t2i", "true"))
        for array, stop in ((i2t, len(t2i)), (t2i, len(i2t)), (true, len(i2t))):
            if not array.size or array.min() < 0 or array.max() >= stop:
                raise ValueError("it has numbers of images or captions that do not exist")
        if len(true) != len(t2i):
            raise ValueError("it must have one true image per caption")
        return Retrieved(*(array.astype(np.int64) for array in (i2t, t2i, true)))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as retrieved items ({error}); restore it") from error
