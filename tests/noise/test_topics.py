"""The topicality of words."""

import numpy as np
from correspondences import FIVE_EACH, correspondences, examples, split_of
from hypothesis import given

from ncbench.data.dataset import Captions
from ncbench.data.vocabulary import UNKNOWN_ID
from ncbench.noise.topics import STEPS, topicality


def naive(captions, true, word):
    """The topicality of a word, from its definition."""
    words = [set(captions.tokens(caption).tolist()) for caption in range(len(captions))]
    others = [
        word in words[other]
        for one in range(len(words))
        for other in range(len(words))
        if word in words[one] and one != other and true[one] == true[other]
    ]
    share = sum(word in caption for caption in words) / len(words)
    return (np.mean(others) if others else 0) - share


@examples
@given(correspondences())
def test_topicality_is_as_defined(data):
    true, n_images = data
    captions = split_of(true, n_images).captions
    found = topicality(captions, true) / STEPS
    for word in range(4, len(found)):
        assert abs(found[word] - naive(captions, true, word)) < 3 / STEPS


def test_words_of_everyone_who_sees_the_image_are_topical():
    # 4 is in all captions, 5 and 6 are what the images show, and the others are single remarks.
    captions = Captions([""] * 4, [[1, 4, 5, 7, 2], [1, 4, 5, 8, 2], [1, 4, 6, 9, 2], [1, 4, 6, 10, 2]])
    found = topicality(captions, np.array([0, 0, 1, 1]))
    assert found[4:11].tolist() == [0, STEPS // 2, STEPS // 2, *[-STEPS // 4] * 4]


def test_with_one_caption_an_image_the_rarest_word_is_the_most_topical():
    captions = Captions([""] * 3, [[1, 4, 5, 2], [1, 4, 6, 2], [1, 4, 5, 2]])
    found = topicality(captions, np.arange(3))
    assert found[6] > found[5] > found[4]


def test_unknown_words_are_the_least_topical():
    captions = Captions([""] * 10, [[1, UNKNOWN_ID, 4, 4, 4, 2]] * 10)
    found = topicality(captions, FIVE_EACH[:10])
    assert found.argmin() == UNKNOWN_ID
    assert len(topicality(Captions([""], [[1, 2]]), np.arange(1))) == UNKNOWN_ID + 1
