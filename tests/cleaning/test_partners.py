"""Proposals: only where kept captions find their own image."""

from __future__ import annotations

import numpy as np
import pytest
from planted import planted_vectors

from ncbench.cleaning import partners
from ncbench.cleaning.pairs import ArrayRows, Pairs
from ncbench.cleaning.partners import NO_PARTNER, propose
from ncbench.cleaning.scorers.cosine import Cosine


def test_the_best_image_of_all_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partners, "READ_ROWS", 17)
    found = planted_vectors(200, noise=0.2)
    pairs = Pairs(ArrayRows(found.images), ArrayRows(found.texts), np.arange(200))
    suspects, trusted = np.flatnonzero(found.wrong), np.flatnonzero(~found.wrong)
    proposed = propose(pairs, Cosine(pairs), suspects, trusted)
    images, texts = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (found.images, found.texts))
    best = (texts @ images.T).argmax(1)
    np.testing.assert_array_equal(proposed.pair[suspects], best[suspects])
    assert (proposed.pair[trusted] == NO_PARTNER).all()
    assert proposed.hit_rate > 0.95
    assert proposed.looked_up == len(suspects)


def test_nothing_is_proposed_where_kept_captions_do_not_find_their_image() -> None:
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 200, 8)).astype(np.float32)
    pairs = Pairs(ArrayRows(images), ArrayRows(texts), np.arange(200))
    proposed = propose(pairs, Cosine(pairs), np.arange(50), np.arange(50, 200))
    assert (proposed.pair == NO_PARTNER).all()
    assert proposed.hit_rate == 0


def test_without_trusted_pairs_nothing_is_proposed() -> None:
    found = planted_vectors(60)
    pairs = Pairs(ArrayRows(found.images), ArrayRows(found.texts), np.arange(60))
    assert (propose(pairs, Cosine(pairs), np.arange(60), np.arange(0)).pair == NO_PARTNER).all()


def test_the_worst_are_looked_up_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partners, "MAX_COMPARISONS", 600)
    found = planted_vectors(60, noise=0.1)
    pairs = Pairs(ArrayRows(found.images), ArrayRows(found.texts), np.arange(60))
    assert propose(pairs, Cosine(pairs), np.flatnonzero(found.wrong), np.flatnonzero(~found.wrong)).looked_up == 10
