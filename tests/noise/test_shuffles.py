import numpy as np
import pytest
from correspondences import FIVE_EACH, SHUFFLES, correspondences, draw, examples, ratios, seeds
from hypothesis import given
from hypothesis import strategies as st

from ncbench.noise.registry import load_protocol


@examples
@given(correspondences(), ratios, seeds)
def test_caption_shuffle_exchanges_the_images_of_the_selected_number(data, ratio, seed):
    true, n_images = data
    noise = draw("shuffle-captions", ratio, true, n_images, seed)
    assert noise.unit == "captions"
    assert noise.claimed.dtype == np.int64
    assert np.array_equal(np.sort(noise.claimed), np.sort(true))
    assert np.count_nonzero(noise.claimed != true) <= int(ratio * len(true))


@examples
@given(correspondences(), ratios, seeds)
def test_image_shuffle_moves_whole_images(data, ratio, seed):
    true, n_images = data
    noise = draw("shuffle-images", ratio, true, n_images, seed)
    assert noise.unit == "images"
    moved = {}
    for image, claim in zip(true.tolist(), noise.claimed.tolist(), strict=True):
        assert moved.setdefault(image, claim) == claim
    assert len(set(moved.values())) == len(moved)
    assert sum(image != claim for image, claim in moved.items()) <= int(ratio * n_images)


@pytest.mark.parametrize("protocol", SHUFFLES)
@pytest.mark.parametrize("ratio", [0.2, 0.29, 0.5])
def test_exact_number_is_selected_and_few_land_on_themselves(protocol, ratio):
    # On average, one of the selected items stays in place.
    n, draws = 400, 200
    true = np.arange(n)
    moved = [int((draw(protocol, ratio, true, n, seed).claimed != true).sum()) for seed in range(draws)]
    selected = int(ratio * n)
    assert max(moved) == selected
    assert np.mean(moved) == pytest.approx(selected - 1, abs=5 / np.sqrt(draws))


def test_self_landings_of_captions_match_the_formula():
    true = np.arange(5000) // 5
    landed = [2000 - int((draw("shuffle-captions", 0.4, true, 1000, s).claimed != true).sum()) for s in range(200)]
    assert np.mean(landed) == pytest.approx(1 + 4 * 0.4, abs=5 * np.sqrt(2.6 / 200))


@examples
@given(correspondences(), ratios, seeds, st.sampled_from(SHUFFLES))
def test_clean_label_is_that_of_the_result(data, ratio, seed, protocol):
    true, n_images = data
    noise = draw(protocol, ratio, true, n_images, seed)
    expected = [claim == own for claim, own in zip(noise.claimed.tolist(), true.tolist(), strict=True)]
    assert noise.clean(true).tolist() == expected
    assert noise.mismatch(true) == pytest.approx(1 - sum(expected) / len(expected))
    kept = {own for own, is_clean in zip(true.tolist(), expected, strict=True) if is_clean}
    assert noise.survival(true) == pytest.approx(len(kept) / len(set(true.tolist())))


@pytest.mark.parametrize("protocol", SHUFFLES)
def test_seed_decides(protocol):
    first, again, other = (draw(protocol, 0.4, FIVE_EACH, 100, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.claimed, again.claimed)
    assert first == again
    assert not np.array_equal(first.claimed, other.claimed)
    assert first != other


def test_protocols_draw_independently():
    true = np.arange(200)
    captions, images = (draw(protocol, 0.4, true, 200, 0).claimed for protocol in SHUFFLES)
    assert not np.array_equal(captions, images)


@pytest.mark.parametrize("protocol", SHUFFLES)
def test_selection_grows_with_the_ratio(protocol):
    true = np.arange(1000)
    low, high = (draw(protocol, ratio, true, 1000, 3).claimed != true for ratio in (0.2, 0.6))
    # Except those that stay in place at the higher ratio.
    assert np.count_nonzero(low & ~high) <= 5


@pytest.mark.parametrize(
    ("protocol", "digest"),
    [
        ("shuffle-captions", "12e107aaebd7dc18d5f0e222000a3efc01d00debc75ec47bba18b987f3dc94b9"),
        ("shuffle-images", "5960198521fdd82710bb159510fff905aeac94577af9e44f865363ea31ac656f"),
    ],
)
def test_noise_of_version_1_never_changes(protocol, digest):
    assert load_protocol(protocol).version == "1"
    assert draw(protocol, 0.4, FIVE_EACH, 100, 7).digest == digest


@pytest.mark.parametrize("protocol", SHUFFLES)
def test_ratio_0_is_clean_and_leaves_the_truth_alone(protocol):
    true = FIVE_EACH.copy()
    noise = draw(protocol, 0, true, 100, 0)
    assert np.array_equal(noise.claimed, true)
    assert noise.claimed is not true
    draw(protocol, 0.8, true, 100, 0)
    assert np.array_equal(true, FIVE_EACH)
