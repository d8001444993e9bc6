"""The noise protocol `carousel`: so many images move on by one place, with all their captions."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ncbench import NoiseProtocol, NoiseRequest


def ride(request: NoiseRequest) -> tuple[NDArray[np.int64], Literal["images"]]:
    """Return the claimed correspondence, (captions,) int64, and what moved.

    Unlike in `shuffle-images`, no image that was chosen keeps its own captions, but for one that is chosen alone.
    """
    moved = np.arange(request.n_images)
    chosen = request.rng.permutation(request.n_images)[: int(request.ratio * request.n_images)]
    moved[chosen] = np.roll(chosen, 1)
    return moved[request.true], "images"


CAROUSEL = NoiseProtocol("carousel", "1", "images", "images move on by one, and none keeps its own", ride, nested=True)
