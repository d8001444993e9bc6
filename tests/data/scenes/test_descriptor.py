"""Boxes and region features: computed from pixels alone, complete, and informative."""

from __future__ import annotations

import numpy as np
import pytest

from ncbench.data.scenes.boxes import N_REGIONS, find_foreground, propose
from ncbench.data.scenes.descriptor import DIM, LAYOUT, region_features
from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.graph import SPAN, sample_scene
from ncbench.data.scenes.planes import Planes
from ncbench.data.scenes.render import SIDE, Picture, render, sample_light

PIXEL = SPAN / SIDE


def picture_of(seed: int) -> Picture:
    draws = Draws(seed)
    return render(sample_scene(draws), sample_light(draws), draws)


def square_on_grey(colour: tuple[int, int, int], top: int = 30, left: int = 20, side: int = 24) -> Picture:
    picture = np.full((SIDE, SIDE, 3), 180, np.uint8)
    picture[top : top + side, left : left + side] = colour
    return picture


def test_features_follow_from_the_pixels_alone() -> None:
    picture = picture_of(3)
    features = region_features(picture)
    assert features.shape == (N_REGIONS, DIM)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, region_features(picture.copy()))


@pytest.mark.parametrize("seed", range(20))
def test_features_are_finite_moderate_and_never_zero(seed: int) -> None:
    features = region_features(picture_of(seed))
    assert np.isfinite(features).all()
    assert abs(features).max() < 30
    assert (np.linalg.norm(features, axis=1) > 1).all()


@pytest.mark.parametrize("value", [0, 127, 255])
def test_an_empty_picture_has_features_too(value: int) -> None:
    features = region_features(np.full((SIDE, SIDE, 3), value, np.uint8))
    assert np.isfinite(features).all()
    assert (np.linalg.norm(features, axis=1) > 1).all()


def test_noise_alone_has_features_too() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    assert np.isfinite(region_features(noise)).all()


def test_a_square_is_found_where_it_is() -> None:
    planes = Planes.of(square_on_grey((200, 40, 40)))
    box = propose(planes)[2]
    assert abs(np.array([box.top, box.left, box.bottom, box.right]) - (30, 20, 54, 44)).max() <= 1
    assert box.mask.mean() > 0.95
    assert abs(int(find_foreground(planes).sum()) - 24 * 24) < 110  # the rim is blurred


def test_two_touching_colours_are_two_boxes() -> None:
    picture = square_on_grey((200, 40, 40))
    picture[30:54, 44:60] = (40, 80, 200)
    boxes = propose(Planes.of(picture))[2:4]
    assert sorted(box.left for box in boxes) == pytest.approx([20, 44], abs=2)


def test_colour_changes_hue_features_and_leaves_geometry() -> None:
    groups = np.split(np.arange(DIM), np.cumsum([length for _, length, _, _ in LAYOUT])[:-1])
    places = dict(zip((name for name, *_ in LAYOUT), groups, strict=True))
    red, blue = (region_features(square_on_grey(colour))[2] for colour in ((200, 40, 40), (40, 80, 200)))
    assert abs(red - blue)[places["hue histogram"]].max() > 1
    assert abs(red - blue)[places["geometry"]].max() < 0.1
    moved = region_features(square_on_grey((200, 40, 40), top=50, left=60))[2]
    assert abs(red - moved)[places["hue histogram"]].max() < 0.1
    assert abs(red - moved)[places["geometry"]].max() > 0.5


def test_most_objects_have_their_own_box() -> None:
    found = []
    for seed in range(40):
        draws = Draws(seed)
        scene = sample_scene(draws)
        boxes = propose(Planes.of(render(scene, sample_light(draws), draws)))[2:]
        for one in scene.objects:
            centres = [((box.left + box.right) * PIXEL / 2, (box.top + box.bottom) * PIXEL / 2) for box in boxes]
            found.append(min(np.hypot(x - one.x, y - one.y) for x, y in centres) < 0.7 * one.radius)
    assert np.mean(found) > 0.75
