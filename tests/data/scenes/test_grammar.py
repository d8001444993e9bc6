"""Captions: their details, their phrasing, and their error rate."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.grammar import (
    MIN_DETAILS,
    UNSAID,
    WRONG_RATE,
    Mention,
    Said,
    phrase,
    split_words,
    write_captions,
)
from ncbench.data.scenes.graph import CATEGORIES, COLOURS, RELATIONS, Scene, holds, sample_scene


def scene_of(seed: int) -> Scene:
    return sample_scene(Draws(seed))


@given(st.integers(0, 2**32))
def test_captions_of_a_picture_differ_and_are_plain_words(seed: int) -> None:
    captions = write_captions(scene_of(seed), 5, Draws(seed + 1_000))
    assert len({caption.text for caption in captions}) == 5
    for caption in captions:
        assert split_words(caption.text) == caption.text.split(" ")
        assert 2 <= len(caption.said.mentions) <= 3
        assert caption.said.n_details >= MIN_DETAILS >= 6
        assert len({mention.about for mention in caption.said.mentions}) == len(caption.said.mentions)
        assert Said.from_json(caption.said.to_json()) == caption.said


def details(scene: Scene, said: Said) -> list[bool]:
    """Return for each detail whether it is wrong for the object it refers to."""
    wrong = []
    for mention in said.mentions:
        meant = scene.objects[mention.about]
        for name in ("category", "colour", "size", "texture"):
            if getattr(mention, name) != UNSAID:
                wrong.append(getattr(mention, name) != getattr(meant, name))
    if said.relation != UNSAID:
        first, second = (mention.about for mention in said.mentions)
        wrong.append(not holds(scene, RELATIONS[said.relation], first, second))
    if said.background != UNSAID:
        wrong.append(said.background != scene.background)
    if said.tint != UNSAID:
        wrong.append(said.tint != scene.tint)
    return wrong


def test_details_are_wrong_at_the_stated_rate() -> None:
    wrong: list[bool] = []
    for seed in range(400):
        scene = scene_of(seed)
        for caption in write_captions(scene, 5, Draws(seed + 1_000)):
            wrong += details(scene, caption.said)
    assert len(wrong) > 5000
    assert np.mean(wrong) == pytest.approx(WRONG_RATE, abs=0.004)


def test_without_wrong_details_all_is_true() -> None:
    for seed in range(100):
        scene = scene_of(seed)
        for caption in write_captions(scene, 5, Draws(seed + 1_000), wrong_rate=0.0):
            assert not any(details(scene, caption.said))


def test_lengths_and_vocabulary_are_as_stated() -> None:
    captions = [caption for seed in range(300) for caption in write_captions(scene_of(seed), 5, Draws(seed + 1_000))]
    lengths = [len(split_words(caption.text)) for caption in captions]
    assert 12.5 < np.mean(lengths) < 14
    assert np.percentile(lengths, 3) >= 9
    assert np.percentile(lengths, 97) <= 19
    assert 120 <= len({word for caption in captions for word in split_words(caption.text)}) <= 200


def test_a_phrase_says_what_is_said_and_no_more() -> None:
    said = Said((Mention(0, CATEGORIES.index("star"), COLOURS.index("teal"), UNSAID, UNSAID),), UNSAID, UNSAID, UNSAID)
    for seed in range(30):
        words = set(split_words(phrase(said, Draws(seed + 1_000))))
        assert "star" in words
        assert words & {"teal", "turquoise", "cyan"}
        assert not words & {"striped", "plain", "small", "large", "wall", "left"}


def test_articles_agree() -> None:
    for seed in range(200):
        for caption in write_captions(scene_of(seed), 5, Draws(seed + 1_000)):
            words = caption.text.split()
            for article, word in pairwise(words):
                if article in {"a", "an"}:
                    assert (article == "an") == (word[0] in "aeiou" and word != "uniform"), caption.text


def test_words_are_lower_case_letters() -> None:
    assert split_words("A red Car, left of 2 trees.") == ["a", "red", "car", "left", "of", "trees"]
