"""Datasets whose words are unknown, and whose features are absurd."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from ncbench.data.data_warning import DataWarning
from ncbench.data.dataset import Captions, CaptionVectors, Dataset, ImageFeatures, Split
from ncbench.data.feature_sizes import check_sizes
from ncbench.data.unknown_words import check_words, unknown_share
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError

VOCABULARY = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", "red", "dog"))


def dataset(*captions: str, features: np.ndarray | None = None) -> Dataset:
    """Return a dataset whose splits all have these captions, one image each."""
    tokens = [VOCABULARY.encode(caption.split()) for caption in captions]
    images = np.ones((len(captions), 2, 3), np.float32) if features is None else features
    split = Split(ImageFeatures([images]), Captions(captions, tokens), np.arange(len(captions)))
    return Dataset("mine", "1", VOCABULARY, dict.fromkeys(("train", "dev", "test"), split), "d" * 64, {}, 2)


def silently(check: object, data: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(data)  # type: ignore[operator]


def test_the_share_of_unknown_words() -> None:
    captions = dataset("red dog", "red cat sat", "x").splits["train"].captions
    assert unknown_share(captions) == 3 / 6
    assert unknown_share(CaptionVectors(["a"], np.ones((1, 4), np.float32))) == 0


def test_unknown_words_are_told() -> None:
    silently(check_words, dataset("red dog red dog", "red dog dog cat"))
    with pytest.warns(DataWarning, match=r"25% of the words in train are unknown \(the vocabulary knows 2 words\)"):
        check_words(dataset("red dog red cat"))
    with pytest.raises(UserError, match=r"100% of the words in train are unknown .*text-features"):
        check_words(dataset("一只红狗", "x y"))


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (np.nan, "NaN or infinity"),
        (np.inf, "NaN or infinity"),
        (-1e20, r"a number of size 1e\+20"),
        (2e6, r"a number of size 2e\+06"),
    ],
)
def test_absurd_features_are_refused(bad: float, found: str) -> None:
    features = np.ones((3, 2, 3), np.float32)
    silently(check_sizes, dataset("red", "red", "red", features=features))
    features[1, 1, 2] = bad
    with pytest.raises(UserError, match=rf"dataset mine, train: features, row 1: contains {found}, expected"):
        check_sizes(dataset("red", "red", "red", features=features))


@pytest.mark.parametrize("factor", [0.0, 2e4])
def test_doubtful_features_are_told(factor: float) -> None:
    with pytest.warns(DataWarning, match="features of train are up to"):
        check_sizes(dataclasses.replace(dataset("red", features=np.full((1, 2, 3), factor, np.float32))))
