"""Noise protocols: recipes that turn the true correspondence of a training set into the claimed one.

A protocol is named and versioned, and the noise that it draws depends on (name, version, ratio, seed, truth) only.
Its *unit* is what moves: single `captions`, or `images` with all of their captions. The two are not comparable at
one ratio: with five captions per image and 40 % noise, 99 % of the images keep a correct caption in the first case
and 60 % in the second.

A new protocol is one function from a `NoiseRequest` to the claimed correspondence and its unit, in a `NoiseProtocol`
that is registered under the entry-point group `ncbench.noise`, or lies in a file (`ncbench.plugin_files`). Whatever
changes the noise of an existing one changes its version.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tokenize
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.errors import UnknownNameError, UserError, told, unknown_name
from ncbench.files import write_atomic, write_json
from ncbench.plugin_files import Kind, is_path, name_in_call
from ncbench.plugins import check_calls_itself, find_plugin, names_of
from ncbench.seeds import derive_rng

BoolVector = NDArray[np.bool_]
Unit = Literal["captions", "images"]

# How far the share of mismatched items of an index file may be from the ratio asked for, self-landings aside.
RATIO_TOLERANCE = 0.005

LOG = logging.getLogger(__name__)
GROUP = "ncbench.noise"
KIND = Kind("noise protocol", GROUP, Path("noise"), lambda node: name_in_call(node, "NoiseProtocol"))

_SIDECAR_FORMAT = "ncbench-noise-1"
_NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class Noise:
    """The claimed correspondence of a training set and where it comes from.

    `claimed` is (captions,) int64, image numbers; `digest` is its `correspondence_digest` and stands for it in
    comparisons. `protocol` is the text that was asked for (`shuffle-captions`, `file:PATH`), `ratio` the noise ratio
    asked for; files ignore `seed`.
    """

    protocol: str
    version: str
    unit: Unit
    ratio: float
    seed: int
    claimed: IntVector = field(repr=False, compare=False)
    digest: str

    def clean(self, true: IntVector) -> BoolVector:
        """Return which pairs are matched, (captions,) bool: those whose claimed image is the `true` one."""
        return np.asarray(self.claimed == true)

    def mismatch(self, true: IntVector) -> float:
        """Return the realised share of mismatched captions, in [0, 1]."""
        return float(np.mean(self.claimed != true))

    def survival(self, true: IntVector) -> float:
        """Return the share of the images with captions that keep at least one of their own, in [0, 1]."""
        return len(np.unique(true[self.clean(true)])) / len(np.unique(true))

    def record(self) -> dict[str, str | float | int]:
        """Return all but the vector, ready for JSON."""
        return {
            "protocol": self.protocol,
            "version": self.version,
            "unit": self.unit,
            "ratio": self.ratio,
            "seed": self.seed,
            "digest": self.digest,
        }


@dataclass(frozen=True)
class NoiseRequest:
    """What a protocol is asked for: noise of `ratio` on `true`, (captions,) int64 numbers of `n_images` images.

    `rng` belongs to this protocol and seed alone; `path` is the index file of protocols that read one.
    """

    ratio: float
    true: IntVector
    n_images: int
    rng: np.random.Generator
    path: Path


@dataclass(frozen=True)
class NoiseProtocol:
    """A named, versioned recipe; `unit` is None where the index file says it, `draw` does the work.

    `nested` promises that, of one seed, the items selected at a lower ratio are among those at a higher one.
    """

    name: str
    version: str
    unit: Unit | None
    summary: str
    draw: Callable[[NoiseRequest], tuple[IntVector, Unit]] = field(repr=False)
    reads_file: bool = False
    nested: bool = False

    @property
    def usage(self) -> str:
        """How the protocol is written by a user."""
        return f"{self.name}:PATH" if self.reads_file else self.name


def correspondence_digest(claimed: IntVector) -> str:
    """Return the hex SHA-256 of a correspondence vector as little-endian int64 bytes."""
    return hashlib.sha256(np.ascontiguousarray(claimed, dtype="<i8").tobytes()).hexdigest()


def check_protocol(text: str) -> None:
    """Raise UserError unless `text` names a noise protocol, with a path exactly where one belongs. Reads no file."""
    _parse(text)


def check_ratio(ratio: float) -> None:
    """Raise UserError unless `ratio` is in [0, 1)."""
    if not 0 <= ratio < 1:
        raise UserError(f"noise ratio {ratio!r} is out of range; it must be at least 0 and below 1, such as 0.4")


def draw_noise(protocol: str, ratio: float, true: IntVector, n_images: int, seed: int) -> Noise:
    """Return the noise of `protocol` at `ratio` for the correspondence `true`, (captions,) int64 in [0, n_images).

    The ratio is no axis of the randomness: of one seed, the items selected at a lower ratio are among those selected
    at a higher one, so that curves over the ratio are not blurred by independent draws.
    Raises UserError for an unknown protocol, a ratio outside [0, 1), and an index file that is missing, malformed or
    at odds with the dataset, the unit or the ratio; ValueError for a malformed `true`.
    """
    recipe, path = _parse(protocol)
    check_ratio(ratio)
    if true.ndim != 1 or true.dtype != np.int64 or not _within(true, n_images):
        raise ValueError(f"true must be an int64 vector with values in [0, {n_images})")
    rng = derive_rng(seed, "noise", recipe.name, recipe.version)
    try:
        claimed, unit = recipe.draw(NoiseRequest(float(ratio), true, n_images, rng, path))
    except UserError:
        raise
    except Exception as error:  # of a plugin
        raise UserError(f"noise protocol {recipe.name!r} cannot draw {ratio:g}: {told(error)}") from error
    _check_drawn(recipe, claimed, unit, true, n_images)
    # One in a file of its own goes by its name: the claims that it made are part of what defines a run.
    name = recipe.name if is_path(protocol.partition(":")[0]) else protocol
    LOG.debug("drew noise %s %g with seed %d: %s", name, ratio, seed, unit)
    return Noise(name, recipe.version, unit, float(ratio), seed, claimed, correspondence_digest(claimed))


def _check_drawn(recipe: NoiseProtocol, claimed: object, unit: object, true: IntVector, n_images: int) -> None:
    """Raise UserError for what a protocol of somebody else's must not return."""
    problem = None
    if not isinstance(claimed, np.ndarray) or claimed.dtype != np.int64 or claimed.shape != true.shape:
        found = f"{claimed.dtype} {claimed.shape}" if isinstance(claimed, np.ndarray) else type(claimed).__name__
        problem = f"returned {found}, not an int64 vector with an image for each of {len(true):,} captions"
    elif not _within(claimed, n_images):
        problem = f"claims images {claimed.min()} to {claimed.max()}, and there are 0 to {n_images - 1}"
    elif unit not in get_args(Unit):
        problem = f"returned the unit {unit!r}, which must be {' or '.join(get_args(Unit))}"
    if problem:
        raise UserError(f"noise protocol {recipe.name!r} {problem}; mend the protocol.")


def save_noise(noise: Noise, path: Path) -> None:
    """Write `noise` to `path` (.npy, the claimed correspondence) and beside it as .json all that is known about it.

    The array is an index file in caption format: `file:PATH` and the published codes read it.
    Raises OSError, and ValueError if `path` does not end in .npy.
    """
    if path.suffix != ".npy":
        raise ValueError(f"noise is saved as .npy, not {path.name!r}")
    # A crash between the two leaves a digest that does not fit, which `load_noise` refuses.
    write_atomic(path, lambda file: np.save(file, noise.claimed.astype("<i8", copy=False), allow_pickle=False))
    write_json(path.with_suffix(".json"), {"format": _SIDECAR_FORMAT, **noise.record()})


def load_noise(path: Path) -> Noise:
    """Return what `save_noise` wrote to `path`.

    Raises UserError if the array or its .json is missing or malformed, or if the two do not belong together.
    """
    sidecar = path.with_suffix(".json")
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {sidecar}, which describes {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{sidecar} is not JSON ({error}); save the noise again") from error
    if not isinstance(content, dict) or content.pop("format", None) != _SIDECAR_FORMAT:
        raise UserError(f"{sidecar} does not describe noise; its 'format' must be {_SIDECAR_FORMAT!r}")
    claimed = _read_index(path).astype(np.int64)
    try:
        noise = Noise(claimed=claimed, **content)
    except TypeError as error:
        raise UserError(f"{sidecar} has missing or unknown fields ({error}); save the noise again") from error
    found = correspondence_digest(claimed)
    if found != noise.digest:
        raise UserError(f"{path} has digest {found}, but {sidecar.name} says {noise.digest}; save the noise again")
    return noise


def protocol_names() -> list[str]:
    """Return the sorted names of all noise protocols, of installed packages and of files; loads none of the latter.

    Raises UserError.
    """
    return names_of(KIND)


def load_protocol(name: str) -> NoiseProtocol:
    """Return the protocol called `name`, or the one in the file whose path that is.

    Raises UserError for an unknown or broken one, for a file that does not hold one, and for two of one name.
    """
    try:
        found, _ = find_plugin(KIND, name, "NoiseProtocol", _protocols_in)
    except UnknownNameError:
        raise unknown_name(KIND.noun, name, _usages()) from None
    if not isinstance(found, NoiseProtocol):
        raise UserError(f"noise protocol {name!r} is {found!r}, not an ncbench.NoiseProtocol.")
    check_calls_itself(KIND, name, found)
    return found


def _protocols_in(module: ModuleType) -> list[NoiseProtocol]:
    return [thing for thing in vars(module).values() if isinstance(thing, NoiseProtocol)]


def _usages() -> list[str]:
    """Return how all protocols are written; broken ones by their names."""
    usages = []
    for name in protocol_names():
        try:
            usages.append(load_protocol(name).usage)
        except UserError:
            usages.append(name)
    return usages


def _parse(text: str) -> tuple[NoiseProtocol, Path]:
    name, colon, rest = text.partition(":")
    recipe = load_protocol(name)
    if recipe.reads_file and not rest:
        raise UserError(f"noise protocol {text!r} names no index file; write {recipe.usage}")
    if colon and not recipe.reads_file:
        raise UserError(f"noise protocol {name!r} reads no file, found {text!r}; write {name}, or file:PATH for a file")
    return recipe, Path(rest).expanduser()


# Shuffles. Neither is a derangement: an item may receive its own image and stay clean, as in the published files.


def _shuffle_captions(request: NoiseRequest) -> tuple[IntVector, Unit]:
    """Shuffle the images of int(ratio * captions) captions among themselves (NCR, data.py)."""
    claimed = request.true.copy()
    _shuffle_some(claimed, request.ratio, request.rng)
    return claimed, "captions"


def _shuffle_images(request: NoiseRequest) -> tuple[IntVector, Unit]:
    """Shuffle int(ratio * images) images among themselves; captions follow their image (RCL, data.py)."""
    moved = np.arange(request.n_images)
    _shuffle_some(moved, request.ratio, request.rng)
    return moved[request.true], "images"


def _shuffle_some(values: IntVector, ratio: float, rng: np.random.Generator) -> None:
    chosen = _random_order(rng, len(values))[: int(ratio * len(values))]
    values[chosen] = values[chosen[_random_order(rng, len(chosen))]]


def _random_order(rng: np.random.Generator, n: int) -> IntVector:
    # NumPy keeps the raw stream of a bit generator for ever, but not what Generator.permutation makes of it.
    return np.argsort(rng.bit_generator.random_raw(n), kind="stable")


# Index files.


def _from_file(request: NoiseRequest, stated: Unit | None = None) -> tuple[IntVector, Unit]:
    """Read the claimed correspondence from a published index file; nothing is ever re-drawn.

    Files with an entry per image hold a permutation pi (claimed[c] = pi[true[c]]), files with an entry per caption
    hold claimed itself, possibly of whole images (np.repeat of a permutation).
    """
    stored = _read_index(request.path)
    _check_length(stored, request)
    _check_range(stored, request)
    claimed = stored.astype(np.int64)
    if _is_per_image(claimed, request, stated):
        _check_permutation(claimed, request.path)
        claimed = claimed[request.true]
    unit = _find_unit(claimed, request, stated)
    _check_file_ratio(claimed, unit, request)
    return claimed, unit


def _read_index(path: Path) -> NDArray[np.integer[Any]]:
    """Return the vector of integers in the .npy file `path`; UserError for anything else."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_NPY_MAGIC))
            if magic != _NPY_MAGIC:
                raise UserError(f"noise file {path} is not a .npy file; write it with numpy.save")
            file.seek(0)
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot read noise file {path}: {reason}; nothing is drawn in its place") from error
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, MemoryError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"noise file {path} is damaged or holds no plain integers: {reason}") from error
    if array.dtype.kind not in "iu":
        raise UserError(f"noise file {path} has dtype {array.dtype}; it must hold integers, such as int64")
    if array.ndim != 1:
        raise UserError(f"noise file {path} has shape {array.shape}; it must be a vector of image numbers")
    return cast("NDArray[np.integer[Any]]", array)


def _check_length(index: NDArray[np.integer[Any]], request: NoiseRequest) -> None:
    n_captions = len(request.true)
    if len(index) not in (request.n_images, n_captions):
        raise UserError(
            f"noise file {request.path} has {len(index):,} entries; this training set needs "
            f"{request.n_images:,} (one per image) or {n_captions:,} (one per caption)"
        )


def _check_range(index: NDArray[np.integer[Any]], request: NoiseRequest) -> None:
    if not _within(index, request.n_images):
        row = int(np.argmax((index < 0) | (index >= request.n_images)))
        raise UserError(
            f"noise file {request.path}, row {row}: image {index[row]} is out of range; "
            f"this training set has images 0 to {request.n_images - 1}"
        )


def _within(values: NDArray[np.integer[Any]], stop: int) -> bool:
    return len(values) == 0 or bool(values.min() >= 0 and values.max() < stop)


def _is_per_image(index: IntVector, request: NoiseRequest, stated: Unit | None) -> bool:
    """Return whether `index` has an entry per image; where both lengths are one, the unit stated decides."""
    true = request.true
    if request.n_images != len(true):
        return len(index) == request.n_images
    if stated is None and not np.array_equal(index[true], index):
        raise UserError(
            f"noise file {request.path} reads differently per image and per caption, and there are {len(true):,} "
            f"of both; say which with file-images:PATH or file-captions:PATH"
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
    """Return the unit that `claimed` moves; UserError if it is not the one stated."""
    path, true = request.path, request.true
    moved_to = np.zeros(request.n_images, np.int64)
    moved_to[true] = claimed
    apart = moved_to[true] != claimed
    if stated is None:
        return "captions" if apart.any() else "images"
    if stated == "images" and apart.any():
        image = true[np.argmax(apart)]
        raise UserError(
            f"noise file {path} moves single captions (those of image {image} go to different images), "
            f"but file-images is for whole images; use file-captions:PATH"
        )
    # Clean files, and those for one caption per image, are of both units.
    either = len(np.unique(true)) == len(true) or np.array_equal(claimed, true)
    if stated == "captions" and not apart.any() and not either:
        raise UserError(
            f"noise file {path} moves whole images (the captions of each image stay together), "
            f"but file-captions is for single captions; use file-images:PATH"
        )
    return stated


def _check_file_ratio(claimed: IntVector, unit: Unit, request: NoiseRequest) -> None:
    """Refuse a file whose share of mismatched items (captions or images, by its unit) is not the ratio asked for.

    The share may be off by RATIO_TOLERANCE and one item for rounding, and below by the items that shuffles are likely
    to leave in place. Ratio 0 means no mismatch at all.
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
            f"noise file {request.path} mismatches {share:.4f} of the {unit}, but noise ratio {ratio} was asked for; "
            f"ask for the ratio of the file, or name another file"
        )


def likely_self_landings(ratio: float, unit: Unit, true: IntVector) -> float:
    """Return how many shuffled items may land on themselves: the expected number and four standard deviations.

    The number is close to Poisson. Its mean is 1 for images, and sum(k_i^2) / m for m shuffled captions of which k_i
    are of image i, which is 1 - ratio + ratio * sum(K_i^2) / captions for images with K_i captions (5 each: 1 + 4r).
    """
    if unit == "images" or len(true) == 0:
        mean = 1.0
    else:
        mean = 1 - ratio + ratio * float(np.sum(np.bincount(true) ** 2)) / len(true)
    return mean + 4 * float(np.sqrt(mean))


SHUFFLE_CAPTIONS = NoiseProtocol(
    "shuffle-captions",
    "1",
    "captions",
    "single captions exchange their images (NCR, BiCro)",
    _shuffle_captions,
    nested=True,
)
SHUFFLE_IMAGES = NoiseProtocol(
    "shuffle-images",
    "1",
    "images",
    "images change places, all captions of an image move together (RCL, DECL, L2RM)",
    _shuffle_images,
    nested=True,
)
FILE = NoiseProtocol("file", "1", None, "a published index file; its unit is found", _from_file, reads_file=True)
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
