"""Noise on disk: the claimed correspondence as an index file, with a JSON file that describes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ncbench.data.splices import Splices
from ncbench.errors import UserError, brief
from ncbench.noise.base import Noise, noise_digest
from ncbench.noise.index_files import read_array, read_index
from ncbench.runtime.bounded import read_bytes
from ncbench.runtime.files import write_atomic, write_json

_SIDECAR_FORMAT = "ncbench-noise-1"
_MAX_SIDECAR_BYTES = 2**20


def save_noise(noise: Noise, path: Path) -> None:
    """Write the claimed correspondence of `noise` to `path` (.npy) and its description to a .json file next to it.

    The array is an index file in caption format, readable by `file:PATH` and by the published code. Splices go to a
    .splices.npy file next to it. Raises OSError, and ValueError if `path` does not end in .npy.
    """
    if path.suffix != ".npy":
        raise ValueError(f"expected a path ending in .npy, found {path.name!r}")
    # A crash between the writes leaves a digest that does not match, which `load_noise` refuses.
    write_atomic(path, lambda file: np.save(file, noise.claimed.astype("<i8", copy=False), allow_pickle=False))
    spliced = 0
    if noise.splices is not None:
        rows, spliced = noise.splices.rows.astype("<i8", copy=False), len(noise.splices)
        write_atomic(splices_path(path), lambda file: np.save(file, rows, allow_pickle=False))
    content = {"format": _SIDECAR_FORMAT, **noise.record(), **({"spliced": spliced} if spliced else {})}
    write_json(path.with_suffix(".json"), content)


def load_noise(path: Path) -> Noise:
    """Return the noise that `save_noise` wrote to `path`.

    Raises UserError if the array or its .json file is missing or malformed, or if they do not match.
    """
    sidecar = path.with_suffix(".json")
    try:
        content = json.loads(read_bytes(sidecar, _MAX_SIDECAR_BYTES))
    except OSError as error:
        raise UserError(f"cannot read {sidecar}, the description of {path.name}: {error.strerror}") from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{sidecar} is not valid JSON ({error}); save the noise again") from error
    if not isinstance(content, dict) or content.pop("format", None) != _SIDECAR_FORMAT:
        raise UserError(f"{sidecar} does not describe noise; expected 'format' {_SIDECAR_FORMAT!r}")
    claimed = read_index(path).astype(np.int64)
    splices = _read_splices(splices_path(path)) if content.pop("spliced", 0) else None
    try:
        noise = Noise(claimed=claimed, splices=splices, **content)
    except TypeError as error:
        raise UserError(f"{sidecar} has missing or unknown fields ({brief(error)}); save the noise again") from error
    found = noise_digest(claimed, splices)
    if found != noise.digest:
        raise UserError(
            f"{path} has digest {found}, but {sidecar.name} says {brief(noise.digest, 64)}; save the noise again"
        )
    return noise


def splices_path(path: Path) -> Path:
    """Return the path of the splices of the noise at `path`."""
    return path.with_suffix(".splices.npy")


def _read_splices(path: Path) -> Splices:
    try:
        return Splices(read_array(path).astype(np.int64))
    except ValueError as error:
        raise UserError(f"noise file {path}: {error}; save the noise again") from error
