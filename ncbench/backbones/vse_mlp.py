"""VSE with two layers in place of each linear map, for vectors of frozen encoders."""

from __future__ import annotations

from torch import nn

from ncbench.backbones.base import Sizes
from ncbench.backbones.encoders import linear_work, xavier_linear
from ncbench.backbones.vse import VSE


class VSEMLP(VSE):
    """VSE whose maps of the mean region, and of captions that are vectors, have a hidden layer of E units and a ReLU.

    Heads of one or two layers over frozen encoders are common where encoders are too large to train. Captions of words
    are read as in VSE.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.project = _two_layers(sizes.image_dim, sizes.embed)
        if sizes.vector_dim:
            self.project_captions = _two_layers(sizes.vector_dim, sizes.embed)

    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image."""
        return _two_layers_work(self.sizes.image_dim, self.sizes.embed)

    def caption_work(self, length: int) -> int:
        """Return the FLOPs of encoding one caption of `length` tokens."""
        if self.sizes.vector_dim:
            return _two_layers_work(self.sizes.vector_dim, self.sizes.embed)
        return super().caption_work(length)


def _two_layers(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(xavier_linear(inputs, outputs), nn.ReLU(), xavier_linear(outputs, outputs))


def _two_layers_work(inputs: int, outputs: int) -> int:
    return linear_work(inputs, outputs) + linear_work(outputs, outputs)
