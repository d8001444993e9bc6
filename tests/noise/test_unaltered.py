"""Protocols that leave the pairs unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from correspondences import FIVE_EACH, draw, drawn

from ncbench.errors import UserError
from ncbench.noise.base import noise_digest


@pytest.mark.parametrize(("name", "version"), [("clean", "clean"), ("natural", "1")])
def test_the_claims_are_the_true_pairs(name: str, version: str) -> None:
    noise = draw(name, 0.0, FIVE_EACH, 100, seed=3)
    np.testing.assert_array_equal(noise.claimed, FIVE_EACH)
    assert not np.shares_memory(noise.claimed, FIVE_EACH)
    assert (noise.label, noise.version, noise.unit, noise.ratio) == (name, version, name, 0.0)
    assert noise.digest == noise_digest(FIVE_EACH)


@pytest.mark.parametrize("name", ["clean", "natural"])
def test_other_ratios_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}': makes no noise, found ratio 0\.4; use --noise 0"):
        draw(name, 0.4, FIVE_EACH, 100, seed=0)


@pytest.mark.parametrize(
    "name", ["shuffle-images", "shuffle-captions", "semantic", "partial", "concentrated", "harvested"]
)
def test_every_protocol_is_clean_at_ratio_0(name: str) -> None:
    assert drawn(name, 0.0).digest == draw("clean", 0.0, FIVE_EACH, 100, seed=0).digest
