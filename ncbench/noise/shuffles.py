"""The two standard protocols: shuffling captions and shuffling images.

Neither is a derangement: as in the published files, an item may land on its own image and stay clean.
"""

from __future__ import annotations

import numpy as np

from ncbench.data.dataset import IntVector
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest, Unit
from ncbench.noise.sampling import count_of, random_order


def _shuffle_captions(request: NoiseRequest) -> Drawn:
    """Shuffle the images of int(ratio * captions) captions (NCR, data.py)."""
    claimed = request.true.copy()
    _shuffle_some(claimed, request.ratio, request.rng)
    return Drawn(claimed, "captions")


def _shuffle_images(request: NoiseRequest) -> Drawn:
    """Shuffle int(ratio * images) images; captions follow their image (RCL, data.py)."""
    moved = np.arange(request.n_images)
    _shuffle_some(moved, request.ratio, request.rng)
    return Drawn(moved[request.true], "images")


def _shuffle_some(values: IntVector, ratio: float, rng: np.random.Generator) -> None:
    chosen = random_order(rng, len(values))[: count_of(ratio, len(values))]
    values[chosen] = values[chosen[random_order(rng, len(chosen))]]


def likely_self_landings(ratio: float, unit: Unit, true: IntVector) -> float:
    """Return how many shuffled items may stay in place: the expected number plus four standard deviations.

    The number is approximately Poisson. Its mean is 1 for images. For m shuffled captions, k_i of them of image i, it
    is sum(k_i^2) / m, or 1 - ratio + ratio * sum(K_i^2) / captions for images with K_i captions (5 each: 1 + 4 ratio).
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
    "images exchange places; all captions of an image move together (RCL, DECL, L2RM)",
    _shuffle_images,
    nested=True,
)
