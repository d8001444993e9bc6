"""Scorers of vectors, against the same computed naively."""

from __future__ import annotations

import numpy as np
import pytest
from planted import planted_vectors

from ncbench.cleaning import pairs as pairs_module
from ncbench.cleaning.pairs import ArrayRows, Pairs, Standard, unit
from ncbench.cleaning.scorers import neighbours as neighbours_module
from ncbench.cleaning.scorers.cosine import Cosine
from ncbench.cleaning.scorers.linear import RIDGE, Linear
from ncbench.cleaning.scorers.neighbours import Neighbours
from ncbench.errors import UserError


def pairs_of(images: np.ndarray, texts: np.ndarray, claimed: np.ndarray | None = None) -> Pairs:
    return Pairs(ArrayRows(images), ArrayRows(texts), np.arange(len(texts)) if claimed is None else claimed)


def test_folds_hold_whole_images_and_blocks_whole_folds() -> None:
    found = planted_vectors(60)
    claimed = np.repeat(np.arange(30), 2)
    pairs = pairs_of(found.images[:30], found.texts, claimed)
    assert all(len(np.unique(pairs.folds[claimed == image])) == 1 for image in range(30))
    assert sorted(np.concatenate(pairs.blocks)) == list(range(60))
    assert all(len(np.unique(pairs.folds[block])) == 1 for block in pairs.blocks)


def test_too_few_pairs() -> None:
    found = planted_vectors(39)
    with pytest.raises(UserError, match="found 39 pairs with 39 images; expected at least 40 pairs"):
        pairs_of(found.images, found.texts)


def test_cosine() -> None:
    found = planted_vectors(60)
    pairs = pairs_of(found.images, found.texts)
    block = pairs.blocks[0]
    one, other = found.images[block[1]], found.texts[block[3]]
    expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert Cosine(pairs).block(block)[1, 3] == pytest.approx(expected, rel=1e-5)


def test_linear_learns_from_the_other_folds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "READ_ROWS", 17)
    found = planted_vectors(100)
    pairs = pairs_of(found.images, found.texts[:, :10])
    block = pairs.blocks[-1]
    others = pairs.folds != pairs.folds[block[0]]
    images, texts = unit(found.images), unit(found.texts[:, :10])
    x, y = images[others] - images[others].mean(0), texts[others] - texts[others].mean(0)

    def ridge(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        within = one.T @ one / len(one)
        return np.linalg.solve(
            within + RIDGE * np.trace(within) / len(within) * np.eye(len(within)), one.T @ two
        ) / len(one)

    left, right = images[block] - images[others].mean(0), texts[block] - texts[others].mean(0)
    expected = unit(left @ ridge(x, y)) @ unit(right).T + unit(left) @ unit(right @ ridge(y, x)).T
    np.testing.assert_allclose(Linear(pairs).block(block), expected, atol=1e-4)


def test_neighbours_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "READ_ROWS", 17)
    found = planted_vectors(64)
    claimed = np.repeat(np.arange(32), 2)
    pairs = pairs_of(found.images[:32], found.texts, claimed)
    x, y = Standard.of(found.images[claimed])(found.images[claimed]), Standard.of(found.texts)(found.texts)

    def means(near: np.ndarray, far: np.ndarray, pair: int) -> np.ndarray:
        alike = np.where(claimed == claimed[pair], -np.inf, near @ near[pair])
        return far[np.argsort(-alike)[:8]].mean(0)

    block = pairs.blocks[0]
    expected = [[means(x, y, i) @ y[j] + x[i] @ means(y, x, j) for j in block] for i in block]
    np.testing.assert_allclose(Neighbours(pairs).block(block), expected, atol=1e-4)


def test_neighbours_are_looked_for_among_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours_module, "MIN_ANCHORS", 16)
    found = planted_vectors(200)
    for most, comparisons, anchors in ((49, 10**9, 49), (200, 49 * 200, 49), (200, 1, 16)):
        monkeypatch.setattr(neighbours_module, "MAX_ANCHORS", most)
        monkeypatch.setattr(neighbours_module, "MAX_COMPARISONS", comparisons)
        scorer = Neighbours(pairs_of(found.images, found.texts))
        root = round(anchors**0.5)
        assert all(nearest.shape == (200, root) and nearest.max() < anchors for nearest in scorer._nearest)


@pytest.mark.parametrize("kind", [Cosine, Linear, Neighbours])
def test_mismatched_pairs_score_lower(kind: type) -> None:
    found = planted_vectors(400, noise=0.3)
    pairs = pairs_of(found.images, found.texts)
    scorer, own = kind(pairs), np.empty(400)
    for block in pairs.blocks:
        own[block] = np.diag(scorer.block(block))
    higher = (own[~found.wrong][:, None] > own[found.wrong]).mean()
    assert higher > 0.9
