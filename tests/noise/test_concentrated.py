import numpy as np
import pytest
from correspondences import FIVE_EACH, correspondences, drawn, examples, pinned_split, ratios, seeds, split_of
from hypothesis import assume, given
from hypothesis import strategies as st

from ncbench.errors import UserError
from ncbench.noise.concentrated import MAX_CLUSTERS, _clusters, _exchanged
from ncbench.noise.content import content_of
from ncbench.noise.sampling import random_order
from ncbench.runtime.seeds import derive_rng


@examples
@given(correspondences(), ratios, seeds)
def test_an_exact_number_of_captions_exchange_their_images_or_none_can(data, ratio, seed):
    true, n_images = data
    try:
        noise = drawn("concentrated", ratio, seed, true, n_images)
    except UserError:  # see the next test
        assume(False)
    moved = noise.claimed != true
    assert np.count_nonzero(moved) == int(ratio * len(true))
    assert sorted(noise.claimed[moved]) == sorted(true[moved])


@examples
@given(st.lists(st.integers(0, 5), max_size=40), seeds)
def test_exchange_leaves_nothing_in_its_place(images, seed):
    images = np.array(images, np.int64)
    possible = not len(images) or 2 * np.bincount(images).max() <= len(images)
    if not possible:
        with pytest.raises(UserError, match="captions cannot exchange their images"):
            _exchanged(images, np.random.default_rng(seed))
        return
    found = _exchanged(images, np.random.default_rng(seed))
    assert not np.any(found == images)
    assert sorted(found) == sorted(images)


def test_exchange_is_uniform():
    images = np.arange(4)
    seen = {tuple(_exchanged(images, np.random.default_rng(seed)).tolist()) for seed in range(500)}
    assert len(seen) == 9  # the derangements of four


def test_noise_fills_whole_clusters_and_part_of_one():
    true = np.arange(1000) // 2
    split = split_of(true, 500)
    moved = drawn("concentrated", 0.4, 0, true, 500, split).claimed != true
    clusters = _clusters(content_of(split.images), derive_rng(0, "noise", "concentrated", "1"))[true]
    shares = np.bincount(clusters, moved) / np.bincount(clusters)
    assert len(shares) == MAX_CLUSTERS
    assert np.count_nonzero((shares > 0) & (shares < 1)) <= 1
    assert {0.0, 1.0} <= set(shares)


def test_clusters_are_the_images_nearest_to_a_centre():
    content = np.random.default_rng(0).integers(-9, 9, size=(80, 3))
    clusters = _clusters(content, np.random.default_rng(1))
    centres = random_order(np.random.default_rng(1), 80)[:20]  # 80 images, four each
    for image, cluster in enumerate(clusters):
        away = [int(((content[image] - content[centre]) ** 2).sum()) for centre in centres]
        assert cluster == away.index(min(away))


def test_lower_ratios_select_a_subset_of_higher_ones():
    low, high = drawn("concentrated", 0.2), drawn("concentrated", 0.6)
    assert not np.any((low.claimed != FIVE_EACH) & (high.claimed == FIVE_EACH))


def test_another_seed_selects_others():
    one, other = (drawn("concentrated", 0.4, seed).claimed != FIVE_EACH for seed in (0, 1))
    assert 0.2 < np.mean(one[other]) < 0.7


def test_noise_of_version_1_never_changes():
    assert drawn("concentrated", 0.4, 7, split=pinned_split()).digest[:16] == "1abe4341ffab7120"
