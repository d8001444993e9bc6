"""Correspondences of captions with images, for tests of noise."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from ncbench.data.dataset import Captions, ImageFeatures, Split
from ncbench.noise.registry import draw_noise

SHUFFLES = ["shuffle-captions", "shuffle-images"]
FIVE_EACH = np.arange(500) // 5  # 100 images, 500 captions

examples = settings(max_examples=60)
ratios = st.sampled_from([0.0, 0.1, 0.2, 0.29, 0.4, 0.5, 0.6, 0.8, 0.99])
seeds = st.integers(0, 2**31)


@st.composite
def correspondences(draw):
    """Any number of captions per image (also none), captions in any order: (true, n_images)."""
    counts = draw(st.lists(st.integers(0, 6), min_size=1, max_size=20).filter(any))
    true = np.repeat(np.arange(len(counts)), counts)
    return draw(st.permutations(true.tolist()).map(lambda t: np.array(t, np.int64))), len(counts)


def split_of(true, n_images, seed=0, regions=3, dim=5, words=12):
    """A training split with this correspondence: random features, and captions of one to nine random words."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_images, regions, dim)).astype(np.float32)
    spoken = [[1, *rng.integers(4, 4 + words, rng.integers(1, 10)).tolist(), 2] for _ in true]
    texts = [" ".join(f"w{word}" for word in caption[1:-1]) for caption in spoken]
    return Split(ImageFeatures([features]), Captions(texts, spoken), true)


def drawn(protocol, ratio=0.4, seed=0, true=FIVE_EACH, n_images=100, split=None):
    """Noise of a protocol that looks at images or captions."""
    return draw_noise(protocol, ratio, split or split_of(true, n_images), seed)


def draw(protocol, ratio, true, n_images, seed):
    """Noise of a protocol that looks at the correspondence alone."""
    split = Split(ImageFeatures([np.zeros((n_images, 1, 1), np.float32)]), Captions([], []), true)
    return draw_noise(protocol, ratio, split, seed)


def pinned_split():
    """100 images with five captions each that are the same with every version of NumPy."""
    numbers = np.arange(100 * 3 * 5) * 7919 % 1009 / 64
    spoken = [
        [1, *(4 + (caption * 31 + word * 17) % 23 for word in range(1 + caption % 9)), 2] for caption in range(500)
    ]
    features = ImageFeatures([numbers.astype(np.float32).reshape(100, 3, 5)])
    return Split(features, Captions([""] * 500, spoken), FIVE_EACH)
