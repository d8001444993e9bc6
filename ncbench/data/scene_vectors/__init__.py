"""The dataset `scenes-vectors`: `scenes` as one vector per picture and per caption, of two frozen networks."""

from ncbench.data.scene_vectors.source import SCENES_VECTORS

__all__ = ["SCENES_VECTORS"]
