"""Procedural pictures with captions of known meaning: the datasets `scenes` and `scenes-large`."""

from ncbench.data.scenes.source import SCENES, SCENES_LARGE

__all__ = ["SCENES", "SCENES_LARGE"]
