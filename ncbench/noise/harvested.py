"""Noise as in pairs harvested from web pages: a model of what goes wrong with alt texts, in four kinds.

Which kinds occur is published; in which shares is not, so they are equal here. See "Noise of harvested pairs" in the
documentation of protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ncbench.data.dataset import IntVector
from ncbench.data.splices import NO_DONOR, Splices
from ncbench.data.vocabulary import UNKNOWN_ID
from ncbench.errors import UserError
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest
from ncbench.noise.content import NO_IMAGE, content_of, nearest
from ncbench.noise.sampling import count_of, random_order, raw_integers
from ncbench.noise.semantic import N_NEAREST
from ncbench.noise.splicing import words_of
from ncbench.noise.topics import topicality

KINDS = ("neighbour", "topic", "duplicate", "foreign")
"""The kinds of noise, in turn along the selected pairs: a quarter each, which is an assumption."""

SHARED_BY = 50
"""Number of pairs that get the same duplicate text. ALIGN takes a text that more than 10 images share for useless."""

FOREIGN_SHARE = (3, 4)
"""Share of the words, rounded up, that a foreign caption has not in the vocabulary: an assumption. Others, as names and
numbers, are the same in all languages."""

MAX_DRAWS = 100
"""Number of texts that are tried for a duplicate before giving up."""

Row = tuple[int, int, int, int, int, int]


def _harvest(request: NoiseRequest) -> Drawn:
    """Spoil int(ratio * captions) pairs, each in one of KINDS.

    A pair that cannot be spoilt in its kind, as a caption of one word cannot lose words, is spoilt in the next possible
    one. What happens to a pair does not depend on the ratio.
    """
    words_of(request)
    chosen = random_order(request.rng, len(request.true))[: count_of(request.ratio, len(request.true))]
    pages = _Harvest(request, chosen)
    claimed, rows = request.true.copy(), []
    for place, caption in enumerate(chosen.tolist()):
        found = pages.spoil(caption, place)
        if isinstance(found, int):
            claimed[caption] = found
        else:
            rows.append(found)
    return Drawn(claimed, "pairs", Splices(np.array(sorted(rows), np.int64)) if rows else None)


class _Harvest:
    """The material of one harvest: what captions say of which image, pages of similar images, and texts to repeat.

    `chosen` are the captions to spoil, in order.
    """

    def __init__(self, request: NoiseRequest, chosen: IntVector) -> None:
        self._captions, self._true = request.captions, request.true
        self._texts = random_order(request.rng, len(self._true))
        self._draws = raw_integers(request.rng, len(self._true))
        self._content = content_of(request.images)
        self._pages: dict[int, IntVector] = {}
        if len(chosen):
            self._topicality = topicality(self._captions, self._true)
            self._said = {(self._text(caption), image) for caption, image in enumerate(self._true.tolist())}
            self._look_up(np.unique(self._true[chosen[:: len(KINDS)]]))

    def spoil(self, caption: int, place: int) -> Row | int:
        """Return the splice of `caption`, which is at `place` among the chosen, or the image that it claims instead."""
        kinds: Mapping[str, Callable[[int, int], Row | int | None]] = {
            "neighbour": self._neighbour,
            "topic": self._topic,
            "duplicate": self._duplicate,
            "foreign": self._foreign,
        }
        for step in range(len(KINDS)):
            found = kinds[KINDS[(place + step) % len(KINDS)]](caption, place)
            if found is not None:
                return found
        raise UserError(
            f"caption {caption} has no words to change, and every image that looks similar has this caption"
        )

    def _neighbour(self, caption: int, place: int) -> int | None:
        """Return one of the N_NEAREST images most similar to that of the caption which does not have this caption."""
        own, text = int(self._true[caption]), self._text(caption)
        if own not in self._pages:
            self._look_up(np.array([own]))
        near = [image for image in self._pages[own].tolist() if image != NO_IMAGE and (text, image) not in self._said]
        return near[int(self._draws[caption] % np.uint64(len(near)))] if near else None

    def _topic(self, caption: int, place: int) -> Row | None:
        """Leave the most topical word only; of ties the first."""
        words = self._captions.tokens(caption)[1:-1]
        if len(words) < 2:
            return None
        return caption, 1, caption, 1 + int(np.argmax(self._topicality[words])), 1, len(words)

    def _duplicate(self, caption: int, place: int) -> Row | None:
        """Take the text that SHARED_BY successive pairs get; the next one if it is true of this image."""
        image, n_words = int(self._true[caption]), self._n_words(caption)
        first = place // len(KINDS) // SHARED_BY
        for text in range(first, first + min(MAX_DRAWS, len(self._texts))) if n_words else ():
            donor = int(self._texts[text % len(self._texts)])
            if self._n_words(donor) and (self._text(donor), image) not in self._said:
                return caption, 1, donor, 1, self._n_words(donor), n_words
        return None

    def _foreign(self, caption: int, place: int) -> Row | None:
        """Replace FOREIGN_SHARE of the words, which are consecutive, by unknown ones."""
        words, (part, whole) = self._captions.tokens(caption)[1:-1], FOREIGN_SHARE
        length = -(-len(words) * part // whole)
        start = int(self._draws[caption] % np.uint64(len(words) - length + 1))
        if (words[start : start + length] == UNKNOWN_ID).all():  # also without words
            return None
        return caption, 1 + start, NO_DONOR, 0, length, length

    def _look_up(self, images: IntVector) -> None:
        self._pages |= zip(images.tolist(), nearest(self._content, images, N_NEAREST), strict=True)

    def _text(self, caption: int) -> bytes:
        return self._captions.tokens(caption).tobytes()

    def _n_words(self, caption: int) -> int:
        return int(self._captions.lengths[caption]) - 2


HARVESTED = NoiseProtocol(
    "harvested",
    "1",
    "pairs",
    "as from web pages: texts of similar images, topic words alone, repeated texts, foreign words",
    _harvest,
    nested=True,
    exact=True,
)
