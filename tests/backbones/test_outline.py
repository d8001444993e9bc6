"""Backbones without weights."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ncbench.backbones.base import Sizes
from ncbench.backbones.outline import outline
from ncbench.backbones.registry import BACKBONES, build_backbone
from ncbench.errors import UserError

SIZES = Sizes(image_dim=12, n_regions=3, vocabulary=20, embed=16, similarity=8, word=10)

SYMPY_LOADED = """
import sys
import torch
from ncbench.backbones.base import Sizes
from ncbench.backbones.outline import outline
outline("vse-infinity", Sizes(image_dim=12, n_regions=3, vocabulary=20, embed=16, word=10))
print("sympy" in sys.modules)
"""


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_an_outline_has_the_shapes_and_formulas_of_a_backbone(name: str) -> None:
    found, real = outline(name, SIZES), build_backbone(name, SIZES)
    shapes = {key: weight.shape for key, weight in real.state_dict().items()}
    assert {key: weight.shape for key, weight in found.state_dict().items()} == shapes
    assert {weight.device.type for weight in found.parameters()} == {"meta"}
    assert found.caption_work(7) == real.caption_work(7)
    assert found.pair_work(3, 7) == real.pair_work(3, 7)


def test_an_outline_draws_no_random_numbers() -> None:
    before = torch.random.get_rng_state()
    outline("sgr", SIZES)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_outline_does_not_import_decompositions() -> None:
    """torch's initialisers on the meta device import its decompositions, sympy among them."""
    found = subprocess.run([sys.executable, "-c", SYMPY_LOADED], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_outlines_of_unknown_backbones() -> None:
    with pytest.raises(UserError, match="backbone 'vsee'"):
        outline("vsee", SIZES)
