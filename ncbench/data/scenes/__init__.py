"""Procedural pictures with captions, whose meaning is known: the datasets `scenes` and `scenes-large`."""

from ncbench.data.scenes.source import SCENES, SCENES_LARGE

__all__ = ["SCENES", "SCENES_LARGE"]
