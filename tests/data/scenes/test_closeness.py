"""Closeness against a naive implementation, and its properties for true captions."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from ncbench.data.scenes import closeness as weights
from ncbench.data.scenes.closeness import SaidTable, SceneTable, closeness
from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.grammar import UNSAID, Mention, Said, write_captions
from ncbench.data.scenes.graph import RELATIONS, Scene, SceneObject, holds, sample_scene

N = 40


def make(wrong_rate: float) -> tuple[list[Scene], list[Said]]:
    scenes = [sample_scene(Draws(seed)) for seed in range(N)]
    captions = [write_captions(scene, 5, Draws(1_000 + n), wrong_rate) for n, scene in enumerate(scenes)]
    return scenes, [caption.said for of_one in captions for caption in of_one]


def matrix(scenes: list[Scene], said: list[Said]) -> np.ndarray:
    captions, images = np.divmod(np.arange(len(said) * len(scenes)), len(scenes))
    values = closeness(SaidTable.build(said), SceneTable.build(scenes), captions, images)
    return values.reshape(len(said), len(scenes))


def naive(said: Said, scene: Scene) -> float:
    """Try all assignments of mentions (or none) to objects, detail by detail."""
    details = {
        "category": weights.CATEGORY,
        "colour": weights.COLOUR,
        "size": weights.SIZE,
        "texture": weights.TEXTURE,
    }
    total = sum(w for one in said.mentions for name, w in details.items() if getattr(one, name) != UNSAID)
    total += weights.RELATION * (said.relation != UNSAID)
    total += weights.BACKGROUND * (said.background != UNSAID) + weights.TINT * (said.tint != UNSAID)
    best = 0.0
    places: list[int | None] = [*range(len(scene.objects)), *[None] * len(said.mentions)]
    for chosen in set(permutations(places, len(said.mentions))):
        got = 0.0
        for mention, place in zip(said.mentions, chosen, strict=True):
            if place is not None:
                meant = scene.objects[place]
                got += sum(w for name, w in details.items() if getattr(mention, name) == getattr(meant, name))
        if said.relation != UNSAID and chosen[0] is not None and chosen[1] is not None:
            got += weights.RELATION * holds(scene, RELATIONS[said.relation], chosen[0], chosen[1])
        best = max(best, got)
    best += weights.BACKGROUND * (said.background == scene.background) + weights.TINT * (said.tint == scene.tint)
    return best / total


def test_against_a_naive_implementation() -> None:
    scenes, said = make(wrong_rate=0.2)
    some = said[::7]
    expected = [[naive(one, scene) for scene in scenes[:15]] for one in some]
    np.testing.assert_allclose(matrix(scenes[:15], some), expected, atol=1e-6)


def test_range_and_own_captions_are_closest_on_average() -> None:
    scenes, said = make(wrong_rate=0.08)
    values = matrix(scenes, said)
    assert values.min() >= 0
    assert values.max() <= 1
    own = values[np.arange(len(said)), np.repeat(np.arange(N), 5)]
    assert own.mean() > 0.85
    assert values.mean() < 0.5


def test_a_caption_without_wrong_details_has_closeness_one() -> None:
    scenes, said = make(wrong_rate=0.0)
    own = matrix(scenes, said)[np.arange(len(said)), np.repeat(np.arange(N), 5)]
    np.testing.assert_allclose(own, 1.0, atol=1e-6)


def test_two_mentions_need_two_objects() -> None:
    star = SceneObject(category=2, colour=0, size=0, texture=0, x=3_700, y=6_100, radius=1_230, rotation=0)
    tree = SceneObject(category=1, colour=1, size=1, texture=1, x=8_600, y=6_100, radius=1_230, rotation=0)
    scene = Scene((star, tree), 0, 4)
    mention = Mention(0, 2, UNSAID, UNSAID, UNSAID)
    two_stars = Said((mention, mention), UNSAID, UNSAID, UNSAID)
    assert matrix([scene], [two_stars])[0, 0] == pytest.approx(0.5)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, said = make(wrong_rate=0.08)
    whole = matrix(scenes, said)
    monkeypatch.setattr(weights, "_BLOCK_PAIRS", 97)
    np.testing.assert_array_equal(matrix(scenes, said), whole)


def test_no_pairs_give_no_values() -> None:
    scenes, said = make(wrong_rate=0.08)
    none = np.zeros(0, np.int64)
    assert closeness(SaidTable.build(said), SceneTable.build(scenes), none, none).shape == (0,)


@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_pairs_at_least_are_those_of_all_pairs(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_BLOCK_BOUNDS", block)
    scenes, said = make(wrong_rate=0.2)
    whole = matrix(scenes, said)
    tables = SaidTable.build(said), SceneTable.build(scenes)
    own = whole[np.arange(len(said)), np.arange(len(said)) // 5]
    for least in (own, np.full(len(said), 0.5), np.full(len(said), 1.0)):
        captions, images = weights.pairs_at_least(*tables, least)
        expected = np.nonzero(whole >= least[:, None])
        np.testing.assert_array_equal(captions, expected[0])
        np.testing.assert_array_equal(images, expected[1])
        assert len(captions)
    assert len(weights.pairs_at_least(*tables, np.full(len(said), 1.1))[0]) == 0


def test_bounds_are_never_below_what_is_satisfied() -> None:
    scenes, said = make(wrong_rate=0.2)
    tables = SaidTable.build(said), SceneTable.build(scenes)
    captions = np.arange(len(said))
    satisfied = matrix(scenes, said) * weights._said_weight(tables[0], captions)[:, None]
    assert (weights._bounds(*tables, captions) >= satisfied - 1e-4).all()
