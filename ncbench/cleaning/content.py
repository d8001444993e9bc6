"""Vectors of what has none yet: captions by their words, images by their regions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ncbench.cleaning.pairs import READ_ROWS, ArrayRows
from ncbench.data.dataset import FloatArray, ImageFeatures
from ncbench.errors import UserError
from ncbench.runtime.seeds import derive_rng

TEXT_DIM, IMAGE_DIM = 128, 256
"""Most dimensions of the vectors of captions and of images."""

FITTED_ON = 20_000
"""Captions and images, drawn at random, from which the vectors are learned."""


def caption_rows(texts: Sequence[str], folder: Path) -> ArrayRows:
    """Return vectors of captions, written to a file in `folder`: latent semantic analysis of words and word pairs.

    Source: Deerwester et al., JASIS 1990. Raises UserError if the captions have no words in common.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    sample = derive_rng(0, "cleaning", "captions").permutation(len(texts))[:FITTED_ON]
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\w+")
    try:
        counts = words.fit_transform(texts[number] for number in sample)
    except ValueError as error:  # no word is left
        raise UserError("no word occurs in two captions, so captions cannot be compared; give text vectors") from error
    dim = min(TEXT_DIM, counts.shape[1] - 1, counts.shape[0] - 1)
    if dim < 2:
        raise UserError("too few words occur in two captions to compare captions; give text vectors")
    topics = TruncatedSVD(dim, random_state=0).fit(counts)
    out = _file(folder / "caption_vectors.npy", len(texts), dim)
    for start in range(0, len(texts), READ_ROWS):
        part = words.transform(texts[start : start + READ_ROWS])
        out[start : start + part.shape[0]] = topics.transform(part)
    return _reopened(out)


def image_rows(features: ImageFeatures, folder: Path) -> ArrayRows:
    """Return vectors of images, written to a file in `folder`: the principal components of mean and maximum regions."""
    from sklearn.decomposition import PCA

    sample = np.sort(derive_rng(0, "cleaning", "images").permutation(len(features))[:FITTED_ON])
    pooled = _pooled(features, sample)
    mean, std = pooled.mean(0), pooled.std(0)
    std[std == 0] = 1
    dim = min(IMAGE_DIM, pooled.shape[1], len(sample) - 1)
    parts = PCA(dim, svd_solver="covariance_eigh").fit((pooled - mean) / std)
    out = _file(folder / "image_vectors.npy", len(features), dim)
    for start in range(0, len(features), READ_ROWS):
        some = np.arange(start, min(start + READ_ROWS, len(features)))
        out[some] = parts.transform((_pooled(features, some) - mean) / std)
    return _reopened(out)


def _pooled(features: ImageFeatures, numbers: np.ndarray) -> FloatArray:
    if features.n_regions == 1:
        return features.take(numbers)[:, 0]
    found = []
    for start in range(0, len(numbers), READ_ROWS):
        regions = features.take(numbers[start : start + READ_ROWS])
        found.append(np.concatenate([regions.mean(1), regions.max(1)], axis=1))
    return np.concatenate(found)


def _file(path: Path, rows: int, dim: int) -> np.memmap:
    return np.lib.format.open_memmap(path, "w+", np.float32, (rows, dim))


def _reopened(written: np.memmap) -> ArrayRows:
    written.flush()
    return ArrayRows(np.load(str(written.filename), mmap_mode="r", allow_pickle=False))
