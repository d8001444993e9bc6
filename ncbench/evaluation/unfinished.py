"""Similarity matrices that are computed over several processes, because each of them ends before the matrix is done.

The file holds what is scored so far, and for which networks: it is ignored for others.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ncbench.backbones.base import Backbone
from ncbench.data.dataset import FloatArray
from ncbench.runtime.files import remove, write_atomic

LEAST_SECONDS = 1.0  # between two writings
COST_SHARE = 0.05  # of the time, at most, is spent on writing


@dataclass(frozen=True)
class Position:
    """How much of a matrix is scored: all of the first `networks`, and of the next one the images before `start`.

    The images from `start` to `stop` are scored with the first `captions`, in the order of their lengths.
    """

    networks: int = 0
    start: int = 0
    stop: int = 0
    captions: int = 0


class Unfinished:
    """Keeps the similarities in the file `path` while they are computed. `between` is called after every block.

    If `between` raises an exception, what is scored is written first. It is also written from time to time, as a
    process may be killed, at most every LEAST_SECONDS and for COST_SHARE of the time.
    """

    def __init__(self, path: Path, between: Callable[[], object]) -> None:
        self._path, self._between = path, between
        self._key: Callable[[], str] = str
        self._begun = self._written = time.monotonic()
        self._cost = 0.0
        self._resumed = False

    def begin(self, digest: Callable[[], str], shape: tuple[int, int]) -> tuple[FloatArray, Position] | None:
        """Return what is scored of a matrix (images, captions) by networks; None if nothing is.

        `digest` returns the digest of their weights. The matrix is the sum over the networks.
        """
        self._key = cache(digest)  # not needed for a matrix that is done soon
        self._begun = self._written = time.monotonic()
        found = _read(self._path, self._key(), shape) if self._path.is_file() else None
        self._resumed = found is not None
        return found

    def check(self) -> None:
        """Raise what `between` raises. For similarities in blocks, of which nothing is kept."""
        self._between()

    def scored(self, total: FloatArray, position: Position) -> None:
        """Receive the sum after a block. Raises what `between` raises."""
        try:
            self._between()
        except BaseException:
            self._write(total, position)
            raise
        if time.monotonic() - self._written >= max(LEAST_SECONDS, self._cost / COST_SHARE):
            self._write(total, position)

    def finish(self, total: FloatArray, position: Position) -> None:
        """Receive the whole sum: if it took long, it is kept, in case that what follows is interrupted too."""
        if self._resumed or self._written > self._begun:
            self._write(total, position)
        else:
            with suppress(OSError):
                remove(self._path)

    def _write(self, total: FloatArray, position: Position) -> None:
        """Write the file. Errors of the file system are ignored: the matrix can be computed again."""
        since = time.monotonic()
        facts = {"key": self._key(), "digest": hashlib.sha256(total.data).hexdigest(), "position": asdict(position)}

        def write(file: BinaryIO) -> None:
            file.write(json.dumps(facts).encode() + b"\n")
            np.save(file, total, allow_pickle=False)

        with suppress(OSError):
            write_atomic(self._path, write)
        self._written = time.monotonic()
        self._cost = self._written - since


def unfinished_file(folder: Path, split: str) -> Path:
    """Return the file in `folder` that keeps the similarities of a split."""
    return folder / f"similarities-{split}.npy"


def scored_at(folder: Path) -> int:
    """Return when such a file was last written, in nanoseconds since the epoch; 0 without one. Writing is progress."""
    with suppress(OSError):
        return max((path.stat().st_mtime_ns for path in folder.glob(unfinished_file(folder, "*").name)), default=0)
    return 0


def _read(path: Path, key: str, shape: tuple[int, int]) -> tuple[FloatArray, Position] | None:
    try:
        with path.open("rb") as file:
            facts: dict[str, Any] = json.loads(file.readline(1 << 12))
            if facts["key"] != key:
                return None
            total = np.load(file, allow_pickle=False)
        position = Position(**facts["position"])
        if total.shape == shape and hashlib.sha256(total.data).hexdigest() == facts["digest"]:
            return total, position
    except (OSError, EOFError, KeyError, MemoryError, SyntaxError, TypeError, ValueError, RecursionError):
        pass
    return None


def weights_digest(networks: Sequence[Backbone]) -> str:
    """Return the SHA-256 of all weights, with their names, shapes and types."""
    digest = hashlib.sha256(str(len(networks)).encode())
    for network in networks:
        for name, weight in network.state_dict().items():
            digest.update(repr((name, tuple(weight.shape), str(weight.dtype))).encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
