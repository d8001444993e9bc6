"""Drawing noise by the name of its protocol."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType

import numpy as np

from ncbench.data.dataset import IntVector, Split
from ncbench.data.splices import Splices
from ncbench.errors import UnknownNameError, UserError, told, unknown_name
from ncbench.noise.base import Drawn, Noise, NoiseProtocol, NoiseRequest, Unit, noise_digest, within
from ncbench.noise.ratio import check_ratio
from ncbench.plugins.discovery import check_calls_itself, find_plugin, names_of
from ncbench.plugins.source_files import Kind, is_path, offer_in_call
from ncbench.runtime.seeds import derive_rng

LOG = logging.getLogger(__name__)
GROUP = "ncbench.noise"
MOVED: tuple[Unit, ...] = ("captions", "images", "words")
KIND = Kind("noise protocol", GROUP, Path("noise"), lambda node: offer_in_call(node, "NoiseProtocol", summary_at=3))


def check_protocol(text: str) -> None:
    """Raise UserError unless `text` names a noise protocol, with a path exactly where one belongs. Reads no file."""
    _parse(text)


def draw_noise(
    protocol: str, ratio: float, true: IntVector, n_images: int, seed: int, split: Split | None = None
) -> Noise:
    """Return the noise of `protocol` at `ratio` for the correspondence `true`, (captions,) int64 in [0, n_images).

    `split` is what protocols look at that need more than numbers. The ratio is no axis of the randomness: of one seed,
    the items selected at a lower ratio are among those selected at a higher one, so that curves over the ratio are not
    blurred by independent draws.
    Raises UserError for an unknown protocol, a ratio outside [0, 1), what a protocol cannot do with this split, and an
    index file that is missing, malformed or at odds with the dataset, the unit or the ratio; ValueError for a malformed
    `true`.
    """
    recipe, path = _parse(protocol)
    check_ratio(ratio)
    if true.ndim != 1 or true.dtype != np.int64 or not within(true, n_images):
        raise ValueError(f"true must be an int64 vector with values in [0, {n_images})")
    rng = derive_rng(seed, "noise", recipe.name, recipe.version)
    request = NoiseRequest(float(ratio), true, n_images, rng, path, split)
    try:
        drawn = Drawn(*recipe.draw(request))
    except UserError as error:
        raise UserError(str(error) if recipe.reads_file else f"noise protocol {recipe.name!r}: {error}") from error
    except Exception as error:  # of a plugin
        raise UserError(f"noise protocol {recipe.name!r} cannot draw {ratio:g}: {told(error)}") from error
    _check_drawn(recipe, drawn, request)
    # One in a file of its own goes by its name: the claims that it made are part of what defines a run.
    name = recipe.name if is_path(protocol.partition(":")[0]) else protocol
    LOG.debug("drew noise %s %g with seed %d: %s", name, ratio, seed, drawn.unit)
    digest = noise_digest(drawn.claimed, drawn.splices)
    return Noise(name, recipe.version, drawn.unit, float(ratio), seed, drawn.claimed, digest, drawn.splices)


def _check_drawn(recipe: NoiseProtocol, drawn: tuple[object, object, object], request: NoiseRequest) -> None:
    """Raise UserError for what a protocol of somebody else's must not return."""
    claimed, unit, splices = drawn
    true, n_images = request.true, request.n_images
    units = [recipe.unit] if recipe.unit and not recipe.makes_noise else MOVED
    problem = None
    if not isinstance(claimed, np.ndarray) or claimed.dtype != np.int64 or claimed.shape != true.shape:
        found = f"{claimed.dtype} {claimed.shape}" if isinstance(claimed, np.ndarray) else type(claimed).__name__
        problem = f"returned {found}, not an int64 vector with an image for each of {len(true):,} captions"
    elif not within(claimed, n_images):
        problem = f"claims images {claimed.min()} to {claimed.max()}, and there are 0 to {n_images - 1}"
    elif unit not in units:
        problem = f"returned the unit {unit!r}, which must be {' or '.join(units)}"
    elif isinstance(splices, Splices):
        try:
            splices.check(request.captions.lengths)
        except ValueError as error:
            problem = f"returned splices that do not fit: {error}"
    elif splices is not None:
        problem = f"returned {type(splices).__name__} as splices, not ncbench.Splices"
    if problem:
        raise UserError(f"noise protocol {recipe.name!r} {problem}; mend the protocol.")


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
