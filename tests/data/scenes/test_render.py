"""Pictures: the effect of graph and light on the pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.graph import CATEGORIES, TEXTURES, TINTS, Scene, SceneObject
from ncbench.data.scenes.render import SIDE, Light, Picture, render, sample_light

HOUSE = SceneObject(category=0, colour=0, size=2, texture=0, x=5_500, y=6_144, radius=2_450, rotation=0)
STAR = SceneObject(category=2, colour=5, size=2, texture=0, x=7_400, y=6_144, radius=2_450, rotation=0)
SCENE = Scene((HOUSE, STAR), background=0, tint=TINTS.index("grey"))
DAYLIGHT = Light(angle=0, strength=0, brightness=1_000, cast=(1_000, 1_000, 1_000))


def draw(scene: Scene, light: Light = DAYLIGHT) -> Picture:
    return render(scene, light, Draws(7))


def changed(first: Picture, second: Picture) -> int:
    """Count the pixels that differ by more than noise."""
    return int((abs(first.astype(int) - second.astype(int)).max(axis=2) > 24).sum())


def test_a_picture_is_rgb_bytes_and_the_same_each_time() -> None:
    picture = draw(SCENE)
    assert picture.shape == (SIDE, SIDE, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, draw(SCENE))


def test_the_front_object_hides_a_part_of_the_other() -> None:
    assert changed(draw(SCENE), draw(replace(SCENE, objects=(STAR, HOUSE)))) > 50


def test_rotation_moves_pixels() -> None:
    assert changed(draw(SCENE), draw(replace(SCENE, objects=(replace(HOUSE, rotation=17), STAR)))) > 50


def test_lighting_darkens_one_side() -> None:
    even, lit = draw(SCENE).astype(float), draw(SCENE, replace(DAYLIGHT, strength=350)).astype(float)
    assert lit[:, :12].mean() > even[:, :12].mean() + 5
    assert lit[:, -12:].mean() < even[:, -12:].mean() - 5


def test_brightness_and_cast_scale_the_colours() -> None:
    base = draw(SCENE).astype(float).mean(axis=(0, 1))
    dim = draw(SCENE, replace(DAYLIGHT, brightness=800)).astype(float).mean(axis=(0, 1))
    warm = draw(SCENE, replace(DAYLIGHT, cast=(1_000, 1_000, 800))).astype(float).mean(axis=(0, 1))
    np.testing.assert_allclose(dim / base, 0.8, atol=0.02)
    np.testing.assert_allclose(warm / base, (1, 1, 0.8), atol=0.02)


def test_categories_textures_and_colours_differ() -> None:
    for change in (
        *({"category": category} for category in range(1, len(CATEGORIES))),
        *({"texture": texture} for texture in range(1, len(TEXTURES))),
        {"colour": 3},
    ):
        assert changed(draw(SCENE), draw(replace(SCENE, objects=(replace(HOUSE, **change), STAR)))) > 30, change


def test_clutter_differs_between_draws() -> None:
    other = render(SCENE, DAYLIGHT, Draws(8))
    assert changed(draw(SCENE), other) > 10


def test_objects_beyond_the_edge_are_cut_off() -> None:
    far = replace(HOUSE, x=250, y=12_000)
    assert changed(draw(replace(SCENE, objects=(far, STAR))), draw(replace(SCENE, objects=(STAR,)))) > 20


def test_lights_vary() -> None:
    draws = Draws(0)
    lights = [sample_light(draws) for _ in range(50)]
    assert np.std([light.brightness for light in lights]) > 30
    assert max(light.strength for light in lights) > 200
