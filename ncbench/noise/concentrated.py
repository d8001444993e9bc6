"""Noise that falls on a part of what there is in the images, and leaves the rest alone."""

from __future__ import annotations

import numpy as np

from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest
from ncbench.noise.content import COMPARED, IntMatrix, content_of, distances
from ncbench.noise.sampling import count_of, random_order, raw_integers

CLUSTERS, SMALLEST = 50, 4
"""Clusters of images, and how many images each must have on average, lest there be fewer clusters."""


def _exchange_within_some(request: NoiseRequest) -> Drawn:
    """Exchange the images of int(ratio * captions) captions among themselves: all captions of random clusters.

    The last cluster may be taken in part. Clusters are the images nearest to each of CLUSTERS random ones.
    """
    n_captions, rng = len(request.true), request.rng
    clusters = _clusters(content_of(request.images), rng)
    # Clusters are numbered as their centres were drawn: their order is random.
    by_chance = random_order(rng, n_captions)
    order = by_chance[np.argsort(clusters[request.true[by_chance]], kind="stable")]
    chosen = order[: count_of(request.ratio, n_captions)]
    claimed = request.true.copy()
    claimed[chosen] = _exchanged(request.true[chosen], rng)
    return Drawn(claimed, "captions")


def _clusters(content: IntMatrix, rng: np.random.Generator) -> IntVector:
    """Return the cluster of each image, (images,); of two centres at one distance, the first has it."""
    n_images = len(content)
    centres = random_order(rng, n_images)[: max(1, min(CLUSTERS, n_images // SMALLEST))]
    found = np.empty(n_images, np.int64)
    for start in range(0, n_images, COMPARED):
        some = np.arange(start, min(start + COMPARED, n_images))
        found[some] = np.argmin(distances(content, some)[:, centres], axis=1)
    return found


def _exchanged(images: IntVector, rng: np.random.Generator) -> IntVector:
    """Return `images` in a random order in which none is where it was. Raises UserError where there is no such order.

    What a shuffle leaves in its place changes places with a random one, so that both have moved.
    """
    if len(images) and 2 * np.bincount(images).max() > len(images):
        raise UserError(
            f"{len(images)} captions cannot exchange their images when half of them are of one; ask for more noise."
        )
    found = images[random_order(rng, len(images))]
    for place in np.flatnonzero(found == images):
        if found[place] != images[place]:
            continue  # an earlier exchange moved it
        others = np.flatnonzero((found != images[place]) & (images != images[place]))
        other = others[int(raw_integers(rng, 1)[0] % np.uint64(len(others)))]
        found[place], found[other] = found[other], found[place]
    return found


CONCENTRATED = NoiseProtocol(
    "concentrated",
    "1",
    "captions",
    "all captions of a random part of the clusters of similar images exchange their images",
    _exchange_within_some,
    nested=True,
    exact=True,
)
