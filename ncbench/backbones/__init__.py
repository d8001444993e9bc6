"""Backbones: networks that score images against captions. This module loads no torch; building a backbone does."""

from ncbench.backbones.registry import (
    BACKBONES,
    backbone_class,
    build_backbone,
    check_backbone,
    members_of,
    resolve,
)

__all__ = ["BACKBONES", "backbone_class", "build_backbone", "check_backbone", "members_of", "resolve"]
