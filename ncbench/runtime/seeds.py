"""Seeds derived from the run seed by hashing."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *axes: str | int) -> int:
    """Return a seed in [0, 2**63) for the use of randomness named by `axes`.

    Each use of randomness has its own name, so a new use does not change the seeds of others.
    """
    text = "\x1f".join(map(str, (seed, *axes)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_rng(seed: int, *axes: str | int) -> np.random.Generator:
    """Return a NumPy generator seeded by `derive_seed(seed, *axes)`."""
    return np.random.default_rng(derive_seed(seed, *axes))
