"""The head of a backbone: the network that maps a pair vector to a raw score."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ncbench.backbones.encoders import linear_work, xavier_linear

_HIDDEN_WEIGHT = "head.0.weight"


def pair_head(inputs: int, hidden: int) -> nn.Module:
    """Return a network from pair vectors (..., inputs) to raw scores (..., 1).

    It has one hidden layer with `hidden` units and a ReLU, or is one Linear if `hidden` is 0.
    """
    if not hidden:
        return xavier_linear(inputs, 1)
    return nn.Sequential(xavier_linear(inputs, hidden), nn.ReLU(), xavier_linear(hidden, 1))


def head_work(inputs: int, hidden: int) -> int:
    """Return the FLOPs of the head for one pair."""
    return linear_work(inputs, hidden) + linear_work(hidden, 1) if hidden else linear_work(inputs, 1)


def head_width(weights: Mapping[str, Tensor]) -> int:
    """Return the number of hidden units in the head of a network with `weights`; 0 without a hidden layer."""
    return len(weights[_HIDDEN_WEIGHT]) if _HIDDEN_WEIGHT in weights and weights[_HIDDEN_WEIGHT].ndim else 0


def score_all(images: Tensor, captions: Tensor, head: nn.Module | None) -> Tensor:
    """Return the similarities (I, C) of unit vectors (I, E) and (C, E): cosines, or scores of the `head`.

    The pair vector is the elementwise product of the two, whose sum is the cosine. This is ncbench's choice.
    """
    return images @ captions.T if head is None else sigmoids(images[:, None] * captions, head)


def score_each(images: Tensor, captions: Tensor, head: nn.Module | None) -> Tensor:
    """Return the similarities (n,) of unit vectors (n, E) and (n, E): the diagonal of `score_all`."""
    if head is None:
        return (images[:, None] @ captions[:, :, None]).flatten()
    return sigmoids(images * captions, head)


def sigmoids(vectors: Tensor, head: nn.Module) -> Tensor:
    """Return the similarities (...), in (0, 1), of pairs from their vectors (..., S)."""
    raw: Tensor = head(vectors)
    return raw.squeeze(-1).sigmoid()
