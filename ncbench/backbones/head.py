"""The head of a backbone: the network that makes a raw score of the vector of a pair."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ncbench.backbones.encoders import linear_work, xavier_linear

FIRST_OF_TWO = "head.0.weight"


def pair_head(inputs: int, hidden: int) -> nn.Module:
    """Return a network from pair vectors (..., inputs) to raw scores (..., 1): a Linear, or two with a ReLU between.

    `hidden` is the width of the hidden layer; 0: there is none.
    """
    if not hidden:
        return xavier_linear(inputs, 1)
    return nn.Sequential(xavier_linear(inputs, hidden), nn.ReLU(), xavier_linear(hidden, 1))


def head_work(inputs: int, hidden: int) -> int:
    """Return the FLOPs of the head for one pair."""
    return linear_work(inputs, hidden) + linear_work(hidden, 1) if hidden else linear_work(inputs, 1)


def head_width(weights: Mapping[str, Tensor]) -> int:
    """Return the width of the hidden layer of the head of a network with `weights`; 0 where there is none."""
    return len(weights[FIRST_OF_TWO]) if FIRST_OF_TWO in weights and weights[FIRST_OF_TWO].ndim else 0


def score_all(images: Tensor, captions: Tensor, head: nn.Module | None) -> Tensor:
    """Return the similarities (I, C) of unit vectors (I, E) and (C, E): cosines, or what `head` makes of pairs.

    The vector of a pair is the elementwise product of both, whose sum is the cosine: this suite's choice.
    """
    return images @ captions.T if head is None else sigmoids(images[:, None] * captions, head)


def score_each(images: Tensor, captions: Tensor, head: nn.Module | None) -> Tensor:
    """Return the similarities (n,) of unit vectors (n, E) and (n, E), as `score_all` has them on its diagonal."""
    if head is None:
        return (images[:, None] @ captions[:, :, None]).flatten()
    return sigmoids(images * captions, head)


def sigmoids(vectors: Tensor, head: nn.Module) -> Tensor:
    """Return the similarities (...), in (0, 1), of pairs from their vectors (..., S)."""
    raw: Tensor = head(vectors)
    return raw.squeeze(-1).sigmoid()
