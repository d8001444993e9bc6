"""Captions that move to an image much like their own."""

from __future__ import annotations

import numpy as np

from ncbench.errors import UserError
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest
from ncbench.noise.content import NONE, content_of, nearest
from ncbench.noise.sampling import count_of, random_order, raw_integers

NEAREST = 10
"""How many images a caption may move to."""


def _move_close(request: NoiseRequest) -> Drawn:
    """Move int(ratio * captions) captions, each to one of the NEAREST images of its own, drawn alike."""
    n_captions = len(request.true)
    order, draws = random_order(request.rng, n_captions), raw_integers(request.rng, n_captions)
    moved = order[: count_of(request.ratio, n_captions)]
    claimed = request.true.copy()
    origins, which = np.unique(request.true[moved], return_inverse=True)
    near = nearest(content_of(request.images), origins, NEAREST)
    there = (near != NONE).sum(axis=1)
    if not there.all():
        raise UserError(f"image {origins[np.argmin(there)]} looks like every other one: none is a mismatch for it.")
    claimed[moved] = near[which, (draws[moved] % there[which].astype(np.uint64)).astype(np.int64)]
    return Drawn(claimed, "captions")


SEMANTIC = NoiseProtocol(
    "semantic",
    "1",
    "captions",
    f"single captions move to one of the {NEAREST} images that look most like their own",
    _move_close,
    nested=True,
    exact=True,
)
