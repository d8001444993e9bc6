"""Captions that are partly wrong: some of their words are replaced by words of another caption."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import Captions
from ncbench.data.splices import Splices
from ncbench.errors import UserError
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest
from ncbench.noise.sampling import count_of, random_order, raw_integers

MAX_DRAWS = 100
"""Number of donors that are drawn for a caption before giving up."""

Row = tuple[int, int, int, int, int]


def words_of(request: NoiseRequest) -> Captions:
    """Return the captions of a request. Raises UserError if they are vectors."""
    if request.captions.vector_dim:
        raise UserError("captions of this dataset are vectors and have no words to replace")
    return request.captions


def _splice(request: NoiseRequest) -> Drawn:
    """Replace half of the words of int(ratio * captions) captions; the correspondence does not change.

    The words are consecutive, and so are those that replace them, from a caption of another image.
    """
    captions, n_captions = words_of(request), len(request.true)
    waiting = random_order(request.rng, n_captions)[: count_of(request.ratio, n_captions)]
    rows: list[Row] = []
    for _ in range(MAX_DRAWS):
        if not len(waiting):
            break
        # Drawn for all captions, so that the draws of a caption do not depend on the ratio.
        draws = raw_integers(request.rng, 3 * n_captions).reshape(3, n_captions)
        donors = (draws[0] % np.uint64(n_captions)).astype(np.int64)
        found = {
            int(caption): _splice_of(captions, int(caption), int(donors[caption]), draws[1:, caption])
            for caption in waiting[request.true[waiting] != request.true[donors[waiting]]]
        }
        rows += [row for row in found.values() if row is not None]
        waiting = np.array([caption for caption in waiting if found.get(int(caption)) is None], np.int64)
    if len(waiting):
        raise UserError(f"no caption of another image has other words than caption {waiting[0]}")
    splices = Splices(np.array(sorted(rows), np.int64)) if rows else None
    return Drawn(request.true.copy(), "words", splices)


def _splice_of(captions: Captions, caption: int, donor: int, draws: NDArray[np.uint64]) -> Row | None:
    """Return the splice of half the words of `caption` at positions from `draws`; None if it would change nothing."""
    own, other = captions.tokens(caption), captions.tokens(donor)
    length = min((len(own) - 1) // 2, len(other) - 2)
    if length < 1:
        return None
    start, donor_start = (
        1 + int(draw % np.uint64(len(tokens) - 1 - length)) for draw, tokens in zip(draws, (own, other), strict=True)
    )
    if np.array_equal(own[start : start + length], other[donor_start : donor_start + length]):
        return None
    return caption, start, donor, donor_start, length


PARTIAL = NoiseProtocol(
    "partial",
    "1",
    "words",
    "captions keep their image; half of their words are replaced by those of another image's caption",
    _splice,
    nested=True,
    exact=True,
)
