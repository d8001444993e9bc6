"""Per-pixel properties of a picture: brightness, hue, chroma, gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[np.float32]  # (H, W)

_LUMA_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Planes:
    """A picture and its per-pixel properties, all float32."""

    rgb: NDArray[np.float32]  # (H, W, 3) in 0..1
    luma: Plane  # in 0..1
    hue: Plane  # in [0, 1), 1 is a full turn
    chroma: Plane  # largest minus smallest of RGB, in 0..1
    edge_strength: Plane
    edge_direction: Plane  # in [0, 1], 1 is half a turn
    corners: Plane  # magnitude of the smoothed Laplacian

    @staticmethod
    def of(picture: NDArray[np.uint8]) -> Planes:
        """Compute the planes of an RGB picture (H, W, 3) uint8."""
        rgb = picture.astype(np.float32) / np.float32(255)
        red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
        luma = _LUMA_WEIGHTS[0] * red + _LUMA_WEIGHTS[1] * green + _LUMA_WEIGHTS[2] * blue
        turn = np.arctan2((green - blue) * np.float32(np.sqrt(3) / 2), red - (green + blue) / 2)
        dx, dy = ndimage.sobel(luma, axis=1), ndimage.sobel(luma, axis=0)
        return Planes(
            rgb=rgb,
            luma=luma,
            hue=np.asarray(turn / np.float32(2 * np.pi) % 1, np.float32),
            chroma=np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue),
            edge_strength=np.hypot(dx, dy),
            edge_direction=np.asarray(np.arctan2(dy, dx) / np.float32(np.pi) % 1, np.float32),
            corners=abs(ndimage.laplace(ndimage.gaussian_filter(luma, 1.0, truncate=2.5))),
        )
