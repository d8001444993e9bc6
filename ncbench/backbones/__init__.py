"""Backbones: networks that score images against captions. Naming one loads no torch; building one does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ncbench.errors import unknown_name

if TYPE_CHECKING:
    from ncbench.backbones.base import Backbone, Sizes

BACKBONES = {
    "saf": "ncbench.backbones.graph:SAF",
    "sgr": "ncbench.backbones.graph:SGR",
    "vse": "ncbench.backbones.vse:VSE",
}


def check_backbone(name: str) -> None:
    """Raise UserError unless `name` is a backbone."""
    if name not in BACKBONES:
        raise unknown_name("backbone", name, BACKBONES)


def build_backbone(name: str, sizes: Sizes) -> Backbone:
    """Return a freshly initialised backbone; torch's global generator gives the weights. Raises UserError."""
    check_backbone(name)
    module, _, attribute = BACKBONES[name].partition(":")
    backbone: Backbone = getattr(import_module(module), attribute)(sizes)
    return backbone
