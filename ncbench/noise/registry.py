"""Noise protocols by name, and drawing noise."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType

import numpy as np

from ncbench.data.dataset import Split
from ncbench.data.splices import Splices
from ncbench.errors import UnknownNameError, UserError, error_with_location, unknown_name
from ncbench.noise.base import Drawn, Noise, NoiseProtocol, NoiseRequest, Unit, noise_digest, within
from ncbench.noise.ratio import check_ratio
from ncbench.plugins.discovery import check_names_match, find_plugin, names_of
from ncbench.plugins.source_files import Kind, is_path, offer_in_call
from ncbench.runtime.seeds import derive_rng

LOG = logging.getLogger(__name__)
GROUP = "ncbench.noise"
MOVABLE_UNITS: tuple[Unit, ...] = ("captions", "images", "words", "pairs")
KIND = Kind("noise protocol", GROUP, Path("noise"), lambda node: offer_in_call(node, "NoiseProtocol", summary_at=3))


def check_protocol(text: str) -> None:
    """Raise UserError unless `text` is a noise protocol, with a path if and only if it reads a file. Reads no file."""
    _parse(text)


def draw_noise(protocol: str, ratio: float, split: Split, seed: int) -> Noise:
    """Return the noise of `protocol` at `ratio` for the training split `split`.

    The random numbers do not depend on the ratio: for the same seed, the items selected at a lower ratio are among
    those selected at a higher one. So curves over the ratio are not blurred by independent draws.
    Raises UserError for an unknown protocol, a ratio outside [0, 1), a request that the protocol cannot satisfy, and an
    index file that is missing, malformed or inconsistent with the dataset, the unit or the ratio. Raises ValueError for
    a malformed correspondence.
    """
    recipe, path = _parse(protocol)
    check_ratio(ratio)
    true, n_images = split.true, len(split.images)
    if true.ndim != 1 or true.dtype != np.int64 or not within(true, n_images):
        raise ValueError(f"true must be an int64 vector with values in [0, {n_images})")
    rng = derive_rng(seed, "noise", recipe.name, recipe.version)
    request = NoiseRequest(float(ratio), true, n_images, rng, path, split)
    try:
        drawn = Drawn(*recipe.draw(request))
    except UserError as error:
        raise UserError(str(error) if recipe.reads_file else f"noise protocol {recipe.name!r}: {error}") from error
    except Exception as error:  # from a plugin
        raise UserError(
            f"noise protocol {recipe.name!r} failed at ratio {ratio:g}: {error_with_location(error)}"
        ) from error
    _check_drawn(recipe, drawn, request)
    # A protocol in a file is recorded by its name, not its path: the digest identifies its noise.
    name = recipe.name if is_path(protocol.partition(":")[0]) else protocol
    LOG.debug("drew noise %s %g with seed %d: %s", name, ratio, seed, drawn.unit)
    digest = noise_digest(drawn.claimed, drawn.splices)
    return Noise(name, recipe.version, drawn.unit, float(ratio), seed, drawn.claimed, digest, drawn.splices)


def _check_drawn(recipe: NoiseProtocol, drawn: tuple[object, object, object], request: NoiseRequest) -> None:
    """Raise UserError if the result of a protocol is not valid."""
    claimed, unit, splices = drawn
    true, n_images = request.true, request.n_images
    units = [recipe.unit] if recipe.unit and not recipe.makes_noise else MOVABLE_UNITS
    problem = None
    if not isinstance(claimed, np.ndarray) or claimed.dtype != np.int64 or claimed.shape != true.shape:
        found = f"{claimed.dtype} {claimed.shape}" if isinstance(claimed, np.ndarray) else type(claimed).__name__
        problem = f"returned {found}, expected an int64 vector with an image for each of {len(true):,} captions"
    elif not within(claimed, n_images):
        problem = f"returned images {claimed.min()} to {claimed.max()}, expected 0 to {n_images - 1}"
    elif unit not in units:
        problem = f"returned the unit {unit!r}, expected {' or '.join(units)}"
    elif isinstance(splices, Splices):
        try:
            splices.check(request.captions.lengths)
        except ValueError as error:
            problem = f"returned invalid splices: {error}"
    elif splices is not None:
        problem = f"returned {type(splices).__name__} as splices, expected ncbench.Splices"
    if problem:
        raise UserError(f"noise protocol {recipe.name!r} {problem}")


def protocol_names() -> list[str]:
    """Return the sorted names of all noise protocols in installed packages and files. Does not load files.

    Raises UserError.
    """
    return names_of(KIND)


def load_protocol(name: str, *, run_found: bool = True) -> NoiseProtocol:
    """Return the noise protocol with this name, or the one in the file with this path.

    Without `run_found`, files are only run if NCBENCH_PLUGINS names them. Raises UserError for unknown and broken
    protocols, files without a protocol, and ambiguous names.
    """
    try:
        found, _ = find_plugin(KIND, name, "NoiseProtocol", _protocols_in, run_found=run_found)
    except UnknownNameError:
        raise unknown_name(KIND.noun, name, _usages()) from None
    if not isinstance(found, NoiseProtocol):
        raise UserError(f"noise protocol {name!r} is {found!r}, expected an ncbench.NoiseProtocol")
    check_names_match(KIND, name, found)
    return found


def _protocols_in(module: ModuleType) -> list[NoiseProtocol]:
    return [value for value in vars(module).values() if isinstance(value, NoiseProtocol)]


def _usages() -> list[str]:
    """Return how users write each protocol; for broken ones, and those in files that are not run, the name."""
    usages = []
    for name in protocol_names():
        try:
            usages.append(load_protocol(name, run_found=False).usage)
        except UserError:
            usages.append(name)
    return usages


def _parse(text: str) -> tuple[NoiseProtocol, Path]:
    name, colon, rest = text.partition(":")
    if text.endswith(".npy") and not rest:
        raise UserError(f"noise protocol {text!r} is an index file; use file:{text}")
    recipe = load_protocol(name)
    if recipe.reads_file and not rest:
        raise UserError(f"noise protocol {text!r} needs an index file; use {recipe.usage}")
    if colon and not recipe.reads_file:
        raise UserError(
            f"noise protocol {name!r} does not read a file, found {text!r}; use {name}, or file:PATH for an index file"
        )
    return recipe, Path(rest).expanduser()
