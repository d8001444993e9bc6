"""Scene graphs: the objects of a picture, their appearance, positions and relations."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.tables import ONE, cosine_by_degree, sine_by_degree

CATEGORIES = (
    "house", "tree", "star", "car", "fish", "cup", "boat", "flower",
    "kite", "heart", "moon", "mushroom", "umbrella", "rocket", "bird", "cactus",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
SIZES = ("small", "medium", "large")
TEXTURES = ("plain", "striped", "dotted", "checked")
RELATIONS = ("left", "right", "above", "below", "near", "front", "behind")
BACKGROUNDS = {
    "wall": ("grey", "cream"),
    "sky": ("blue", "pink"),
    "field": ("green", "golden"),
    "sea": ("blue", "grey"),
    "desert": ("cream", "brown"),
    "night": ("blue", "purple"),
}
BACKGROUND_KINDS = tuple(BACKGROUNDS)
TINTS = tuple(sorted({tint for tints in BACKGROUNDS.values() for tint in tints}))

MAX_OBJECTS = 5
SPAN = 12_288
"""The side of a picture in units of length: 128 per pixel."""
RADII = (1_290, 1_905, 2_642)  # by size, in units of length

_COUNT_SHARES = (15, 30, 30, 25)  # of 2, 3, 4, 5 objects, in per cent
_SIZE_SHARES = (34, 40, 26)
_TEXTURE_SHARES = (40, 20, 20, 20)
_MAX_TILT = 20  # degrees
_RADIUS_JITTER = 80  # thousandths
# Distance of centres over the sum of radii, in per cent:
_MIN_GAP = 62  # below, too much would be hidden
_OVERLAP_GAP = 85  # below, one object hides a part of the other
_NEAR_GAP = 125
_DIRECTION_MARGIN = SPAN // 10
_NEIGHBOUR_RATE = 0.35  # of objects placed next to an earlier one, so that there are occlusions
_MAX_PLACING_TRIES = 40


@dataclass(frozen=True)
class SceneObject:
    """One object: indices into the tables above, and its geometry.

    `x`, `y` (centre, y grows downward) and `radius` are in units of length, SPAN per side of the picture; `rotation` is
    in degrees.
    """

    category: int
    colour: int
    size: int
    texture: int
    x: int
    y: int
    radius: int
    rotation: int


@dataclass(frozen=True)
class Scene:
    """The graph of a picture: 2 to 5 objects from back to front, and the kind and tint of the background."""

    objects: tuple[SceneObject, ...]
    background: int
    tint: int

    def to_json(self) -> str:
        """Return the scene as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Scene:
        """Parse the output of `to_json`. Raises ValueError, KeyError or TypeError for other text."""
        fields: dict[str, Any] = json.loads(text)
        objects = tuple(SceneObject(**one) for one in fields["objects"])
        return Scene(objects, fields["background"], fields["tint"])


def tints_of(background: int) -> list[int]:
    """Return the numbers of the tints that background kind `background` may have."""
    return [TINTS.index(tint) for tint in BACKGROUNDS[BACKGROUND_KINDS[background]]]


def holds(scene: Scene, relation: str, subject: int, other: int) -> bool:
    """Return whether `relation` holds between object number `subject` and object number `other` of `scene`."""
    a, b = scene.objects[subject], scene.objects[other]
    dx, dy = b.x - a.x, b.y - a.y
    sideways = abs(dx) > abs(dy)
    match relation:
        case "left":
            return sideways and dx > _DIRECTION_MARGIN
        case "right":
            return sideways and dx < -_DIRECTION_MARGIN
        case "above":
            return not sideways and dy > _DIRECTION_MARGIN
        case "below":
            return not sideways and dy < -_DIRECTION_MARGIN
        case "near":
            return _within(_NEAR_GAP, dx, dy, a.radius + b.radius)
        case "front":
            return _within(_OVERLAP_GAP, dx, dy, a.radius + b.radius) and subject > other
        case "behind":
            return _within(_OVERLAP_GAP, dx, dy, a.radius + b.radius) and subject < other
    raise ValueError(f"unknown relation {relation!r}; known: {', '.join(RELATIONS)}")


def _within(gap: int, dx: int, dy: int, radii: int) -> bool:
    """Return whether a distance is below `gap` per cent of the sum of radii."""
    return 100 * 100 * (dx * dx + dy * dy) < (gap * radii) ** 2


def relation_table(scene: Scene) -> NDArray[np.bool_]:
    """Return the relations that hold, (RELATIONS, MAX_OBJECTS, MAX_OBJECTS) bool; False for missing objects."""
    table = np.zeros((len(RELATIONS), MAX_OBJECTS, MAX_OBJECTS), bool)
    for subject in range(len(scene.objects)):
        for other in range(len(scene.objects)):
            if subject != other:
                table[:, subject, other] = [holds(scene, relation, subject, other) for relation in RELATIONS]
    return table


def sample_scene(draws: Draws) -> Scene:
    """Return a random scene."""
    background = draws.below(len(BACKGROUND_KINDS))
    tint = draws.pick(tints_of(background))
    objects: list[SceneObject] = []
    for _ in range(2 + draws.weighted(_COUNT_SHARES)):
        objects.append(_sample_object(objects, draws))
    return Scene(tuple(objects), background, tint)


def _sample_object(earlier: list[SceneObject], draws: Draws) -> SceneObject:
    """Return a random object that leaves the `earlier` ones visible."""
    size = draws.weighted(_SIZE_SHARES)
    stretch = 1_000 + draws.between(-_RADIUS_JITTER, _RADIUS_JITTER)
    x, y, size = _place(earlier, size, stretch, draws)
    return SceneObject(
        category=draws.below(len(CATEGORIES)),
        colour=draws.below(len(COLOURS)),
        size=size,
        texture=draws.weighted(_TEXTURE_SHARES),
        x=x,
        y=y,
        radius=_radius(size, stretch),
        rotation=draws.between(-_MAX_TILT, _MAX_TILT),
    )


def _radius(size: int, stretch: int) -> int:
    return RADII[size] * stretch // 1_000


def _place(earlier: list[SceneObject], size: int, stretch: int, draws: Draws) -> tuple[int, int, int]:
    """Return a centre that hides little of the `earlier` objects, and the size, reduced if there is no room."""
    while True:
        radius = _radius(size, stretch)
        for _ in range(_MAX_PLACING_TRIES):
            x, y = _propose(earlier, radius, draws)
            free = not any(_within(_MIN_GAP, o.x - x, o.y - y, o.radius + radius) for o in earlier)
            inside = 9 * radius <= 10 * min(x, y) and 10 * max(x, y) <= 10 * SPAN - 9 * radius
            if free and inside:
                return x, y, size
        size = max(size - 1, 0)


def _propose(earlier: list[SceneObject], radius: int, draws: Draws) -> tuple[int, int]:
    if earlier and draws.chance(_NEIGHBOUR_RATE):
        anchor = draws.pick(earlier)
        distance = draws.between(_MIN_GAP, 100) * (anchor.radius + radius) // 100
        angle = draws.below(360)
        across, down = distance * cosine_by_degree(angle) // ONE, distance * sine_by_degree(angle) // ONE
        return anchor.x + across, anchor.y + down
    return draws.between(radius, SPAN - radius), draws.between(radius, SPAN - radius)
