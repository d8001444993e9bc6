"""Scene graphs: the objects of a picture, their appearance, positions and relations."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
RADII = (0.105, 0.155, 0.215)  # by size, as fractions of the picture's side

_COUNT_SHARES = (0.15, 0.3, 0.3, 0.25)  # of 2, 3, 4, 5 objects
_SIZE_SHARES = (0.34, 0.4, 0.26)
_TEXTURE_SHARES = (0.4, 0.2, 0.2, 0.2)
_MAX_TILT = math.radians(20)
_RADIUS_JITTER = 0.08
# Distance of centres over the sum of radii:
_MIN_GAP = 0.62  # below, too much would be hidden
_OVERLAP_GAP = 0.85  # below, one object hides a part of the other
_NEAR_GAP = 1.25
_DIRECTION_MARGIN = 0.1  # of the picture's side
_NEIGHBOUR_SHARE = 0.35  # of objects placed next to an earlier one, so that there are occlusions
_MAX_PLACING_TRIES = 40


@dataclass(frozen=True)
class SceneObject:
    """One object: indices into the tables above, and its geometry.

    `x`, `y` (centre, y grows downward) and `radius` are fractions of the picture's side, `rotation` is in radians.
    """

    category: int
    colour: int
    size: int
    texture: int
    x: float
    y: float
    radius: float
    rotation: float


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
    gap = math.hypot(dx, dy) / (a.radius + b.radius)
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
            return gap < _NEAR_GAP
        case "front":
            return gap < _OVERLAP_GAP and subject > other
        case "behind":
            return gap < _OVERLAP_GAP and subject < other
    raise ValueError(f"unknown relation {relation!r}; known: {', '.join(RELATIONS)}")


def relation_table(scene: Scene) -> NDArray[np.bool_]:
    """Return the relations that hold, (RELATIONS, MAX_OBJECTS, MAX_OBJECTS) bool; False for missing objects."""
    table = np.zeros((len(RELATIONS), MAX_OBJECTS, MAX_OBJECTS), bool)
    for subject in range(len(scene.objects)):
        for other in range(len(scene.objects)):
            if subject != other:
                table[:, subject, other] = [holds(scene, relation, subject, other) for relation in RELATIONS]
    return table


def sample_scene(rng: np.random.Generator) -> Scene:
    """Return a random scene."""
    background = int(rng.integers(len(BACKGROUND_KINDS)))
    tint = int(rng.choice(tints_of(background)))
    objects: list[SceneObject] = []
    for _ in range(2 + int(rng.choice(len(_COUNT_SHARES), p=_COUNT_SHARES))):
        objects.append(_sample_object(objects, rng))
    return Scene(tuple(objects), background, tint)


def _sample_object(earlier: list[SceneObject], rng: np.random.Generator) -> SceneObject:
    """Return a random object that leaves the `earlier` ones visible."""
    size = int(rng.choice(len(SIZES), p=_SIZE_SHARES))
    stretch = 1 + _RADIUS_JITTER * float(rng.uniform(-1, 1))
    x, y, size = _place(earlier, size, stretch, rng)
    return SceneObject(
        category=int(rng.integers(len(CATEGORIES))),
        colour=int(rng.integers(len(COLOURS))),
        size=size,
        texture=int(rng.choice(len(TEXTURES), p=_TEXTURE_SHARES)),
        x=round(x, 4),
        y=round(y, 4),
        radius=round(RADII[size] * stretch, 4),
        rotation=round(float(rng.uniform(-_MAX_TILT, _MAX_TILT)), 4),
    )


def _place(earlier: list[SceneObject], size: int, stretch: float, rng: np.random.Generator) -> tuple[float, float, int]:
    """Return a centre that hides little of the `earlier` objects, and the size, reduced if there is no room."""
    while True:
        radius = RADII[size] * stretch
        for _ in range(_MAX_PLACING_TRIES):
            x, y = _propose(earlier, radius, rng)
            free = all(math.hypot(o.x - x, o.y - y) > _MIN_GAP * (o.radius + radius) for o in earlier)
            inside = radius * 0.9 <= min(x, y) and max(x, y) <= 1 - radius * 0.9
            if free and inside:
                return x, y, size
        size = max(size - 1, 0)


def _propose(earlier: list[SceneObject], radius: float, rng: np.random.Generator) -> tuple[float, float]:
    if earlier and rng.random() < _NEIGHBOUR_SHARE:
        anchor = earlier[int(rng.integers(len(earlier)))]
        distance = float(rng.uniform(_MIN_GAP, 1.0)) * (anchor.radius + radius)
        angle = float(rng.uniform(0, 2 * math.pi))
        return anchor.x + distance * math.cos(angle), anchor.y + distance * math.sin(angle)
    x, y = rng.uniform(radius, 1 - radius, 2)
    return float(x), float(y)
