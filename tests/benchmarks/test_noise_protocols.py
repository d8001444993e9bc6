"""The table of what noise protocols do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from noise_protocols import main, nearest_by_meaning
from sources import Source

from ncbench.data.dataset import Dataset, IntVector
from ncbench.noise.drawing import draw


class Ring:
    """Images on a ring: a caption is the closer to one the fewer steps away it lies."""

    def __init__(self, true: IntVector, n_images: int) -> None:
        self.true, self.n_images = true, n_images

    def closeness(self, split: str, captions: IntVector, images: IntVector) -> np.ndarray:
        steps = np.abs(self.true[captions] - images)
        return 1 - np.minimum(steps, self.n_images - steps) / self.n_images


@pytest.fixture
def ring(tiny: Dataset, register: Callable[[str, str, object], None]) -> Dataset:
    train = tiny.splits["train"]
    found = replace(tiny, name="ring", semantics=Ring(train.true, len(train.images)))
    register("ncbench.datasets", "ring", Source(found))
    return found


def test_nearest_by_meaning(ring: Dataset) -> None:
    n_images = len(ring.splits["train"].images)
    expected = 1 - np.mean([1, 1, 2, 2, 3, 3, 4, 4, 5, 5]) / n_images
    assert nearest_by_meaning(ring.splits["train"], ring.semantics) == pytest.approx(expected)


def test_every_protocol_has_a_row(ring: Dataset) -> None:
    result = CliRunner().invoke(main, ["--dataset", "ring"])
    assert result.exit_code == 0, result.output
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in result.output.splitlines()[2:8]}
    assert set(rows) == {"concentrated", "harvested", "partial", "semantic", "shuffle-captions", "shuffle-images"}
    assert rows["partial"][3] == "not known"
    assert all(rows[name][1] == f"{38 / 96:.3f}" for name in ("concentrated", "harvested", "partial", "semantic"))
    noise = draw(ring, "harvested", 0.4, 0)
    moved = np.flatnonzero(noise.changes(ring.splits["train"].true) == "image")
    assert 0 < len(moved) < 38
    assert rows["harvested"][3] == f"{ring.semantics.closeness('train', moved, noise.claimed[moved]).mean():.2f}"


def test_a_data_set_without_meanings(tiny: Dataset, register: Callable[[str, str, object], None]) -> None:
    register("ncbench.datasets", "tiny", Source(replace(tiny, semantics=None)))
    result = CliRunner().invoke(main, ["--dataset", "tiny"])
    assert result.exit_code == 1
    assert "use scenes" in result.output
