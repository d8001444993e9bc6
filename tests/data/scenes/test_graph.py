"""Scene graphs: sampling, relations, and JSON round trips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.graph import (
    BACKGROUNDS,
    CATEGORIES,
    COLOURS,
    MAX_OBJECTS,
    RELATIONS,
    SIZES,
    SPAN,
    TEXTURES,
    TINTS,
    Scene,
    SceneObject,
    holds,
    relation_table,
    sample_scene,
)
from ncbench.data.scenes.silhouettes import SILHOUETTES, UNIT


def scene_of(seed: int) -> Scene:
    return sample_scene(Draws(seed))


def at(x: float, y: float) -> SceneObject:
    """Return an object whose place is given in sides of the picture, a tenth of which is its radius."""
    place = {"x": round(x * SPAN), "y": round(y * SPAN), "radius": SPAN // 10}
    return SceneObject(category=0, colour=0, size=0, texture=0, rotation=0, **place)


@given(st.integers(0, 2**32))
def test_sampled_scenes_are_well_formed(seed: int) -> None:
    scene = scene_of(seed)
    kinds = list(BACKGROUNDS)
    assert 2 <= len(scene.objects) <= MAX_OBJECTS
    assert TINTS[scene.tint] in BACKGROUNDS[kinds[scene.background]]
    for one in scene.objects:
        assert 0 <= one.category < len(CATEGORIES)
        assert 0 <= one.colour < len(COLOURS)
        assert 0 <= one.size < len(SIZES)
        assert 0 <= one.texture < len(TEXTURES)
        assert min(one.x, one.y) > 0
        assert max(one.x, one.y) < SPAN
    assert Scene.from_json(scene.to_json()) == scene


@given(st.integers(0, 2**32))
def test_relations_mirror_each_other(seed: int) -> None:
    table = dict(zip(RELATIONS, relation_table(scene_of(seed)), strict=True))
    for one, other in (("left", "right"), ("above", "below"), ("front", "behind"), ("near", "near")):
        np.testing.assert_array_equal(table[one], table[other].T)
    assert not (table["left"] & table["above"]).any()
    assert not table["near"].diagonal().any()


def test_relations_of_a_known_scene() -> None:
    scene = Scene((at(0.2, 0.5), at(0.8, 0.5), at(0.8, 0.62)), 0, 0)
    assert holds(scene, "left", 0, 1)
    assert not holds(scene, "near", 0, 1)
    assert holds(scene, "above", 1, 2)
    assert holds(scene, "front", 2, 1)
    assert holds(scene, "behind", 1, 2)
    with pytest.raises(ValueError, match="unknown relation 'inside'"):
        holds(scene, "inside", 0, 1)


def test_some_pictures_hold_occlusions_and_all_values_occur() -> None:
    scenes = [scene_of(seed) for seed in range(400)]
    front = RELATIONS.index("front")
    assert 0.2 < np.mean([relation_table(scene)[front].any() for scene in scenes]) < 0.9
    objects = [one for scene in scenes for one in scene.objects]
    assert {one.category for one in objects} == set(range(len(CATEGORIES)))
    assert {one.texture for one in objects} == set(range(len(TEXTURES)))


def test_every_category_has_a_silhouette_that_fits_its_square() -> None:
    assert tuple(SILHOUETTES) == CATEGORIES
    for parts in SILHOUETTES.values():
        points = np.concatenate([part.points for part in parts])
        assert points.dtype == np.int64
        assert 0.8 * UNIT < abs(points).max() < 1.2 * UNIT
