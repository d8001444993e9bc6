"""Rendering a scene under a light to pixels, with texture, occlusion, shadow and clutter, in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.graph import BACKGROUND_KINDS, CATEGORIES, COLOURS, SPAN, TEXTURES, TINTS, Scene, SceneObject
from ncbench.data.scenes.outlines import trace
from ncbench.data.scenes.silhouettes import DARK, INK, PALE
from ncbench.data.scenes.tables import DECAY_STEP, ONE, ONE_BITS, TURN, cosine_by_degree, decay, sine, sine_by_degree

Picture = NDArray[np.uint8]  # (SIDE, SIDE, 3), RGB
_Canvas = NDArray[np.int32]  # RGB, 0 to _FULL
_Mask = NDArray[np.bool_]
_Ints = NDArray[np.int64]

SIDE = 96
_OVERSAMPLING = 2  # drawn pixels per output pixel and axis; they are averaged
_CANVAS_SIDE = SIDE * _OVERSAMPLING
_DOT = SPAN // _CANVAS_SIDE  # units of length per drawn pixel
_LEVEL_BITS = 4
_FULL = 255 << _LEVEL_BITS

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
_INK_RGB = (46, 44, 52)
_WHITE_SHARE = 62  # of white in pale stripes, dots, checks and parts, in per cent
_DARK_SHARE, _OUTLINE_SHARE, _SHADOW_SHARE = 66, 42, 78  # of the colour that remains, in per cent
_SHADING = 12  # per cent at the edge of an object
_SHADOW_SHIFT = 2 * _OVERSAMPLING
_PATTERN_PERIOD = 14 * _DOT
_DOT_RADIUS = _PATTERN_PERIOD * 32 // 100
_CHECK_SIDE = _PATTERN_PERIOD * 5 // 9
_NOISE_RANGE = (170, 621)  # amplitudes: deviations of 1.5 to 5.6 levels of 255
_NOISE_BYTES = 4  # added per value of noise, which makes it nearly Gaussian

_CENTRES = np.arange(_CANVAS_SIDE, dtype=np.int64) * _DOT + _DOT // 2
_DOWN, _ACROSS = _CENTRES[:, None], _CENTRES[None]
_GROW = _OVERSAMPLING - 1  # drawn pixels of outline


@dataclass(frozen=True)
class Light:
    """The light of a picture, in thousandths: brightness falls off along `angle` (degrees) by `strength`.

    `cast` multiplies RGB.
    """

    angle: int
    strength: int
    brightness: int
    cast: tuple[int, int, int]


def sample_light(draws: Draws) -> Light:
    """Return a random light."""
    return Light(
        angle=draws.below(360),
        strength=draws.between(0, 350),
        brightness=draws.between(780, 1_080),
        cast=(draws.between(940, 1_060), draws.between(940, 1_060), draws.between(940, 1_060)),
    )


def render(scene: Scene, light: Light, draws: Draws) -> Picture:
    """Return the picture of `scene` under `light`, (SIDE, SIDE, 3) uint8; `draws` give clutter and sensor noise."""
    canvas = _background(scene, draws)
    _scatter(canvas, draws.between(3, 8), draws)
    for one in scene.objects:
        _paint_object(canvas, one, light)
    _scatter(canvas, draws.between(0, 2), draws)
    lit = _shrink(canvas) * _lighting(light)[..., None] >> 10
    lit = lit * np.array(light.cast, np.int32) // 1_000
    noise = draws.bytes(lit.size * _NOISE_BYTES).reshape(_NOISE_BYTES, *lit.shape).sum(axis=0, dtype=np.int32)
    noise -= _NOISE_BYTES * 255 // 2
    scale_bits = _LEVEL_BITS + 2  # _shrink adds four pixels
    lit += noise * draws.between(*_NOISE_RANGE) >> 8
    return np.asarray(np.clip(lit + (1 << scale_bits - 1) >> scale_bits, 0, 255), np.uint8)


def _lighting(light: Light) -> NDArray[np.int32]:
    """Return the brightness of every pixel, (SIDE, SIDE) int32; 1,024 is neutral."""
    centres = _CENTRES.reshape(SIDE, _OVERSAMPLING).sum(axis=1) // _OVERSAMPLING - SPAN // 2
    along = centres[None] * cosine_by_degree(light.angle) + centres[:, None] * sine_by_degree(light.angle)
    falling = 1_000 * ONE - light.strength * along // SPAN
    return np.asarray(falling * light.brightness // 1_000 * 1_024 // (1_000 * ONE), np.int32)


def _shrink(canvas: _Canvas) -> _Canvas:
    """Return the sums of squares of drawn pixels, (SIDE, SIDE, 3)."""
    rows = canvas[::2] + canvas[1::2]
    return rows[:, ::2] + rows[:, 1::2]


def _background(scene: Scene, draws: Draws) -> _Canvas:
    kind = BACKGROUND_KINDS[scene.background]
    base = np.array(_BACKGROUND_RGB[kind, TINTS[scene.tint]], np.int32)
    canvas = base * _background_pattern(kind, draws)[..., None].astype(np.int32)
    return np.asarray(np.minimum(canvas >> 10 - _LEVEL_BITS, _FULL), np.int32)


def _radians(milli: int, along: _Ints) -> _Ints:
    """Return angles in steps of 1 / TURN: `milli` thousandths of a radian per side of the picture."""
    return along * (milli * TURN * 113 // (1_000 * 710)) // SPAN  # 710 / 113 is 2 pi


def _wave(amplitude: int, angles: _Ints) -> _Ints:
    """Return `amplitude` times the sine of `angles`."""
    return amplitude * sine(angles) >> ONE_BITS


def _background_pattern(kind: str, draws: Draws) -> _Ints:
    """Return the relative brightness of a background, (_CANVAS_SIDE, _CANVAS_SIDE) around 1,024."""
    phase, offset = draws.below(TURN), draws.below(SPAN)
    radian = TURN * 113 // 710
    blank = np.zeros((_CANVAS_SIDE, _CANVAS_SIDE), np.int64)
    match kind:
        case "wall":
            course, height = np.divmod(_DOWN + offset, SPAN // 8)
            along = (_ACROSS + course % 2 * (SPAN // 8) + phase * (SPAN // TURN)) % (SPAN // 4)
            return np.where((height < SPAN // 80) | (along < SPAN // 80), 922, 1_024)
        case "sky":
            pattern = blank + 963 + 102 * _DOWN // SPAN
            for _ in range(4):
                x, y = draws.below(SPAN), draws.between(SPAN // 20, 9 * SPAN // 10)
                width = draws.between(SPAN // 10, SPAN // 5)
                across, down = (_ACROSS - x) * DECAY_STEP // width, (_DOWN - y) * 5 * DECAY_STEP // (2 * width)
                pattern += 102 * decay((across**2 + down**2) // DECAY_STEP) >> ONE_BITS
            return pattern
        case "field":
            hills = SPAN // 2 + _wave(SPAN * 8 // 100, _radians(6_000, _ACROSS) + phase) + offset * 15 // 100
            blades = _wave(51, _radians(70_000, _ACROSS) + _wave(9 * radian, _radians(25_000, _DOWN) + phase))
            return np.where(hills < _DOWN, 952, 1_055) + blades
        case "sea":
            bend = _wave(3 * radian // 2, _radians(14_000, _ACROSS) + phase)
            return blank + 1_024 + _wave(82, _radians(55_000, _DOWN) + bend)
        case "desert":
            bend = _wave(2 * radian, _radians(5_000, _ACROSS) + phase)
            return blank + 1_024 + _wave(61, _radians(18_000, _DOWN) + _radians(7_200, _ACROSS) + bend)
        case _:
            pattern = blank + 870 + 358 * _DOWN // SPAN
            for _ in range(24):
                x, y = draws.below(_CANVAS_SIDE - 2), draws.below(_CANVAS_SIDE - 2)
                pattern[y : y + 2, x : x + 2] = 3_277
            return pattern


def _scatter(canvas: _Canvas, count: int, draws: Draws) -> None:
    """Draw clutter: small blobs and strokes of muted colours."""
    for _ in range(count):
        grey = draws.between(20, 80)
        colour = [min(max(grey + draws.between(-12, 12), 0), 100) * _FULL // 100 for _ in range(3)]
        x, y = draws.below(SPAN), draws.below(SPAN)
        reach = draws.between(10, 26) * _OVERSAMPLING * _DOT // 10
        angle = draws.below(180)
        stretch, squeeze = draws.pick(((100, 100), (35, 200)))  # a blob or a stroke, in per cent
        rows, columns = (slice(max((at - 2 * reach) // _DOT, 0), (at + 2 * reach) // _DOT + 1) for at in (y, x))
        dx, dy = _CENTRES[columns][None] - x, _CENTRES[rows][:, None] - y
        u = (dx * cosine_by_degree(angle) + dy * sine_by_degree(angle) >> ONE_BITS) * stretch // 100
        v = (dy * cosine_by_degree(angle) - dx * sine_by_degree(angle) >> ONE_BITS) * squeeze // 100
        canvas[rows, columns][10 * (u**2 + v**2) < 6 * reach**2] = colour


def _paint_object(canvas: _Canvas, one: SceneObject, light: Light) -> None:
    window = trace(CATEGORIES[one.category], one.x, one.y, one.radius, one.rotation, _DOT, 2 * _OVERSAMPLING)
    inside = window.paints > 0
    outline = _grow(inside) & ~inside
    colours = _object_colours(window.paints, window.top, window.left, one, light)
    colours[outline] = np.array(_COLOUR_RGB[COLOURS[one.colour]], np.int32) * (_OUTLINE_SHARE << _LEVEL_BITS) // 100
    shadow_x = window.left + (_SHADOW_SHIFT * cosine_by_degree(light.angle) + ONE // 2) // ONE
    shadow_y = window.top + (_SHADOW_SHIFT * sine_by_degree(light.angle) + ONE // 2) // ONE
    _blend(canvas, inside, shadow_x, shadow_y, None)
    _blend(canvas, inside | outline, window.left, window.top, colours)


def _grow(mask: _Mask) -> _Mask:
    """Return the pixels that have one of `mask` among their eight neighbours or are in it."""
    wide = np.pad(mask, _GROW)
    rows = wide[:-2] | wide[1:-1] | wide[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _object_colours(paints: NDArray[np.uint8], top: int, left: int, one: SceneObject, light: Light) -> _Canvas:
    """Return the colours of an object's window, (h, w, 3), with texture, parts and shading."""
    base = np.array(_COLOUR_RGB[COLOURS[one.colour]], np.int32) << _LEVEL_BITS
    pale = base + (_FULL - base) * _WHITE_SHARE // 100
    height, width = paints.shape
    dx = (np.arange(left, left + width, dtype=np.int64) * _DOT + _DOT // 2 - one.x)[None]
    dy = (np.arange(top, top + height, dtype=np.int64) * _DOT + _DOT // 2 - one.y)[:, None]
    cosine, sine_ = cosine_by_degree(one.rotation), sine_by_degree(one.rotation)
    pattern = _texture(
        TEXTURES[one.texture], dx * cosine + dy * sine_ >> ONE_BITS, dy * cosine - dx * sine_ >> ONE_BITS
    )
    colours = np.where(pattern[..., None], pale, base)
    colours[paints == 1 + DARK] = base * _DARK_SHARE // 100
    colours[paints == 1 + PALE] = pale
    along = dx * cosine_by_degree(light.angle) + dy * sine_by_degree(light.angle) >> ONE_BITS
    shade = 1_024 - 1_024 * _SHADING * along // (100 * one.radius)
    colours = colours * shade[..., None].astype(np.int32) >> 10
    colours[paints == 1 + INK] = np.array(_INK_RGB, np.int32) << _LEVEL_BITS
    return np.asarray(np.clip(colours, 0, _FULL), np.int32)


def _texture(kind: str, u: _Ints, v: _Ints) -> _Mask:
    """Return the pixels in the pale tone of a texture, from coordinates in the object's frame."""
    match kind:
        case "striped":
            return (u + v) * ONE // isqrt(2 * ONE * ONE) % _PATTERN_PERIOD > _PATTERN_PERIOD // 2
        case "dotted":
            du = u % _PATTERN_PERIOD - _PATTERN_PERIOD // 2
            dv = v % _PATTERN_PERIOD - _PATTERN_PERIOD // 2
            return du**2 + dv**2 < _DOT_RADIUS**2
        case "checked":
            return (u // _CHECK_SIDE + v // _CHECK_SIDE) % 2 > 0
        case _:
            return np.zeros(u.shape, bool)


def _blend(canvas: _Canvas, mask: _Mask, left: int, top: int, colours: _Canvas | None) -> None:
    """Paint `colours` under `mask`, whose corner is at (left, top), or darken the canvas if they are None."""
    skip_x, skip_y = max(-left, 0), max(-top, 0)
    window = canvas[top + skip_y : max(top + mask.shape[0], 0), left + skip_x : max(left + mask.shape[1], 0)]
    part = slice(skip_y, skip_y + window.shape[0]), slice(skip_x, skip_x + window.shape[1])
    shown = mask[part]
    window[shown] = window[shown] * _SHADOW_SHARE // 100 if colours is None else colours[part][shown]
