"""Topic words: the word of a caption that says most of what its image is about."""

from __future__ import annotations

import numpy as np

from ncbench.data.dataset import Captions, IntVector
from ncbench.data.vocabulary import UNKNOWN_ID

STEPS = 2**20
"""Topicality is a share in whole numbers of 1 / STEPS, so that it is the same on every machine."""

_PADDED = 4096  # captions at a time


def topicality(captions: Captions, true: IntVector) -> IntVector:
    """Return how much each word id is about the image, (highest id + 1,) int64 in units of 1 / STEPS.

    Given that a caption has the word, the share of the other captions of its image that have it, less the share of all
    captions that do: near 0 for words such as "the", high for what everyone who sees the image names. Where images
    have one caption each, the rarest word is the most topical. Unknown words are the least.
    """
    words, lengths = _all_words(captions), captions.lengths
    n_words = max(int(words.max(initial=0)), UNKNOWN_ID) + 1
    owners = np.repeat(np.arange(len(captions)), lengths)
    said = np.unique(owners * n_words + words)  # each word once a caption
    captions_with = np.bincount(said % n_words, minlength=n_words)
    together, times = np.unique(true[said // n_words] * n_words + said % n_words, return_counts=True)
    others = np.bincount(true)[together // n_words] - 1
    agreeing, asked = np.zeros(n_words, np.int64), np.zeros(n_words, np.int64)
    np.add.at(agreeing, together % n_words, times * (times - 1))
    np.add.at(asked, together % n_words, times * others)
    found: IntVector = STEPS * agreeing // np.maximum(asked, 1) - STEPS * captions_with // max(len(captions), 1)
    found[UNKNOWN_ID] = -2 * STEPS
    return found


def _all_words(captions: Captions) -> IntVector:
    """Return the word ids of all captions, one after the other. A few are padded at a time: one may be very long."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(captions), _PADDED):
        tokens, lengths = captions.padded(np.arange(start, min(start + _PADDED, len(captions))))
        found.append(tokens[np.arange(tokens.shape[1]) < lengths[:, None]].astype(np.int64))
    return np.concatenate(found)
