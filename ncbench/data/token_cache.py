"""A cache of the word ids of large sets of captions. Tokenising Flickr30K takes seconds, at every start."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

import numpy as np

from ncbench.data.cache import cache_root
from ncbench.data.dataset import IntVector
from ncbench.data.tokenise import Tokeniser
from ncbench.data.vocabulary import Vocabulary
from ncbench.runtime.files import write_atomic

MIN_CACHED_CAPTIONS = 20_000
"""Word ids of at least this many captions are cached."""

_FORMAT = 1  # increase it when tokenisation changes
_HASHED = 10_000  # captions at a time


def token_ids(texts: Sequence[str], vocabulary: Vocabulary, tokeniser: Tokeniser) -> tuple[IntVector, IntVector]:
    """Return the concatenated word ids of captions, and their lengths (captions,); int64.

    The counters of `tokeniser` are updated either way. Cached word ids are used only if tokenising again would give the
    same: if they depend on NLTK's Punkt data, these must be installed now if and only if they were then.
    """
    if len(texts) < MIN_CACHED_CAPTIONS:
        return _tokenise(texts, vocabulary, tokeniser)
    key = hashlib.sha256(f"{_FORMAT}\n{vocabulary.digest}{tokeniser.digest}".encode())
    for start in range(0, len(texts), _HASHED):
        key.update("\n".join(("", *texts[start : start + _HASHED])).encode())
    path = cache_root() / "tokens" / f"{key.hexdigest()[:32]}.npz"
    with suppress(Exception):  # missing, damaged or of another version: tokenise again
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            tokens, lengths = kept["tokens"].astype(np.int64), kept["lengths"].astype(np.int64)
            asked, trained = int(kept["asked"]), bool(kept["trained"])
        fits = len(lengths) == len(texts) and lengths.sum() == len(tokens) and lengths.min() >= 2
        inside = tokens.min() >= 0 and tokens.max() < len(vocabulary)
        if fits and inside and (not asked or trained == tokeniser.trained):
            tokeniser.seen += len(texts)
            tokeniser.asked += asked
            tokeniser.doubtful += 0 if trained else asked
            return tokens, lengths
    before = tokeniser.asked
    tokens, lengths = _tokenise(texts, vocabulary, tokeniser)
    asked = tokeniser.asked - before
    trained = bool(asked) and tokeniser.trained

    def write(file: BinaryIO) -> None:
        kept = tokens.astype("<i4"), lengths.astype("<i4")
        np.savez(file, tokens=kept[0], lengths=kept[1], asked=np.array(asked), trained=np.array(trained))

    with suppress(OSError):  # a missing cache only costs time
        write_atomic(path, write)
    return tokens, lengths


def _tokenise(texts: Sequence[str], vocabulary: Vocabulary, tokeniser: Tokeniser) -> tuple[IntVector, IntVector]:
    lengths = np.empty(len(texts), np.int64)
    flat = array("q")  # 64-bit integers
    for number, text in enumerate(texts):
        ids = vocabulary.encode(tokeniser(text))
        lengths[number] = len(ids)
        flat.extend(ids)
    return np.array(flat, np.int64), lengths
