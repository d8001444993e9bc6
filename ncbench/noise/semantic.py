"""Captions that move to an image similar to their own."""

from __future__ import annotations

import numpy as np

from ncbench.errors import UserError
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest
from ncbench.noise.content import NO_IMAGE, content_of, nearest
from ncbench.noise.sampling import count_of, random_order, raw_integers

N_NEAREST = 10
"""Number of images that a caption may move to."""


def _move_close(request: NoiseRequest) -> Drawn:
    """Move int(ratio * captions) captions, each to one of the N_NEAREST neighbours of its image, drawn uniformly."""
    n_captions = len(request.true)
    order, draws = random_order(request.rng, n_captions), raw_integers(request.rng, n_captions)
    moved = order[: count_of(request.ratio, n_captions)]
    claimed = request.true.copy()
    origins, which = np.unique(request.true[moved], return_inverse=True)
    near = nearest(content_of(request.images), origins, N_NEAREST)
    n_near = (near != NO_IMAGE).sum(axis=1)
    if not n_near.all():
        raise UserError(f"image {origins[np.argmin(n_near)]} looks the same as all others, so it has no mismatch")
    claimed[moved] = near[which, (draws[moved] % n_near[which].astype(np.uint64)).astype(np.int64)]
    return Drawn(claimed, "captions")


SEMANTIC = NoiseProtocol(
    "semantic",
    "1",
    "captions",
    f"single captions move to one of the {N_NEAREST} images most similar to their own",
    _move_close,
    nested=True,
    exact=True,
)
