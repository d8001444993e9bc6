"""Rendering a scene under a light to pixels, with texture, occlusion, shadow and clutter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ncbench.data.scenes.graph import BACKGROUND_KINDS, CATEGORIES, COLOURS, TEXTURES, TINTS, Scene, SceneObject
from ncbench.data.scenes.silhouettes import DARK, INK, PALE, SILHOUETTES

Picture = NDArray[np.uint8]  # (SIDE, SIDE, 3), RGB
_Canvas = NDArray[np.float32]  # RGB in 0..1
_Mask = NDArray[np.bool_]

SIDE = 96
_OVERSAMPLING = 2  # drawn pixels per output pixel and axis; they are averaged
_CANVAS_SIDE = SIDE * _OVERSAMPLING

_COLOUR_RGB = {
    "red": (206, 44, 48),
    "orange": (238, 130, 36),
    "yellow": (240, 208, 48),
    "green": (58, 158, 68),
    "teal": (30, 168, 168),
    "blue": (48, 92, 206),
    "purple": (132, 64, 178),
    "pink": (236, 96, 164),
}
_BACKGROUND_RGB = {
    ("wall", "grey"): (172, 172, 176),
    ("wall", "cream"): (222, 210, 190),
    ("sky", "blue"): (170, 198, 226),
    ("sky", "pink"): (232, 196, 204),
    ("field", "green"): (152, 178, 132),
    ("field", "golden"): (208, 194, 136),
    ("sea", "blue"): (116, 152, 186),
    ("sea", "grey"): (142, 158, 164),
    ("desert", "cream"): (228, 206, 172),
    ("desert", "brown"): (184, 150, 124),
    ("night", "blue"): (44, 54, 88),
    ("night", "purple"): (66, 50, 84),
}
_INK_RGB = np.array((46, 44, 52), np.float32) / 255
_WHITE_SHARE = 0.62  # of white in pale stripes, dots, checks and parts
_DARK_FACTOR = 0.66
_OUTLINE_FACTOR = 0.42
_SHADOW_FACTOR = 0.78
_SHADOW_SHIFT = 2 * _OVERSAMPLING
_PATTERN_PERIOD = 7.0 * _OVERSAMPLING
_DOT_RADIUS = 0.32  # of the period
_NOISE_RANGE = (0.006, 0.022)  # of the standard deviation of the sensor noise

_ROWS, _COLUMNS = np.mgrid[0:_CANVAS_SIDE, 0:_CANVAS_SIDE].astype(np.float32) / _CANVAS_SIDE


@dataclass(frozen=True)
class Light:
    """The light of a picture: brightness falls off along `angle` (radians) by `strength`; `cast` multiplies RGB."""

    angle: float
    strength: float
    brightness: float
    cast: tuple[float, float, float]


def sample_light(rng: np.random.Generator) -> Light:
    """Return a random light."""
    red, green, blue = 1 + rng.uniform(-0.06, 0.06, 3)
    return Light(
        angle=float(rng.uniform(0, 2 * math.pi)),
        strength=float(rng.uniform(0, 0.35)),
        brightness=float(rng.uniform(0.78, 1.08)),
        cast=(float(red), float(green), float(blue)),
    )


def render(scene: Scene, light: Light, rng: np.random.Generator) -> Picture:
    """Return the picture of `scene` under `light`, (SIDE, SIDE, 3) uint8; `rng` generates clutter and sensor noise."""
    canvas = _background(scene, rng)
    _scatter(canvas, int(rng.integers(3, 9)), rng)
    for one in scene.objects:
        _paint_object(canvas, one, light)
    _scatter(canvas, int(rng.integers(0, 3)), rng)
    small = _shrink(canvas * _lighting(light)[..., None] * np.array(light.cast, np.float32))
    noise = rng.standard_normal(small.shape, np.float32) * rng.uniform(*_NOISE_RANGE)
    return np.asarray(np.clip(np.rint((small + noise) * 255), 0, 255), np.uint8)


def _lighting(light: Light) -> NDArray[np.float32]:
    along = (_COLUMNS - 0.5) * math.cos(light.angle) + (_ROWS - 0.5) * math.sin(light.angle)
    return np.asarray(light.brightness * (1 - light.strength * along), np.float32)


def _shrink(canvas: _Canvas) -> _Canvas:
    parts = [
        canvas[row::_OVERSAMPLING, column::_OVERSAMPLING]
        for row in range(_OVERSAMPLING)
        for column in range(_OVERSAMPLING)
    ]
    return np.asarray(sum(parts[1:], parts[0]) / len(parts), np.float32)


def _background(scene: Scene, rng: np.random.Generator) -> _Canvas:
    kind = BACKGROUND_KINDS[scene.background]
    base = np.array(_BACKGROUND_RGB[kind, TINTS[scene.tint]], np.float32) / 255
    return np.clip(base * _background_pattern(kind, rng)[..., None], 0, 1).astype(np.float32)


def _background_pattern(kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the relative brightness of a background, (_CANVAS_SIDE, _CANVAS_SIDE) float32 around 1."""
    shift = rng.uniform(0, 1, 4).tolist()
    match kind:
        case "wall":
            course = np.floor(_ROWS * 8 + shift[0])
            joint = ((_ROWS * 8 + shift[0]) % 1 < 0.1) | ((_COLUMNS * 4 + 0.5 * (course % 2) + shift[1]) % 1 < 0.05)
            pattern = np.where(joint, 0.9, 1.0)
        case "sky":
            pattern = 0.94 + 0.1 * _ROWS
            for x, y, width in rng.uniform((0, 0.05, 0.1), (1, 0.9, 0.2), (4, 3)).tolist():
                cloud = ((_COLUMNS - x) / width) ** 2 + ((_ROWS - y) / (0.4 * width)) ** 2
                pattern = pattern + 0.1 * np.exp(-cloud)
        case "field":
            hills = 0.5 + 0.08 * np.sin(6 * (_COLUMNS + shift[0])) + 0.15 * shift[1]
            blades = 0.05 * np.sin(70 * _COLUMNS + 9 * np.sin(25 * _ROWS + 6 * shift[2]))
            pattern = np.where(hills < _ROWS, 0.93, 1.03) + blades
        case "sea":
            pattern = 1 + 0.08 * np.sin(55 * _ROWS + 1.5 * np.sin(14 * _COLUMNS + 6 * shift[0]))
        case "desert":
            pattern = 1 + 0.06 * np.sin(18 * (_ROWS + 0.4 * _COLUMNS) + 2 * np.sin(5 * _COLUMNS + 6 * shift[0]))
        case _:
            pattern = 0.85 + 0.35 * _ROWS
            for x, y in rng.integers(0, _CANVAS_SIDE - 2, (24, 2)):
                pattern[y : y + 2, x : x + 2] = 3.2
    return np.asarray(pattern, np.float32)


def _scatter(canvas: _Canvas, count: int, rng: np.random.Generator) -> None:
    """Draw clutter: small blobs and strokes of muted colours."""
    for _ in range(count):
        colour = 0.5 + 0.3 * rng.uniform(-1, 1) + rng.uniform(-0.12, 0.12, 3)
        x, y = rng.uniform(0, _CANVAS_SIDE, 2)
        reach = float(rng.uniform(1.0, 2.6)) * _OVERSAMPLING
        angle = float(rng.uniform(0, math.pi))
        stretch = float(rng.choice((1.0, 0.35)))  # a blob or a stroke
        left, top = max(int(x - 2 * reach), 0), max(int(y - 2 * reach), 0)
        window = canvas[top : int(y + 2 * reach) + 1, left : int(x + 2 * reach) + 1]
        rows, columns = np.mgrid[0 : window.shape[0], 0 : window.shape[1]]
        u = (columns + left - x) * math.cos(angle) + (rows + top - y) * math.sin(angle)
        v = (rows + top - y) * math.cos(angle) - (columns + left - x) * math.sin(angle)
        window[(u * stretch) ** 2 + (v / max(stretch, 0.5)) ** 2 < reach**2 * 0.6] = np.clip(colour, 0, 1)


def _paint_object(canvas: _Canvas, one: SceneObject, light: Light) -> None:
    paints, left, top = _trace(one)
    height, width = paints.shape
    inside = paints > 0
    outline = _grow(inside) & ~inside
    rows = np.arange(top, top + height, dtype=np.float32)[:, None]
    columns = np.arange(left, left + width, dtype=np.float32)[None]
    colours = _object_colours(paints, rows, columns, one, light)
    colours[outline] = np.array(_COLOUR_RGB[COLOURS[one.colour]], np.float32) / 255 * _OUTLINE_FACTOR
    shadow_x = left + round(_SHADOW_SHIFT * math.cos(light.angle))
    shadow_y = top + round(_SHADOW_SHIFT * math.sin(light.angle))
    _blend(canvas, inside, shadow_x, shadow_y, None)
    _blend(canvas, inside | outline, left, top, colours)


def _trace(one: SceneObject) -> tuple[NDArray[np.uint8], int, int]:
    """Return a window with 1 + paint of each pixel (0 outside the object), and its left and top."""
    cosine, sine = math.cos(one.rotation), math.sin(one.rotation)
    turn = np.array([[cosine, sine], [-sine, cosine]]) * one.radius * _CANVAS_SIDE
    centre = np.array([one.x, one.y]) * _CANVAS_SIDE
    parts = [(part.paint, part.points @ turn + centre) for part in SILHOUETTES[CATEGORIES[one.category]]]
    everything = np.concatenate([points for _, points in parts])
    left, top = (int(v) - 2 * _OVERSAMPLING for v in everything.min(axis=0))
    right, bottom = (int(v) + 2 * _OVERSAMPLING + 1 for v in everything.max(axis=0))
    window = Image.new("L", (right - left, bottom - top))
    draw = ImageDraw.Draw(window)
    for paint, points in parts:
        draw.polygon([(float(x - left), float(y - top)) for x, y in points], fill=1 + paint)
    return np.asarray(window), left, top


def _grow(mask: _Mask) -> _Mask:
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * _OVERSAMPLING - 1))) > 0


def _object_colours(
    paints: NDArray[np.uint8], rows: NDArray[np.float32], columns: NDArray[np.float32], one: SceneObject, light: Light
) -> _Canvas:
    """Return the colours of an object's window, (h, w, 3) float32, with texture, parts and shading."""
    base = np.array(_COLOUR_RGB[COLOURS[one.colour]], np.float32) / 255
    pale = base + (1 - base) * _WHITE_SHARE
    dx, dy = columns - one.x * _CANVAS_SIDE, rows - one.y * _CANVAS_SIDE
    cosine, sine = math.cos(one.rotation), math.sin(one.rotation)
    pattern = _texture(TEXTURES[one.texture], dx * cosine + dy * sine, dy * cosine - dx * sine)
    colours = np.where(pattern[..., None], pale, base)
    colours[paints == 1 + DARK] = base * _DARK_FACTOR
    colours[paints == 1 + PALE] = pale
    along = (dx * math.cos(light.angle) + dy * math.sin(light.angle)) / (one.radius * _CANVAS_SIDE)
    colours = colours * (1 - 0.12 * along)[..., None]
    colours[paints == 1 + INK] = _INK_RGB
    return np.clip(colours, 0, 1).astype(np.float32)


def _texture(kind: str, u: NDArray[np.float32], v: NDArray[np.float32]) -> _Mask:
    """Return the pixels in the pale tone of a texture, from coordinates in the object's frame."""
    match kind:
        case "striped":
            return (u + v) / math.sqrt(2) % _PATTERN_PERIOD > _PATTERN_PERIOD / 2
        case "dotted":
            du = u % _PATTERN_PERIOD - _PATTERN_PERIOD / 2
            dv = v % _PATTERN_PERIOD - _PATTERN_PERIOD / 2
            return du**2 + dv**2 < (_DOT_RADIUS * _PATTERN_PERIOD) ** 2
        case "checked":
            half = _PATTERN_PERIOD / 1.8
            return np.asarray((np.floor(u / half) + np.floor(v / half)) % 2 > 0)
        case _:
            return np.zeros(u.shape, bool)


def _blend(canvas: _Canvas, mask: _Mask, left: int, top: int, colours: _Canvas | None) -> None:
    """Paint `colours` under `mask`, whose corner is at (left, top), or darken the canvas if they are None."""
    skip_x, skip_y = max(-left, 0), max(-top, 0)
    window = canvas[top + skip_y : top + mask.shape[0], left + skip_x : left + mask.shape[1]]
    seen = mask[skip_y : skip_y + window.shape[0], skip_x : skip_x + window.shape[1]]
    if colours is None:
        window[seen] *= _SHADOW_FACTOR
    else:
        window[seen] = colours[skip_y : skip_y + window.shape[0], skip_x : skip_x + window.shape[1]][seen]
