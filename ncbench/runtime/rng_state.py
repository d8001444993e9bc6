"""The state of all generators of random numbers that are global: Python's, NumPy's and torch's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from ncbench.runtime.state import State, capture


def seed_all(seed: int) -> None:
    """Seed the global generators, those of all devices included, with `seed` in [0, 2**63)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> State:
    """Return the state of the global generators, those of all CUDA devices included."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    captured = capture(state)
    assert isinstance(captured, dict)
    return captured


def set_random_state(state: State) -> None:
    """Take back what `random_state` returned; devices that are not here are left out."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, device)
