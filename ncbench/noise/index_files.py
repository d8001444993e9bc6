"""Published index files: noise that is read from a file instead of drawn."""

from __future__ import annotations

import tokenize
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest, Unit, within
from ncbench.noise.shuffles import likely_self_landings
from ncbench.runtime.input_files import check_input_file

# Allowed difference between the share of mismatched items in an index file and the requested ratio, on top of the
# items that a shuffle leaves in place.
RATIO_TOLERANCE = 0.005

MAX_BYTES = 2**31
"""Bytes of the largest index file: one number of 8 bytes for each of 268 million captions."""

_NPY_MAGIC = b"\x93NUMPY"


def _from_file(request: NoiseRequest, stated: Unit | None = None) -> Drawn:
    """Read the claimed correspondence from a published index file.

    Files with one entry per image hold a permutation pi: claimed[c] = pi[true[c]]. Files with one entry per caption
    hold the claimed correspondence itself, in which whole images may move (np.repeat of a permutation). Where features
    hold an image once per caption, NCR's code permutes rows of features: those are the captions of the claimed image.
    """
    stored = read_index(request.path)
    _check_length(stored, request)
    if _holds_rows(stored, request):
        stored = request.true[stored]
    _check_range(stored, request)
    claimed = stored.astype(np.int64)
    if _is_per_image(claimed, request, stated):
        _check_permutation(claimed, request.path)
        claimed = claimed[request.true]
    unit = _find_unit(claimed, request, stated)
    _check_file_ratio(claimed, unit, request)
    return Drawn(claimed, unit)


def read_index(path: Path) -> NDArray[np.integer[Any]]:
    """Return the vector of integers in the .npy file `path`. Raises UserError for any other content."""
    array = read_array(path)
    if array.ndim != 1:
        raise UserError(f"noise file {path} has shape {array.shape}, expected a vector of image numbers")
    return array


def read_array(path: Path) -> NDArray[np.integer[Any]]:
    """Return the array of integers in the .npy file `path`. Raises UserError for any other content."""
    check_input_file(path, MAX_BYTES)
    try:
        with path.open("rb") as file:
            magic = file.read(len(_NPY_MAGIC))
            if magic != _NPY_MAGIC:
                raise UserError(f"noise file {path} is not a .npy file; expected a file written by numpy.save")
            file.seek(0)
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot read noise file {path}: {reason}") from error
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, MemoryError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"noise file {path} is damaged or does not hold plain integers: {reason}") from error
    if array.dtype.kind not in "iu":
        raise UserError(f"noise file {path} has dtype {array.dtype}, expected integers such as int64")
    return cast("NDArray[np.integer[Any]]", array)


def _check_length(index: NDArray[np.integer[Any]], request: NoiseRequest) -> None:
    n_captions = len(request.true)
    if len(index) not in (request.n_images, n_captions):
        raise UserError(
            f"noise file {request.path} has {len(index):,} entries, expected {request.n_images:,} (one per image) "
            f"or {n_captions:,} (one per caption) for this training set"
        )


def _holds_rows(index: NDArray[np.integer[Any]], request: NoiseRequest) -> bool:
    """Return whether `index` is a permutation of the captions, of which there are more than images."""
    n_captions = len(request.true)
    return (
        n_captions > request.n_images
        and len(index) == n_captions
        and within(index, n_captions)
        and bool((np.bincount(index.astype(np.int64), minlength=n_captions) == 1).all())
    )


def _check_range(index: NDArray[np.integer[Any]], request: NoiseRequest) -> None:
    if not within(index, request.n_images):
        row = int(np.argmax((index < 0) | (index >= request.n_images)))
        raise UserError(
            f"noise file {request.path}, row {row}: image {index[row]} is out of range; "
            f"this training set has images 0 to {request.n_images - 1}"
        )


def _is_per_image(index: IntVector, request: NoiseRequest, stated: Unit | None) -> bool:
    """Return whether `index` has one entry per image. With one caption per image, the `stated` unit decides."""
    true = request.true
    if request.n_images != len(true):
        return len(index) == request.n_images
    if stated is None and not np.array_equal(index[true], index):
        raise UserError(
            f"noise file {request.path} reads differently per image and per caption, and the training set has "
            f"{len(true):,} of both; use file-images:PATH or file-captions:PATH"
        )
    return stated == "images"


def _check_permutation(index: IntVector, path: Path) -> None:
    first = np.full(len(index), len(index))
    np.minimum.at(first, index, np.arange(len(index)))
    repeated = np.arange(len(index)) != first[index]
    if repeated.any():
        row = int(np.argmax(repeated))
        raise UserError(
            f"noise file {path}, row {row}: image {index[row]} is also in row {first[index[row]]}; "
            f"a file with one entry per image must be a permutation"
        )


def _find_unit(claimed: IntVector, request: NoiseRequest, stated: Unit | None) -> Unit:
    """Return the unit that `claimed` moves. Raises UserError if it is not the `stated` unit."""
    path, true = request.path, request.true
    moved_to = np.zeros(request.n_images, np.int64)
    moved_to[true] = claimed
    apart = moved_to[true] != claimed
    if stated is None:
        return "captions" if apart.any() else "images"
    if stated == "images" and apart.any():
        image = true[np.argmax(apart)]
        raise UserError(
            f"noise file {path} moves single captions (those of image {image} move to different images); "
            f"use file-captions:PATH instead of file-images"
        )
    # Clean files, and files for one caption per image, fit both units.
    either = len(np.unique(true)) == len(true) or np.array_equal(claimed, true)
    if stated == "captions" and not apart.any() and not either:
        raise UserError(
            f"noise file {path} moves whole images (the captions of each image stay together); "
            f"use file-images:PATH instead of file-captions"
        )
    return stated


def _check_file_ratio(claimed: IntVector, unit: Unit, request: NoiseRequest) -> None:
    """Raise UserError unless the share of mismatched items (captions or images) is the requested ratio.

    The share may differ by RATIO_TOLERANCE and one item for rounding, and be lower by the items that a shuffle is
    likely to leave in place. At ratio 0, no item may be mismatched.
    """
    ratio, true = request.ratio, request.true
    wrong = claimed != true
    if unit == "images":
        n_items, n_wrong = len(np.unique(true)), len(np.unique(true[wrong]))
    else:
        n_items, n_wrong = len(true), int(wrong.sum())
    share = n_wrong / max(n_items, 1)
    lowest = ratio - RATIO_TOLERANCE - (1 + likely_self_landings(ratio, unit, true)) / max(n_items, 1)
    highest = ratio + RATIO_TOLERANCE + 1 / max(n_items, 1)
    if (ratio == 0 and n_wrong) or not lowest <= share <= highest:
        raise UserError(
            f"noise file {request.path} mismatches {share:.4f} of the {unit}, but the noise ratio is {ratio}; "
            f"use the ratio of the file, or another file"
        )


FILE = NoiseProtocol("file", "1", None, "a published index file of either unit", _from_file, reads_file=True)
FILE_IMAGES = NoiseProtocol(
    "file-images",
    "1",
    "images",
    "a published index file that must move whole images",
    partial(_from_file, stated="images"),
    reads_file=True,
)
FILE_CAPTIONS = NoiseProtocol(
    "file-captions",
    "1",
    "captions",
    "a published index file that must move single captions",
    partial(_from_file, stated="captions"),
    reads_file=True,
)
