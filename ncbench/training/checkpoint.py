"""Snapshots: states (see `ncbench.runtime.state`) in files that are complete or absent, even if the process is killed.

A snapshot is two files: `<number>.safetensors` with tensors and arrays, and `<number>.json` with everything else,
references to the tensors, and the SHA-256 of both. The JSON file is written last, and each file by renaming.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from ncbench.runtime.files import remove, write_atomic, write_text
from ncbench.runtime.state import State

SNAPSHOTS_KEPT = 2
NAME = re.compile(r"\d{8}\.json")

# What JSON cannot express is written as {KIND: name of the kind, VALUE: ...}.
KIND, VALUE = "kind", "value"


class Damaged(Exception):  # noqa: N818 - an outcome of reading
    """A snapshot differs from what was written."""


def write_snapshot(folder: Path, number: int, state: State) -> None:
    """Write `state` as snapshot `number`, and remove all but the latest SNAPSHOTS_KEPT.

    Raises TypeError for a state that `ncbench.runtime.state.capture` cannot return, OSError if `folder` cannot be
    written.
    """
    tensors: dict[str, Tensor] = {}
    content = {"number": number, "state": _plain(state, tensors), "tensors": ""}
    binary = to_safetensors(tensors)
    content["tensors"] = hashlib.sha256(binary).hexdigest()
    text = json.dumps({**content, "sha256": _digest(content)}, allow_nan=False)
    stem = folder / f"{number:08d}"
    write_atomic(stem.with_suffix(".safetensors"), lambda file: file.write(binary))
    write_text(stem.with_suffix(".json"), text)
    for old in _snapshots(folder)[SNAPSHOTS_KEPT:]:
        # Without its JSON file it is not a snapshot any more.
        remove(old)
        remove(old.with_suffix(".safetensors"))


def read_snapshot(folder: Path, warn: Callable[[str], None]) -> State | None:
    """Return the state of the latest intact snapshot, or None. `warn` is called with a message for each damaged one."""
    for path in _snapshots(folder):
        try:
            return _read(path)
        except Damaged as error:
            warn(f"{path}: {error}; using the snapshot before it.")
    return None


def latest_number(folder: Path) -> int:
    """Return the number of the latest snapshot, intact or not; -1 if there is none."""
    return max((int(path.stem) for path in _snapshots(folder)), default=-1)


def _snapshots(folder: Path) -> list[Path]:
    """Return the JSON files of all snapshots in `folder`, the latest first."""
    return sorted((path for path in folder.glob("*.json") if NAME.fullmatch(path.name)), reverse=True)


def _read(path: Path) -> State:
    try:
        content = json.loads(path.read_bytes())
        claimed = content.pop("sha256")
        if _digest(content) != claimed:
            raise Damaged("its content differs from what was written")
        binary = path.with_suffix(".safetensors").read_bytes()
        if hashlib.sha256(binary).hexdigest() != content["tensors"]:
            raise Damaged("its tensors differ from what was written")
        state = _restored(content["state"], from_safetensors(binary))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise Damaged(f"it cannot be read ({error})") from error
    assert isinstance(state, dict)
    return state


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return `value` for JSON. Tensors and arrays move to `tensors`, and are replaced by their names."""
    if isinstance(value, Tensor | np.ndarray):
        name = str(len(tensors))
        tensors[name] = (torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value).contiguous()
        return {KIND: "array" if isinstance(value, np.ndarray) else "tensor", VALUE: name}
    if isinstance(value, dict):
        # A list of pairs, as keys may be numbers and their order matters.
        return {KIND: "dict", VALUE: [[key, _plain(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list):
        return [_plain(item, tensors) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {KIND: "float", VALUE: str(value)}
    if isinstance(value, bool | int | float | str | None):
        return value
    raise TypeError(f"a snapshot cannot hold a {type(value).__name__}")


def _restored(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_restored(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind, held = value[KIND], value[VALUE]
    if kind == "dict":
        return {key: _restored(item, tensors) for key, item in held}
    if kind == "float":
        return float(held)
    return tensors[held].numpy() if kind == "array" else tensors[held]
