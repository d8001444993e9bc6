"""Per-pixel properties of a picture in whole numbers: brightness, hue, chroma, gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.int32]  # (H, W)

HUE_SECTOR = 256
HUE_TURN = 6 * HUE_SECTOR
"""Steps of a full turn of hues: red, yellow, green, cyan, blue and magenta begin the six sectors."""
CORNER_SCALE = 16
"""Of the smoothed Laplacian: levels of 255 times this."""

_LUMA_WEIGHTS = (77, 150, 29)  # of 256


@dataclass(frozen=True)
class Planes:
    """A picture and its per-pixel properties, all int32."""

    rgb: NDArray[np.int32]  # (H, W, 3), 0 to 255
    luma: Plane  # 0 to 255
    hue: Plane  # 0 to HUE_TURN - 1
    chroma: Plane  # largest minus smallest of RGB, 0 to 255
    edge_x: Plane  # horizontal gradient of brightness, by Sobel
    edge_y: Plane
    corners: Plane  # magnitude of the smoothed Laplacian

    @staticmethod
    def of(picture: NDArray[np.uint8]) -> Planes:
        """Compute the planes of an RGB picture (H, W, 3) uint8."""
        rgb = picture.astype(np.int32)
        red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
        luma = (_LUMA_WEIGHTS[0] * red + _LUMA_WEIGHTS[1] * green + _LUMA_WEIGHTS[2] * blue + 128) >> 8
        highest, lowest = rgb.max(axis=2), rgb.min(axis=2)
        chroma = highest - lowest
        # Position within the two sectors around the strongest primary, as in HSV.
        ahead = np.where(highest == red, green - blue, np.where(highest == green, blue - red, red - green))
        start = np.where(highest == red, 0, np.where(highest == green, 2, 4)) * HUE_SECTOR
        hue = (start + ahead * HUE_SECTOR // np.maximum(chroma, 1)) % HUE_TURN
        wide = np.pad(luma, 1, mode="edge")
        rows, columns = wide[:-2] + 2 * wide[1:-1] + wide[2:], wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
        smooth = np.pad(smoothed(luma), 1, mode="edge")
        beside = smooth[:-2, 1:-1] + smooth[2:, 1:-1] + smooth[1:-1, :-2] + smooth[1:-1, 2:]
        return Planes(
            rgb=rgb,
            luma=luma,
            hue=hue,
            chroma=chroma,
            edge_x=rows[:, 2:] - rows[:, :-2],
            edge_y=columns[2:] - columns[:-2],
            corners=abs(beside - 4 * smooth[1:-1, 1:-1]),
        )


def smoothed(plane: Plane) -> Plane:
    """Return 16 times the average of each pixel and its neighbours, with the weights 1, 2, 1 along both axes."""
    wide = np.pad(plane, 1, mode="edge")
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    return np.asarray(rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:])
