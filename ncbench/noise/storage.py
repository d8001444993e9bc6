"""Noise on disk: the claimed correspondence as an index file, and what is known about it beside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ncbench.data.splices import Splices
from ncbench.errors import UserError
from ncbench.noise.base import Noise, noise_digest
from ncbench.noise.index_files import read_array, read_index
from ncbench.runtime.files import write_atomic, write_json

_SIDECAR_FORMAT = "ncbench-noise-1"


def save_noise(noise: Noise, path: Path) -> None:
    """Write `noise` to `path` (.npy, the claimed correspondence) and beside it as .json all that is known about it.

    The array is an index file in caption format: `file:PATH` and the published codes read it. Splices lie beside it
    too, as .splices.npy.
    Raises OSError, and ValueError if `path` does not end in .npy.
    """
    if path.suffix != ".npy":
        raise ValueError(f"noise is saved as .npy, not {path.name!r}")
    # A crash between these leaves a digest that does not fit, which `load_noise` refuses.
    write_atomic(path, lambda file: np.save(file, noise.claimed.astype("<i8", copy=False), allow_pickle=False))
    spliced = 0
    if noise.splices is not None:
        rows, spliced = noise.splices.rows.astype("<i8", copy=False), len(noise.splices)
        write_atomic(splices_path(path), lambda file: np.save(file, rows, allow_pickle=False))
    content = {"format": _SIDECAR_FORMAT, **noise.record(), **({"spliced": spliced} if spliced else {})}
    write_json(path.with_suffix(".json"), content)


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
    claimed = read_index(path).astype(np.int64)
    splices = _read_splices(splices_path(path)) if content.pop("spliced", 0) else None
    try:
        noise = Noise(claimed=claimed, splices=splices, **content)
    except TypeError as error:
        raise UserError(f"{sidecar} has missing or unknown fields ({error}); save the noise again") from error
    found = noise_digest(claimed, splices)
    if found != noise.digest:
        raise UserError(f"{path} has digest {found}, but {sidecar.name} says {noise.digest}; save the noise again")
    return noise


def splices_path(path: Path) -> Path:
    """Return where the splices of the noise at `path` lie."""
    return path.with_suffix(".splices.npy")


def _read_splices(path: Path) -> Splices:
    try:
        return Splices(read_array(path).astype(np.int64))
    except ValueError as error:
        raise UserError(f"noise file {path}: {error}; save the noise again") from error
