import hashlib
from fractions import Fraction
from math import frexp

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncbench.data.dataset import ImageFeatures
from ncbench.noise.content import (
    FEATURE_STEPS,
    MAX_STANDARDISED,
    N_DIRECTIONS,
    NO_IMAGE,
    STEPS_PER_DEVIATION,
    Points,
    content_of,
    nearest,
)


def features(n, regions, dim, seed=0):
    return np.random.default_rng(seed).normal(size=(n, regions, dim)).astype(np.float32)


def naive(array):
    """The descriptor space for few dimensions, in exact fractions."""
    sums = [[sum(float(image[r][d]) for r in range(len(image))) for d in range(len(image[0]))] for image in array]
    _, exponent = frexp(max(abs(value) for row in sums for value in row))
    fine = [[round(Fraction(value) * FEATURE_STEPS / Fraction(2) ** exponent) for value in row] for row in sums]
    columns = []
    for column in zip(*fine, strict=True):
        centre = sum(column) // len(column)
        deviation = max(1, sum(abs(value - centre) for value in column) // len(column))
        steps = [(STEPS_PER_DEVIATION * (value - centre) + deviation // 2) // deviation for value in column]
        columns.append([min(max(step, -MAX_STANDARDISED), MAX_STANDARDISED) for step in steps])
    return np.array(columns).T


@pytest.mark.parametrize(("regions", "dim", "scale"), [(1, 1, 1.0), (3, 5, 1e-6), (4, N_DIRECTIONS, 1e4)])
def test_descriptors_are_those_of_the_naive_version(regions, dim, scale):
    array = features(40, regions, dim) * np.float32(scale)
    assert np.array_equal(content_of(ImageFeatures([array])), naive(array.tolist()))


def test_outliers_are_clipped_and_constant_dimensions_are_zero():
    array = np.zeros((200, 1, 3), np.float32)
    array[:, 0, 0] = 7
    array[0, 0, 1] = 1000
    array[:, 0, 2] = np.arange(200)
    found = content_of(ImageFeatures([array]))
    assert np.ptp(found[:, 0]) == 0
    assert found[0, 1] == MAX_STANDARDISED
    assert np.all(np.diff(found[:, 2]) >= 0)


def test_many_dimensions_are_projected_and_keep_their_distances():
    array = features(60, 2, 500)
    found = content_of(ImageFeatures([array])).astype(float)
    assert found.shape == (60, N_DIRECTIONS)
    flat = array.sum(axis=1)
    flat = (flat - flat.mean(axis=0)) / np.abs(flat - flat.mean(axis=0)).mean(axis=0)
    off = ~np.eye(60, dtype=bool)
    ours, theirs = (((x[:, None] - x) ** 2).sum(axis=2)[off] for x in (found, flat))
    ratios = ours / theirs
    assert ratios.std() / ratios.mean() < 2 * np.sqrt(2 / N_DIRECTIONS)


@pytest.mark.parametrize(
    ("dim", "digest"),
    [
        (8, "a71b711b156d21fe"),
        (300, "05ed3c7395e65de1"),
    ],
)
def test_descriptors_never_change(dim, digest):
    values = (np.arange(30 * 2 * dim, dtype=np.int64) * 7919 % 1009 / 64).astype(np.float32)
    found = content_of(ImageFeatures([values.reshape(30, 2, dim)]))
    assert hashlib.sha256(found.astype("<i8").tobytes()).hexdigest()[:16] == digest


def test_chunks_and_strides_make_no_difference():
    array = features(2500, 2, 4)
    whole = content_of(ImageFeatures([array]))
    assert np.array_equal(content_of(ImageFeatures([array[:7], array[7:]])), whole)
    assert np.array_equal(content_of(ImageFeatures([np.repeat(array, 5, axis=0)], stride=5)), whole)


def test_no_images_have_no_descriptors():
    assert content_of(ImageFeatures([np.zeros((0, 2, 4), np.float32)])).shape == (0, 4)


points = st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=1, max_size=30)


@pytest.fixture(params=[(2**23, 64), (1, 1), (40, 2)])
def compared(request, monkeypatch):
    """Distances at a time, and groups in which the nearest are looked for."""
    monkeypatch.setattr("ncbench.noise.content._COMPARED", request.param[0])
    monkeypatch.setattr("ncbench.noise.content._GROUPS_PER_NEIGHBOUR", request.param[1])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points, st.integers(1, 6))
def test_nearest_are_those_of_sorting(compared, places, k):
    content = np.array(places, np.int64)
    found = nearest(content, np.arange(len(content)), k)
    for image, row in enumerate(found):
        away = [(int(((content[other] - content[image]) ** 2).sum()), other) for other in range(len(content))]
        expected = sorted(other for distance, other in sorted(away)[: len(away)] if distance > 0)
        closest = sorted(sorted(pair for pair in away if pair[0] > 0)[:k], key=lambda pair: pair[1])
        assert [image_ for image_ in row if image_ != NO_IMAGE] == [other for _, other in closest]
        assert len(expected) >= np.count_nonzero(row != NO_IMAGE)


def test_large_distances_are_exact():
    content = np.array([[2**20] * N_DIRECTIONS, [-(2**20)] * N_DIRECTIONS, [2**20 - 1] + [2**20] * (N_DIRECTIONS - 1)])
    assert Points(content).distances(np.array([0])).tolist() == [[0, N_DIRECTIONS * 2**42, 1]]
