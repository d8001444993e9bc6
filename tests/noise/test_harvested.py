"""The four kinds of noise in harvested pairs, and which pairs get which."""

from collections import Counter

import numpy as np
import pytest
from correspondences import FIVE_EACH, correspondences, drawn, examples, pinned_split, ratios, seeds, split_of
from hypothesis import given

from ncbench.data.dataset import Captions, CaptionVectors, ImageFeatures, Split
from ncbench.data.splices import NO_DONOR
from ncbench.data.vocabulary import SPECIAL, UNKNOWN_ID, Vocabulary
from ncbench.errors import UserError
from ncbench.noise import harvested
from ncbench.noise.content import content_of
from ncbench.noise.harvested import SHARED_BY
from ncbench.noise.semantic import N_NEAREST
from ncbench.noise.topics import topicality

VOCABULARY = Vocabulary((*SPECIAL, *(f"w{n}" for n in range(4, 64))))
CHANGES = ["image", "shortened", "words", "unknown"]  # of the kinds, in their order


def words_of(captions, caption):
    return captions.tokens(caption)[1:-1].tolist()


@examples
@given(correspondences().filter(lambda data: data[1] > 1), ratios, seeds)
def test_an_exact_number_of_pairs_is_spoilt_and_none_is_true_by_accident(data, ratio, seed):
    true, n_images = data
    split = split_of(true, n_images, words=40)
    noise = drawn("harvested", ratio, seed, true, n_images, split)
    seen, changes = noise.seen(split.captions, VOCABULARY), noise.changes(true)
    said = {(tuple(words_of(split.captions, c)), image) for c, image in enumerate(true.tolist())}
    assert np.count_nonzero(changes) == int(ratio * len(true))
    assert np.array_equal(noise.clean(true), changes == "")
    assert noise.mismatch(true) == pytest.approx(int(ratio * len(true)) / len(true))
    assert noise.unit == "pairs"
    for caption, change in enumerate(changes.tolist()):
        before, after = words_of(split.captions, caption), words_of(seen, caption)
        same_words, same_image = before == after, noise.claimed[caption] == true[caption]
        assert (same_words, same_image) == (change in ("", "image"), change != "image")
        if change in ("image", "words"):
            assert (tuple(after), int(noise.claimed[caption])) not in said
        if change == "unknown":
            assert Counter(after)[UNKNOWN_ID] > Counter(before)[UNKNOWN_ID]
        if change == "shortened":
            assert len(after) == 1
            assert after[0] in before


@examples
@given(correspondences().filter(lambda data: data[1] > 1), seeds)
def test_what_happens_to_a_pair_does_not_depend_on_the_ratio(data, seed):
    true, n_images = data
    split = split_of(true, n_images, words=40)
    low, high = (drawn("harvested", ratio, seed, true, n_images, split) for ratio in (0.3, 0.8))
    spoilt = ~low.clean(true)
    assert np.array_equal(low.claimed[spoilt], high.claimed[spoilt])
    rows = [set(map(tuple, noise.splices.rows.tolist())) if noise.splices else set() for noise in (low, high)]
    assert rows[0] <= rows[1]


def test_each_kind_is_a_quarter():
    split = split_of(FIVE_EACH, 100, words=40)
    counts = Counter(drawn("harvested", 0.4, split=split).changes(FIVE_EACH).tolist())
    assert counts[""] == 300
    # Captions of one word cannot lose words: some of 50 topics become duplicates.
    lost = 50 - counts["shortened"]
    assert 0 < lost < 15
    assert [counts[change] for change in CHANGES] == [50, 50 - lost, 50 + lost, 50]


def test_neighbours_are_among_the_most_similar_images():
    split = split_of(FIVE_EACH, 100, words=40)
    content = content_of(split.images).astype(float)
    away = ((content[:, None] - content) ** 2).sum(axis=2)
    np.fill_diagonal(away, np.inf)
    near = np.argsort(away, axis=1)[:, :N_NEAREST]
    places = set()
    for seed in range(5):
        noise = drawn("harvested", 0.8, seed, split=split)
        for caption in np.flatnonzero(noise.changes(FIVE_EACH) == "image"):
            (place,) = np.flatnonzero(near[FIVE_EACH[caption]] == noise.claimed[caption])
            places.add(int(place))
    assert places == set(range(N_NEAREST))


def test_topics_are_the_most_topical_words():
    split = split_of(FIVE_EACH, 100, words=40)
    noise = drawn("harvested", split=split)
    about, seen = topicality(split.captions, FIVE_EACH), noise.seen(split.captions, VOCABULARY)
    shortened = np.flatnonzero(noise.changes(FIVE_EACH) == "shortened")
    assert len(shortened)
    for caption in shortened:
        (left,) = words_of(seen, caption)
        assert about[left] == max(about[word] for word in words_of(split.captions, caption))


def test_a_duplicate_is_the_text_of_many_pairs_and_not_true_of_any():
    true = np.arange(1000)
    split = split_of(true, 1000, words=40)
    noise = drawn("harvested", 0.9, 0, true, 1000, split)
    rows = noise.splices.table
    whole = rows[(rows[:, 2] != NO_DONOR) & (rows[:, 2] != rows[:, 0])]
    lengths = split.captions.lengths - 2
    assert np.array_equal(whole[:, 5], lengths[whole[:, 0]])
    assert np.array_equal(whole[:, 4], lengths[whole[:, 2]])
    assert not np.any(whole[:, 0] == whole[:, 2])
    uses = Counter(whole[:, 2].tolist())
    assert len(uses) == 225 // SHARED_BY + 1
    assert max(uses.values()) > 0.8 * SHARED_BY


def test_three_quarters_of_foreign_words_are_unknown_and_consecutive():
    split, starts = split_of(FIVE_EACH, 100, words=40), set()
    for seed in range(4):
        noise = drawn("harvested", 0.8, seed, split=split)
        seen = noise.seen(split.captions, VOCABULARY)
        for caption in np.flatnonzero(noise.changes(FIVE_EACH) == "unknown"):
            before, after = words_of(split.captions, caption), words_of(seen, caption)
            unknown = np.flatnonzero(np.array(after) == UNKNOWN_ID)
            assert len(unknown) == int(np.ceil(3 * len(before) / 4))
            assert np.all(np.diff(unknown) == 1)
            assert all(word in (UNKNOWN_ID, before[place]) for place, word in enumerate(after))
            if len(before) == 8:
                starts.add(int(unknown[0]))
    assert starts == {0, 1, 2}


def split_with(token_lists, features=None):
    """Pairs of these words and images that differ, unless given."""
    n = len(token_lists)
    features = np.random.default_rng(0).normal(size=(n, 1, 4)).astype(np.float32) if features is None else features
    captions = Captions([""] * n, [[1, *words, 2] for words in token_lists])
    return Split(ImageFeatures([features]), captions, np.arange(n))


def changes_of(split, ratio=0.9, seed=0):
    true = split.true
    return Counter(drawn("harvested", ratio, seed, true, len(true), split).changes(true).tolist())


def test_images_that_look_alike_are_no_neighbours():
    split = split_with([[n, n + 1] for n in range(4, 24)], np.ones((20, 1, 4), np.float32))
    counts = changes_of(split)
    assert counts == {"": 2, "shortened": 10, "words": 4, "unknown": 4}


def test_an_image_with_the_same_caption_is_no_neighbour_and_gets_no_duplicate():
    split = split_with([[4, 5]] * 20)
    assert changes_of(split) == {"": 2, "shortened": 10, "unknown": 8}


def test_captions_of_one_word_are_not_shortened():
    counts = changes_of(split_with([[n] for n in range(4, 24)]))
    assert counts == {"": 2, "image": 5, "words": 9, "unknown": 4}


def test_captions_of_unknown_words_get_no_more_of_them():
    counts = changes_of(split_with([[UNKNOWN_ID] * (1 + n) for n in range(20)]))
    assert counts["unknown"] == 0
    assert sum(counts.values()) - counts[""] == 18


def test_captions_without_words_move():
    assert changes_of(split_with([[]] + [[4 + n] for n in range(19)]), 0.99)["image"] >= 5
    with pytest.raises(UserError, match=r"'harvested': caption \d+ has no words to change, and every image that looks"):
        changes_of(split_with([[]] * 20))


def test_captions_that_are_vectors_are_refused():
    true = np.arange(4)
    split = Split(split_of(true, 4).images, CaptionVectors([""] * 4, np.ones((4, 3), np.float32)), true)
    for ratio in (0.0, 0.5):
        with pytest.raises(UserError, match="'harvested': captions of this dataset are vectors and have no words"):
            drawn("harvested", ratio, 0, true, 4, split)


def test_a_duplicate_is_given_up_after_some_draws(monkeypatch):
    monkeypatch.setattr(harvested, "MAX_DRAWS", 0)
    assert changes_of(split_of(FIVE_EACH, 100))["words"] == 0


def test_ratio_0_is_the_clean_run():
    noise = drawn("harvested", 0.0)
    assert noise.splices is None
    assert noise.digest == drawn("semantic", 0.0).digest


def test_seeds_select_other_pairs_and_do_other_things_to_them():
    one, other = (drawn("harvested", 0.4, seed) for seed in (0, 1))
    both = ~one.clean(FIVE_EACH) & ~other.clean(FIVE_EACH)
    assert 50 < both.sum() < 110  # 80 of 200, if independent
    same = one.changes(FIVE_EACH)[both] == other.changes(FIVE_EACH)[both]
    assert same.mean() < 0.5


def test_noise_of_version_1_never_changes():
    assert drawn("harvested", 0.4, 7, split=pinned_split()).digest[:16] == "28333102d36055a1"
