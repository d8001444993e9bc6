"""Random choices from the raw stream: pinned, within bounds, and as often as asked for."""

from __future__ import annotations

import numpy as np
import pytest

from ncbench.data.scenes.draws import Draws
from ncbench.runtime.seeds import derive_seed

MANY = 20_000


def test_choices_are_computed_from_the_raw_stream() -> None:
    raw = [int(value) for value in np.random.PCG64(7).random_raw(600)]
    draws = Draws(7)
    assert [draws.below(10) for _ in range(300)] == [(value >> 32) * 10 >> 32 for value in raw[:300]]
    assert [draws.chance(0.3) for _ in range(300)] == [value / 2**64 < 0.3 for value in raw[300:]]


def test_the_stream_of_a_name_is_pinned() -> None:
    draws = Draws.named(0, "scenes", "2", "train", 0, "scene")
    twin = Draws(derive_seed(0, "scenes", "2", "train", 0, "scene"))
    first = [draws.below(1_000) for _ in range(5)]
    assert first == [twin.below(1_000) for _ in range(5)]
    assert first == [994, 796, 543, 619, 785]


def test_bounds_are_reached_and_kept() -> None:
    draws = Draws(0)
    assert {draws.between(-2, 2) for _ in range(500)} == {-2, -1, 0, 1, 2}
    assert {draws.below(1) for _ in range(10)} == {0}
    assert {draws.pick("abc") for _ in range(200)} == set("abc")


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.35, 1.0])
def test_chances_come_at_their_rate(rate: float) -> None:
    draws = Draws(1)
    assert np.mean([draws.chance(rate) for _ in range(MANY)]) == pytest.approx(rate, abs=0.01)


def test_weights_are_shares() -> None:
    draws = Draws(2)
    counts = np.bincount([draws.weighted((0, 60, 30, 10)) for _ in range(MANY)], minlength=4) / MANY
    np.testing.assert_allclose(counts, (0, 0.6, 0.3, 0.1), atol=0.012)
    with pytest.raises(ValueError, match="found \\[-1\\]"):
        draws.weighted((-1,))


def test_bytes_are_those_of_the_raw_stream() -> None:
    raw = np.random.PCG64(3).random_raw(2)
    assert Draws(3).bytes(11).tolist() == list(b"".join(int(v).to_bytes(8, "little") for v in raw))[:11]
