"""`scenes` has the same bytes on every machine: pinned digests, other kernels, and a plain second implementation."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from ncbench.data.scenes import SCENES, tables
from ncbench.data.scenes import detector as detectors
from ncbench.data.scenes.boxes import propose
from ncbench.data.scenes.detector import (
    CONVOLUTIONS,
    CROP_CHANNELS,
    CROP_SIDE,
    HIDDEN,
    SUM_LIMIT,
    UNITS,
    Detector,
    Layer,
    Regions,
    crop,
)
from ncbench.data.scenes.planes import Planes
from ncbench.data.scenes.sample import Seen, Series
from ncbench.data.scenes.shipped import SEED, SIZES, VERSION, shipped
from ncbench.data.scenes.silhouettes import SILHOUETTES
from ncbench.noise.drawing import draw

DIGEST = "862ede4b35df7a357cc5d2b57f1fbbe17814dd980f6f8659c5843e1176d2663d"
SOME_PICTURES = 6

CODE = f"""
import hashlib, sys
from ncbench.data.scenes.sample import Seen, Series
content = hashlib.sha256()
for split in {tuple(SIZES)}:
    series = Series({VERSION!r}, {SEED}, split)
    seen = Seen.of(series, 0, {SOME_PICTURES})
    content.update(seen.features.tobytes() + seen.fingerprints.astype("<i8").tobytes())
    for number in range({SOME_PICTURES}):
        content.update(series.scene(number).to_json().encode())
        for caption in series.captions(number):
            content.update(f"{{caption.text}} {{caption.said.to_json()}}".encode())
print(content.hexdigest())
"""
SOME_DIGEST = "d1193959effeaddde6b5a63ff5aa8dd0680a03c7b6b3aafd532eb1dacf82e328"

NUMPY_EXTENSIONS = np.show_config("dicts")["SIMD Extensions"].get("found", [])  # type: ignore[index]
KERNELS: dict[str, dict[str, str]] = {
    "1 thread": {},
    "2 threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "plain BLAS": {"OPENBLAS_CORETYPE": "Prescott", "MKL_CBWR": "COMPATIBLE"},
    "AVX2 BLAS": {"OPENBLAS_CORETYPE": "Haswell", "MKL_CBWR": "AVX2"},
    "plain NumPy": {
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"
    },
}


def test_the_digest_of_the_whole_set_is_pinned() -> None:
    assert SCENES.load(None).digest == DIGEST


NOISE_DIGESTS = {
    "shuffle-images": "0d1c6df67ff6c2e7a831b128881efdc7733d7516c840bbbcfcd7769442a24564",
    "shuffle-captions": "b88287e08c02654155446cea11042df72e9ac620ed9b3e69a35510cf4cddd59c",
    "semantic": "4942520c05ced4ccb3933e11748aed66fe3eb5f63e6f6e8cb0069cb0f0e6f651",
    "partial": "a0f950aa1ef17b294589be06e63d34b8564f40d480e0421b6da72e1bcf0af308",
    "harvested": "e7e1aac32c0274360558d7ac988317d348b9697c0d10430dd5997e9f6a896b4d",
    "concentrated": "ba34a23a060356f0710c2e4f6c58ef8f62d91aefa1fdccec622b368b3edb7bc8",
}


@pytest.mark.parametrize("protocol", NOISE_DIGESTS)
def test_noise_on_the_set_is_pinned(protocol: str) -> None:
    assert draw(SCENES.load(None), protocol, 0.4, seed=0).digest == NOISE_DIGESTS[protocol]


@pytest.mark.parametrize("kernels", KERNELS)
def test_some_pictures_are_the_same_with_other_kernels(kernels: str) -> None:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **one_thread, **KERNELS[kernels]}
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == SOME_DIGEST


@pytest.mark.parametrize("split", SIZES)
def test_the_shipped_features_are_those_of_the_recipe(split: str) -> None:
    last = SIZES[split] - 2
    known = shipped(Series(VERSION, SEED, split), SIZES[split])
    assert len(known) == SIZES[split]
    seen = Seen.of(Series(VERSION, SEED, split), last, SIZES[split])
    np.testing.assert_array_equal(seen.features, known.features[last:])
    np.testing.assert_array_equal(seen.fingerprints, known.fingerprints[last:])


@pytest.mark.slow
@pytest.mark.parametrize("split", SIZES)
def test_all_shipped_features_are_those_of_the_recipe(split: str) -> None:
    known = shipped(Series(VERSION, SEED, split), SIZES[split])
    for start in range(0, SIZES[split], 100):
        seen = Seen.of(Series(VERSION, SEED, split), start, start + 100)
        np.testing.assert_array_equal(seen.features, known.features[start : start + 100])
        np.testing.assert_array_equal(seen.fingerprints, known.fingerprints[start : start + 100])


def test_another_series_has_no_shipped_features() -> None:
    assert len(shipped(Series(VERSION, SEED + 1, "train"), 5)) == 0
    assert len(shipped(Series("1", SEED, "train"), 5)) == 0
    assert len(shipped(Series(VERSION, SEED, "train"), 5)) == 5


# A second implementation, in Python's integers.


def plain_layer(layer: Layer, inputs: list[int]) -> list[int]:
    weight, bias = layer.weight.astype(int).tolist(), layer.bias.astype(int).tolist()
    sums = [bias[out] + sum(value * weight[n][out] for n, value in enumerate(inputs)) for out in range(len(bias))]
    return [min(max(total >> layer.shift, 0), 127) for total in sums]


def plain_units(detector: Detector, picture: list[list[list[int]]], descriptor: list[int]) -> list[int]:
    """Return the last hidden layer for one crop, given as rows of columns of channels."""
    for name in CONVOLUTIONS:
        side, channels = len(picture), len(picture[0][0])
        maps = []
        for y in range(side):
            maps.append([])
            for x in range(side):
                seen: list[int] = []
                for row in (y - 1, y, y + 1):
                    for column in (x - 1, x, x + 1):
                        inside = 0 <= row < side and 0 <= column < side
                        seen += picture[row][column] if inside else [0] * channels
                maps[y].append(plain_layer(detector.layers[name], seen))
        picture = [
            [
                [max(values) for values in zip(*(maps[y + i][x + j] for i in (0, 1) for j in (0, 1)), strict=True)]
                for x in range(0, side, 2)
            ]
            for y in range(0, side, 2)
        ]
    joined = [value for row in picture for cell in row for value in cell] + descriptor
    for name in HIDDEN:
        joined = plain_layer(detector.layers[name], joined)
    return joined


def test_plain_loops_over_integers_give_the_same_units() -> None:
    planes = Planes.of(Series(VERSION, SEED, "test").picture(0))
    boxes = propose(planes)
    regions = Regions.of(Series(VERSION, SEED, "test").picture(0))
    fast = detectors.shipped().units(regions.crops, regions.descriptors)
    for number in (1, 2):
        box = boxes[number]
        height, width = box.mask.shape
        cropped = [
            [
                [int(v) // 2 for v in planes.rgb[box.top + row][box.left + column]] + [127 * int(box.mask[row, column])]
                for column in ((2 * x + 1) * width // 48 for x in range(24))
            ]
            for row in ((2 * y + 1) * height // 48 for y in range(24))
        ]
        np.testing.assert_array_equal(crop(planes, box), cropped)
        assert plain_units(detectors.shipped(), cropped, regions.descriptors[number].tolist()) == fast[number].tolist()


def test_no_sum_leaves_the_whole_numbers_that_float32_holds() -> None:
    layers = detectors.shipped().layers
    assert max(layer.largest_sum() for layer in layers.values()) < SUM_LIMIT
    assert layers["conv1"].weight.shape == (9 * CROP_CHANNELS, 16)
    assert layers[HIDDEN[-1]].weight.shape[1] == UNITS
    for layer in layers.values():
        for values in (layer.weight, layer.bias):
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, np.rint(values))
        assert abs(layer.weight).max() <= 127


def test_weights_whose_sums_would_be_rounded_are_refused() -> None:
    weights = {}
    for name, layer in detectors.shipped().layers.items():
        weights[f"{name}.weight"] = layer.weight.astype(np.int32)
        weights[f"{name}.bias"] = layer.bias.astype(np.int32)
        weights[f"{name}.shift"] = np.array([layer.shift], np.int32)
    Detector.of(weights)
    weights["hidden1.bias"][0] = 2**24
    with pytest.raises(ValueError, match=r"sums of layer hidden1 reach .* expected below 16777216"):
        Detector.of(weights)


def test_the_largest_sum_is_a_bound() -> None:
    layer = Layer(np.array([[3.0, -2.0], [-4.0, 1.0]], np.float32), np.array([10.0, -5.0], np.float32), 2)
    worst = [abs(layer.sums(np.array(inputs, np.float32))).max() for inputs in ([127, -127], [-127, 127])]
    assert max(worst) == layer.largest_sum() == 7 * 127 + 10
    assert layer(np.array([2, 0], np.float32)).tolist() == [4, 0]  # 16 / 4, and -9 / 4 below 0


def test_no_entry_of_a_table_is_near_a_tie() -> None:
    """A mathematical library that errs in the last bits gives the same tables."""
    exact = [tables.ONE * math.sin(2 * math.pi * step / tables.TURN) for step in range(tables.TURN)]
    exact += [tables.ONE * math.sin(math.radians(degrees)) for degrees in range(360)]
    exact += [tables.ONE * math.exp(-n / tables.DECAY_STEP) for n in range(len(tables.DECAY))]
    assert min(abs(value % 1 - 0.5) for value in exact) > 1e-6
    digest = hashlib.sha256(tables.SINE.astype("<i8").tobytes() + tables.DECAY.astype("<i8").tobytes()).hexdigest()
    assert digest == "487522b8799c1298cd93f71122f912ee4cbbcb59b00f33082c3ffd4deea4ebcb"


def test_outlines_are_pinned() -> None:
    content = hashlib.sha256()
    for name, parts in SILHOUETTES.items():
        for part in parts:
            content.update(f"{name} {part.paint} {part.points.tolist()}".encode())
    assert content.hexdigest() == "68050a031f1a606e68730e6ba88303ee006ae5027ce1cf6a1e70df732b1166c2"


def test_the_weights_are_small() -> None:
    assert detectors.WEIGHTS.stat().st_size < 500_000
    assert CROP_SIDE % 2 ** len(CONVOLUTIONS) == 0
