import numpy as np
import pytest
from correspondences import FIVE_EACH, correspondences, drawn, examples, pinned_split, ratios, seeds, split_of
from hypothesis import given

from ncbench.data.dataset import ImageFeatures, Split
from ncbench.errors import UserError
from ncbench.noise.content import content_of
from ncbench.noise.semantic import N_NEAREST


@examples
@given(correspondences().filter(lambda data: data[1] > 1), ratios, seeds)
def test_an_exact_number_of_captions_move_and_none_to_its_own_image(data, ratio, seed):
    true, n_images = data
    noise = drawn("semantic", ratio, seed, true, n_images)
    assert np.count_nonzero(noise.claimed != true) == int(ratio * len(true))
    assert (noise.unit, noise.splices) == ("captions", None)


def test_captions_move_to_the_nearest_images_and_to_each_of_them():
    split = split_of(FIVE_EACH, 100)
    content = content_of(split.images).astype(float)
    away = ((content[:, None] - content) ** 2).sum(axis=2)
    np.fill_diagonal(away, np.inf)
    near = np.argsort(away, axis=1)[:, :N_NEAREST]
    places = np.zeros(N_NEAREST, int)
    for seed in range(10):
        claimed = drawn("semantic", 0.8, seed, split=split).claimed
        for caption in np.flatnonzero(claimed != FIVE_EACH):
            places[np.flatnonzero(near[FIVE_EACH[caption]] == claimed[caption])] += 1
    assert places.sum() == 10 * 400
    assert places.min() > 300  # 400 each, on average


def test_lower_ratios_move_some_of_the_same_captions_to_the_same_images():
    low, high = drawn("semantic", 0.2), drawn("semantic", 0.6)
    moved = low.claimed != FIVE_EACH
    assert np.array_equal(low.claimed[moved], high.claimed[moved])


def test_images_that_look_alike_are_not_mismatches():
    features = np.repeat(np.random.default_rng(0).normal(size=(5, 1, 4)), 2, axis=0).astype(np.float32)
    true = np.arange(10)
    split = Split(ImageFeatures([features]), split_of(true, 10).captions, true)
    for seed in range(20):
        claimed = drawn("semantic", 0.9, seed, true, 10, split).claimed
        moved = claimed != true
        assert not np.any(claimed[moved] // 2 == true[moved] // 2)


def test_images_that_all_look_alike_are_refused():
    split = Split(ImageFeatures([np.ones((4, 1, 2), np.float32)]), split_of(np.arange(4), 4).captions, np.arange(4))
    with pytest.raises(UserError, match="noise protocol 'semantic': image 0 looks the same as all others"):
        drawn("semantic", 0.99, 0, np.arange(4), 4, split)


def test_noise_of_version_1_never_changes():
    assert drawn("semantic", 0.4, 7, split=pinned_split()).digest[:16] == "e92c45968ed33dd3"
