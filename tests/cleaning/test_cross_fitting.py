"""Methods as scorers: nobody judges what it has seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planted import planted_vectors

from ncbench.cleaning.pairs import ArrayRows, Pairs
from ncbench.cleaning.scorers import cross_fitting
from ncbench.cleaning.scorers.cross_fitting import CrossFitted
from ncbench.cleaning.scoring import dataset_of
from ncbench.data.dataset import ImageFeatures
from ncbench.data.training_view import TrainingView


def fitted(count: int = 60, epochs: float = 0.6) -> CrossFitted:
    found = planted_vectors(count, dim=8)
    claimed = np.repeat(np.arange(count // 2), 2)
    pairs = Pairs(ArrayRows(found.images[: count // 2]), ArrayRows(found.texts), claimed, n_folds=3)
    features = ImageFeatures([found.images[: count // 2, None]])
    return CrossFitted(pairs, dataset_of(pairs, features, None, found.texts), "infonce", epochs=epochs)


def test_no_pair_is_judged_by_a_network_that_has_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Watched(TrainingView):
        def __init__(self, images: Any, captions: Any, *rest: Any) -> None:
            super().__init__(images, captions, *rest)
            every = np.arange(len(captions))
            seen.append((images.take(np.arange(len(images)))[:, 0], captions.padded(every)[0]))

    monkeypatch.setattr(cross_fitting, "TrainingView", Watched)
    scorer = fitted()
    pairs = scorer.pairs
    judged = []
    for block in pairs.blocks:
        before = len(seen)
        scorer.block(block)
        images, captions = seen[-1]
        assert len(seen) - before <= 1
        assert not {row.tobytes() for row in pairs.image_vectors(block)} & {row.tobytes() for row in images}
        assert not {row.tobytes() for row in pairs.captions.take(block)} & {row.tobytes() for row in captions}
        fold = pairs.folds[block[0]]
        assert len(captions) == (pairs.folds != fold).sum()
        judged += block.tolist()
    assert len(seen) == 3
    assert sorted(judged) == list(range(60))


def test_the_same_seed_gives_the_same_scores() -> None:
    one, other = fitted(), fitted()
    np.testing.assert_array_equal(one.block(one.pairs.blocks[0]), other.block(other.pairs.blocks[0]))
