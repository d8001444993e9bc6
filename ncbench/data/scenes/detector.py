"""A small network that names what a region shows, evaluated in whole numbers: the same bytes on every machine.

Weights are of 8 bits and activations of 7. They are held in float32, and every sum of products stays below 2**24, so
that sums are exact in any order, whatever the library, its threads or the processor. `benchmarks/scenes_detector.py`
trains the network, on regions of pictures that no split holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncbench.data.scenes.boxes import Box, propose
from ncbench.data.scenes.descriptor import LAYOUT, describe
from ncbench.data.scenes.planes import Planes

Whole = NDArray[np.float32]  # whole numbers below 2**24

CROP_SIDE = 24
CROP_CHANNELS = 4  # RGB and the mask
ACTIVATION_LIMIT = 127
SUM_LIMIT = 2**24
UNITS = 64
"""Units of the last hidden layer, the first part of a region's vector."""
CONVOLUTIONS = ("conv1", "conv2", "conv3")
HIDDEN = ("hidden1", "hidden2")
HEADS = ("category", "colour", "texture", "size")
WEIGHTS = Path(__file__).with_name("detector.safetensors")

_BATCH_SIZE = 64  # regions; larger ones need more memory and are no faster


@dataclass(frozen=True)
class Layer:
    """A layer in whole numbers: (inputs @ weight + bias) / 2**shift, rounded down, then clipped to 0..127."""

    weight: Whole  # (inputs, outputs)
    bias: Whole  # (outputs,), with the half that makes rounding down round to the nearest
    shift: int

    def __call__(self, inputs: Whole) -> Whole:
        """Return the activations (..., outputs) of `inputs` (..., inputs)."""
        scaled = np.floor(self.sums(inputs) * np.float32(0.5**self.shift))
        return np.asarray(np.clip(scaled, 0, ACTIVATION_LIMIT), np.float32)

    def sums(self, inputs: Whole) -> Whole:
        """Return the sums (..., outputs) of a layer without activation."""
        return inputs @ self.weight + self.bias

    def largest_sum(self) -> int:
        """Return a bound on the magnitude of any sum, in any order, for inputs of at most 7 bits."""
        return int(
            (abs(self.weight).astype(np.int64).sum(0) * ACTIVATION_LIMIT + abs(self.bias).astype(np.int64)).max()
        )


@dataclass(frozen=True)
class Detector:
    """The network: three convolutions with pooling, joined with the descriptor, two hidden layers and four heads."""

    layers: Mapping[str, Layer]

    @staticmethod
    def of(weights: Mapping[str, NDArray[np.int32]]) -> Detector:
        """Return the network with `weights`, NAME.weight, NAME.bias and NAME.shift for each layer.

        Raises ValueError if sums could exceed what float32 holds exactly.
        """
        layers = {}
        for name in (*CONVOLUTIONS, *HIDDEN, *HEADS):
            weight, bias = (weights[f"{name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
            layers[name] = Layer(weight, bias, int(weights[f"{name}.shift"][0]))
            if layers[name].largest_sum() >= SUM_LIMIT:
                raise ValueError(f"sums of layer {name} reach {layers[name].largest_sum()}, expected below {SUM_LIMIT}")
        return Detector(layers)

    def units(self, crops: NDArray[np.uint8], descriptors: NDArray[np.int8]) -> Whole:
        """Return the last hidden layer (n, UNITS) of crops (n, side, side, channels) and descriptors (n, DIM)."""
        found = [
            self._units(crops[start : start + _BATCH_SIZE], descriptors[start : start + _BATCH_SIZE])
            for start in range(0, len(crops), _BATCH_SIZE)
        ]
        return np.concatenate(found)

    def _units(self, crops: NDArray[np.uint8], descriptors: NDArray[np.int8]) -> Whole:
        seen = crops.astype(np.float32)
        for name in CONVOLUTIONS:
            seen = _pooled(self.layers[name](_patches(seen)))
        joined = np.concatenate([seen.reshape(len(seen), -1), descriptors.astype(np.float32)], axis=1)
        for name in HIDDEN:
            joined = self.layers[name](joined)
        return joined

    def names(self, units: Whole) -> dict[str, NDArray[np.int64]]:
        """Return what the heads name, (n,) each, from `units` (n, UNITS)."""
        return {head: self.layers[head].sums(units).argmax(axis=1) for head in HEADS}


def _patches(images: Whole) -> Whole:
    """Return the 3 x 3 neighbourhoods of all pixels, (n, h, w, 9 * channels), of images (n, h, w, channels)."""
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = images.shape[1:3]
    return np.concatenate([wide[:, y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=3)


def _pooled(maps: Whole) -> Whole:
    """Return the maxima of 2 x 2 pixels."""
    rows = np.maximum(maps[:, ::2], maps[:, 1::2])
    return np.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def crop(planes: Planes, box: Box) -> NDArray[np.uint8]:
    """Return a box scaled to (CROP_SIDE, CROP_SIDE, CROP_CHANNELS) uint8 of 7 bits, by its nearest pixels."""
    height, width = box.mask.shape
    rows = (2 * np.arange(CROP_SIDE) + 1) * height // (2 * CROP_SIDE)
    columns = (2 * np.arange(CROP_SIDE) + 1) * width // (2 * CROP_SIDE)
    colours = planes.rgb[box.top : box.bottom, box.left : box.right][rows[:, None], columns] >> 1
    mask = box.mask[rows[:, None], columns, None] * ACTIVATION_LIMIT
    return np.concatenate([colours, mask], axis=2).astype(np.uint8)


@dataclass(frozen=True)
class Regions:
    """What the network sees of n regions."""

    crops: NDArray[np.uint8]  # (n, CROP_SIDE, CROP_SIDE, CROP_CHANNELS)
    descriptors: NDArray[np.int8]  # (n, DIM of the descriptor)

    @staticmethod
    def of(picture: NDArray[np.uint8]) -> Regions:
        """Return the N_REGIONS regions of an RGB picture (H, W, 3)."""
        planes = Planes.of(picture)
        boxes = propose(planes)
        return Regions(
            np.stack([crop(planes, box) for box in boxes]), np.stack([describe(planes, box) for box in boxes])
        )


def _places(*names: str) -> list[int]:
    """Return the places of parts of the descriptor."""
    starts = dict(
        zip((name for name, *_ in LAYOUT), np.cumsum([0, *(length for _, length, *_ in LAYOUT)]), strict=False)
    )
    lengths = {name: length for name, length, *_ in LAYOUT}
    return [int(starts[name]) + n for name in names for n in range(lengths[name])]


_KEPT = _places("geometry", "mean colour", "colour deviation")
DIM = UNITS + len(_KEPT)
"""Numbers per region: the units of the network, box geometry (5), mean and deviation of colour (6)."""
STEPS = 32
"""Numbers are whole multiples of 1 / STEPS."""


@cache
def shipped() -> Detector:
    """Return the network that comes with ncbench."""
    from safetensors.numpy import load_file

    return Detector.of(load_file(WEIGHTS))


def features_of(regions: Regions, detector: Detector | None = None) -> NDArray[np.int8]:
    """Return the vectors of regions in 1 / STEPS, (n, DIM) int8."""
    units = (detector or shipped()).units(regions.crops, regions.descriptors)
    return np.concatenate([units.astype(np.int8), regions.descriptors[:, _KEPT]], axis=1)
