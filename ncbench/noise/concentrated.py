"""Noise concentrated on clusters of similar images; the other images stay clean."""

from __future__ import annotations

import numpy as np

from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest
from ncbench.noise.content import COMPARE_BATCH, IntMatrix, Points, content_of
from ncbench.noise.sampling import count_of, random_order, raw_integers

MAX_CLUSTERS, MIN_MEAN_CLUSTER_SIZE = 50, 4
"""There are MAX_CLUSTERS clusters, or fewer if they would have fewer images on average."""


def _exchange_within_some(request: NoiseRequest) -> Drawn:
    """Exchange the images of int(ratio * captions) captions with each other: all captions of random clusters.

    Only part of the last cluster may be used. A cluster is the images nearest to one of MAX_CLUSTERS random images.
    """
    n_captions, rng = len(request.true), request.rng
    clusters = _clusters(content_of(request.images), rng)
    # Clusters are numbered in the random order of their centres.
    shuffled = random_order(rng, n_captions)
    order = shuffled[np.argsort(clusters[request.true[shuffled]], kind="stable")]
    chosen = order[: count_of(request.ratio, n_captions)]
    claimed = request.true.copy()
    claimed[chosen] = _exchanged(request.true[chosen], rng)
    return Drawn(claimed, "captions")


def _clusters(content: IntMatrix, rng: np.random.Generator) -> IntVector:
    """Return the cluster of each image, (images,); ties go to the first centre."""
    n_images = len(content)
    centres = random_order(rng, n_images)[: max(1, min(MAX_CLUSTERS, n_images // MIN_MEAN_CLUSTER_SIZE))]
    found, points = np.empty(n_images, np.int64), Points(content)
    for start in range(0, n_images, COMPARE_BATCH):
        some = np.arange(start, min(start + COMPARE_BATCH, n_images))
        found[some] = np.argmin(points.distances(some, centres), axis=1)
    return found


def _exchanged(images: IntVector, rng: np.random.Generator) -> IntVector:
    """Return `images` in a random order with no entry in its original place. Raises UserError if that is impossible.

    After a shuffle, each entry still in place is swapped with a random one such that both have moved.
    """
    if len(images) and 2 * np.bincount(images).max() > len(images):
        raise UserError(
            f"{len(images)} captions cannot exchange their images, because more than half of them share one image; "
            "use a higher noise ratio"
        )
    found = images[random_order(rng, len(images))]
    for place in np.flatnonzero(found == images):
        if found[place] != images[place]:
            continue  # moved by an earlier swap
        others = np.flatnonzero((found != images[place]) & (images != images[place]))
        other = others[int(raw_integers(rng, 1)[0] % np.uint64(len(others)))]
        found[place], found[other] = found[other], found[place]
    return found


CONCENTRATED = NoiseProtocol(
    "concentrated",
    "1",
    "captions",
    "all captions of some random clusters of similar images exchange their images",
    _exchange_within_some,
    nested=True,
    exact=True,
)
