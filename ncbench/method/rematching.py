"""Rematching (L2RM, CVPR 2024): instead of being discarded, mismatched captions are matched to images that fit better.

The parts work on any similarity matrix: `plan_rematches` moves part of the mass of a batch between images and captions
by partial optimal transport, with the given pairs forbidden; a loss of `ncbench.losses` trains against that plan; and
`best_images` reads from it which image fits a caption best. `CostNetwork` learns the cost of the transport.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ncbench.data.dataset import IntVector
from ncbench.errors import ArgumentError
from ncbench.method.losses import LABEL_FLOOR
from ncbench.method.transport import Solver, partial_transport
from ncbench.runtime.array_like import Numbers, as_booleans, as_floats, as_integers


def given_pairs(images: Numbers, claimed: Numbers) -> Tensor:
    """Return which of the (images, captions) pairs are given, (Q, B) bool: the image is the one the caption claims.

    `images` (Q,) are the numbers of the images, `claimed` (B,) those that the captions claim. Under image noise,
    several captions of a batch claim the same image, so that more than a diagonal is given.
    """
    found = as_integers("images", images)[:, None] == as_integers("claimed", claimed)
    return torch.from_numpy(np.asarray(found))


def plan_rematches(
    similarities: Numbers,
    given: Numbers | None = None,
    *,
    mass: float = 0.1,
    reg: float = 0.01,
    solver: Solver = "sinkhorn",
) -> Tensor:
    """Return the transport plan (Q, B) that rematches captions to images; without gradient.

    `similarities` is (Q images, B captions). `given` (Q, B) bool are the pairs that the data claim, see `given_pairs`,
    and which the plan leaves out; by default the diagonal of a square matrix. The cost is 1 - similarity; `mass` in
    (0, 1] is the share that is moved, or as much as there is room for, `reg` the entropic regularisation in units of
    similarity. The plan has the dtype and the device of `similarities`.

    Raises ArgumentError for matrices that do not fit, and as `ncbench.transport.partial_transport`.

    >>> S = torch.tensor([[0.1, 0.9], [0.8, 0.2]])  # each caption fits the image of the other
    >>> plan_rematches(S, mass=1, reg=0.1)
    tensor([[0.0000, 0.5000],
            [0.5000, 0.0000]])
    """
    S = similarities.detach() if isinstance(similarities, Tensor) else _tensor(similarities)
    if S.ndim != 2 or not S.is_floating_point():
        raise ArgumentError(f"similarities: expected numbers (images, captions), found {S.dtype} {tuple(S.shape)}")
    if given is None and len(S) != S.shape[1]:
        raise ArgumentError(
            f"given: expected which of the {tuple(S.shape)} pairs the data claim; only a square matrix has a diagonal"
        )
    blocked = np.eye(len(S), dtype=np.bool_) if given is None else as_booleans("given", given)
    if blocked.shape != tuple(S.shape):
        raise ArgumentError(f"given: expected the shape of similarities, {tuple(S.shape)}, found {blocked.shape}")
    if 0 in S.shape:
        return torch.zeros_like(S)
    return partial_transport(1 - S, mass, reg, blocked, solver=solver, shrink=True)


def best_images(plan: Numbers) -> tuple[IntVector, NDArray[np.float64]]:
    """Return for each caption the row of the image that gets most of its mass, and that share of its mass, (B,) each.

    `plan` is (Q images, B captions). The share is 0 for a caption without more mass than LABEL_FLOOR, which matters to
    no loss. Raises ArgumentError unless `plan` is a matrix with at least one image.
    """
    mass = as_floats("plan", plan)
    if mass.ndim != 2 or not len(mass):
        raise ArgumentError(f"plan: expected the masses (images, captions), found shape {mass.shape}")
    most = mass.max(0)
    shares = np.divide(most, mass.sum(0), out=np.zeros(len(most)), where=most > LABEL_FLOOR)
    return mass.argmax(0), shares


class CostNetwork(nn.Module):
    """A learned cost, from rows of similarities: relu(S W^T + b), initially relu(1 - S). L2RM, section 3.3."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        with torch.no_grad():
            self.linear.weight.copy_(-torch.eye(size))
            self.linear.bias.fill_(1.0)

    def forward(self, similarities: Tensor) -> Tensor:
        """Return costs (Q, B) of similarities (Q, B), where B is the size of the network."""
        return cast("Tensor", self.linear(similarities).relu())


def _tensor(similarities: Numbers) -> Tensor:
    return torch.from_numpy(as_floats("similarities", similarities))
