"""Captions whose words the vocabulary does not know. All unknown words are one word to a network."""

from __future__ import annotations

import warnings

import numpy as np

from ncbench.data.data_warning import DataWarning
from ncbench.data.dataset import Captions, Dataset
from ncbench.data.vocabulary import SPECIAL, UNKNOWN_ID
from ncbench.errors import UserError

DOUBTFUL_SHARE, MAX_UNKNOWN_SHARE = 0.2, 0.9
"""Shares of unknown words: above the first there is a warning, above the second the dataset is refused."""

_CHUNK_SIZE = 10_000  # captions at a time
_REMEDY = (
    "use the vocabulary of these captions (`ncbench data vocab`, or a lower min-count); in languages without spaces, "
    "name a tokenizer (tokenizer=FILE_OR_NAME for `hf:`, --tokenizer of `data featurize`), separate the words by "
    "spaces, or give captions as vectors (text-features)"
)


def unknown_share(captions: Captions) -> float:
    """Return the share of unknown words among all words of `captions`; 0 if they are vectors."""
    if captions.vector_dim:
        return 0.0
    words = unknown = 0
    for chosen in np.array_split(np.arange(len(captions)), 1 + len(captions) // _CHUNK_SIZE):
        if len(chosen):
            tokens, lengths = captions.padded(chosen)
            words += int((lengths - 2).sum())  # without <start> and <end>
            unknown += int(np.count_nonzero(tokens == UNKNOWN_ID))
    return unknown / words if words > 0 else 0.0


def check_words(dataset: Dataset) -> None:
    """Warn (DataWarning) if a split has many unknown words. Raises UserError if nearly all are unknown."""
    shares = {split: unknown_share(part.captions) for split, part in dataset.splits.items()}
    worst = max(shares, key=lambda split: shares[split])
    told = (
        f"dataset {dataset.name}: {shares[worst]:.0%} of the words in {worst} are unknown "
        f"(the vocabulary knows {len(dataset.vocabulary) - len(SPECIAL):,} words); {_REMEDY}"
    )
    if shares[worst] > MAX_UNKNOWN_SHARE:
        raise UserError(told)
    if shares[worst] > DOUBTFUL_SHARE:
        warnings.warn(told, DataWarning, stacklevel=2)
