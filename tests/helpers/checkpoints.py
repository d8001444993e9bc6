"""What tests of networks in files share: their similarities, and the line with which a file is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ncbench.backbones.base import Backbone
from ncbench.backbones.released.checkpoint import Checkpoint
from ncbench.data.dataset import Dataset
from ncbench.errors import UserError
from ncbench.evaluation.averaging import average
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.records.networks import read_checkpoint


def similarities(networks: list[Backbone], dataset: Dataset) -> np.ndarray:
    """The mean similarities of some networks on the test split."""
    cpu = torch.device("cpu")
    return average(similarity_matrix([network], dataset.splits["test"], cpu) for network in networks)


def refusal(path: Path, then: Callable[[Checkpoint], object] = lambda found: None) -> str:
    """The one line with which `path` is refused, without the path."""
    with pytest.raises(UserError) as caught:
        then(read_checkpoint(path))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


def built(dataset: Dataset) -> Callable[[Checkpoint], object]:
    """For `refusal`: build the networks for a dataset."""
    return lambda found: found.build(dataset)
