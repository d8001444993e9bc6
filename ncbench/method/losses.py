"""Losses shared by methods, each a pure function of a similarity matrix.

S is (B images, B captions) with the matched pairs on the diagonal; losses against a transport plan accept any
(Q images, B captions). Losses over a batch are sums where documented, because VSE++ and its descendants are tuned that
way: the weight against another term and gradient clipping depend on it.
Every function raises ValueError for arguments of the wrong shape or range.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Logarithms of the labels "identity + 1e-7" in float32, where 1 + 1e-7 is 1 + 2^-23.
LOG_MATCHED_LABEL = math.log1p(2.0**-23)
LOG_UNMATCHED_LABEL = math.log(1e-7)

LABEL_FLOOR = 1e-10


def hinge_costs(S: Tensor, margin: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much each negative violates the margin, for image queries and for caption queries.

    `margin` is one number, or (B,): one margin per pair, in units of S. The margin of a pair applies where it is the
    anchor: in its row of the first result (its image against other captions) and in its column of the second (its
    caption against other images). Both results are (B, B) with zeros on the diagonal:
    cost_s[i, j] = max(0, margin_i + S_ij - S_ii) and cost_im[i, j] = max(0, margin_j + S_ij - S_jj).
    Source: VSE++ (BMVC 2018); per-pair margins as NCR (NeurIPS 2021) defines them.
    """
    matched = _matched(S)
    margins = torch.as_tensor(margin, dtype=S.dtype, device=S.device)
    if margins.shape not in ((), matched.shape):
        raise ValueError(f"margin must be a number or have shape {tuple(matched.shape)}, got {tuple(margins.shape)}")
    threshold = margins - matched
    diagonal = torch.eye(len(S), dtype=torch.bool, device=S.device)
    cost_s = (S + threshold[:, None]).clamp(min=0).masked_fill(diagonal, 0)
    cost_im = (S + threshold[None, :]).clamp(min=0).masked_fill(diagonal, 0)
    return cost_s, cost_im


def hinge_sum(S: Tensor, margin: float | Tensor) -> Tensor:
    """Return the triplet loss over all negatives of both directions, summed over the batch: VSE++'s sum of hinges."""
    cost_s, cost_im = hinge_costs(S, margin)
    return cost_s.sum() + cost_im.sum()


def hinge_mean(S: Tensor, margin: float | Tensor) -> Tensor:
    """Return the triplet loss averaged over negatives and summed over the batch: the warm-up loss of NCR.

    The average divides by B, not by the B - 1 negatives, as the released code of NCR does.
    """
    return pair_losses(S, margin).sum()


def hinge_max(S: Tensor, margin: float | Tensor) -> Tensor:
    """Return the triplet loss of each query's hardest negative, both directions, summed: VSE++'s max of hinges.

    >>> hinge_max(torch.tensor([[0.9, 0.8], [0.3, 0.7]]), margin=0.2)
    tensor(0.4000)
    """
    cost_s, cost_im = hinge_costs(S, margin)
    # max and not amax: of several equally hard negatives one gets the whole gradient.
    return cost_s.max(dim=1).values.sum() + cost_im.max(dim=0).values.sum()


def soft_margin(labels: Tensor, margin: float) -> Tensor:
    """Return the margin (B,) of each pair from its soft label y (B,) in [0, 1]: margin (10^y - 1) / 9.

    The exponential form of NCR (NeurIPS 2021) and BiCro (CVPR 2023). In a hinge, the margin of a pair applies where the
    pair is the anchor, in both directions.
    """
    return margin * (10**labels - 1) / 9


def pair_losses(S: Tensor, margin: float | Tensor) -> Tensor:
    """Return (B,): the triplet loss of each pair, averaged over its negatives (divided by B, see `hinge_mean`).

    NCR, BiCro and L2RM fit a mixture to these values to separate clean from noisy pairs.
    """
    cost_s, cost_im = hinge_costs(S, margin)
    return cost_s.mean(dim=1) + cost_im.mean(dim=0)


def info_nce(S: Tensor, tau: float) -> Tensor:
    """Return the contrastive cross-entropy at temperature `tau`: a mean over queries, summed over both directions."""
    _matched(S)
    return _sum_directions(S, tau, lambda log_p, _: -log_p.diagonal().mean())


def rce(S: Tensor, tau: float) -> Tensor:
    """Return half the sum of cross-entropy and reverse cross-entropy over both directions: the warm-up loss of L2RM.

    The reverse term, -mean_i sum_k p_ik log y_ik with y = identity + 1e-7, grows only linearly in 1 - p_ii, which
    bounds what a mismatched pair can cost. `tau` is the temperature of the softmax p.
    Source: symmetric cross entropy (Wang et al., ICCV 2019) with equal weights; labels as in the code of L2RM.
    """
    _matched(S)
    log_labels = torch.full_like(S, LOG_UNMATCHED_LABEL).fill_diagonal_(LOG_MATCHED_LABEL)

    def direction(log_p: Tensor, dim: int) -> Tensor:
        reverse = -(log_p.exp() * log_labels).sum(dim).mean()
        return 0.5 * (reverse - log_p.diagonal().mean())

    return _sum_directions(S, tau, direction)


def symmetric_kl(S: Tensor, plan: Tensor, tau: float, floor: float = LABEL_FLOOR) -> Tensor:
    """Return half of KL(y||p) + KL(p||y) between a plan's soft labels y and the predictions p = softmax(S / tau).

    S and `plan` are (Q images, B captions); labels are the plan's rows (image queries) and columns (caption queries),
    raised to at least `floor` and normalised. Mean over queries, sum over both directions. Gradients flow into S only.
    The floor matters: it sets the cost of a prediction where the plan is empty, and a query whose entries are all below
    it is pulled towards the uniform distribution. Source: L2RM (CVPR 2024), the rematching loss.
    """
    return _against_plan(S, plan, tau, floor, lambda log_p, log_y: 0.5 * (log_y.exp() - log_p.exp()) * (log_y - log_p))


def kl(S: Tensor, plan: Tensor, tau: float, floor: float = LABEL_FLOOR) -> Tensor:
    """Return KL(y||p) of a plan's soft labels and the predictions; arguments and reduction as in `symmetric_kl`."""
    return _against_plan(S, plan, tau, floor, lambda log_p, log_y: log_y.exp() * (log_y - log_p))


def jensen_shannon(S: Tensor, plan: Tensor, tau: float, floor: float = LABEL_FLOOR) -> Tensor:
    """Return half of KL(p||m) + KL(y||m) with m = (p + y) / 2; arguments and reduction as in `symmetric_kl`.

    The released code of L2RM calls `arithmetic_geometric` by this name.
    """

    def divergence(log_p: Tensor, log_y: Tensor) -> Tensor:
        log_m = _log_mean(log_p, log_y)
        return 0.5 * (log_p.exp() * (log_p - log_m) + log_y.exp() * (log_y - log_m))

    return _against_plan(S, plan, tau, floor, divergence)


def arithmetic_geometric(S: Tensor, plan: Tensor, tau: float, floor: float = LABEL_FLOOR) -> Tensor:
    """Return half of KL(m||p) + KL(m||y) with m = (p + y) / 2; arguments and reduction as in `symmetric_kl`.

    It compares the arithmetic with the geometric mean of p and y. This is the reverse of Jensen-Shannon, and the "JS"
    variant of L2RM's released code.
    """

    def divergence(log_p: Tensor, log_y: Tensor) -> Tensor:
        log_m = _log_mean(log_p, log_y)
        return log_m.exp() * (log_m - 0.5 * (log_p + log_y))

    return _against_plan(S, plan, tau, floor, divergence)


def soft_info_nce(S: Tensor, plan: Tensor, tau: float, floor: float = LABEL_FLOOR) -> Tensor:
    """Return the cross-entropy of the predictions against a plan's soft labels; arguments as in `symmetric_kl`.

    It differs from `kl` by the entropy of the labels, which has no gradient, so both train alike.
    """
    return _against_plan(S, plan, tau, floor, lambda log_p, log_y: -log_y.exp() * log_p)


def _sum_directions(S: Tensor, tau: float, direction: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return `direction(log p, dim)` for image queries (dim 1) plus that for caption queries (dim 0).

    `dim` is the dimension of S over which p = softmax(S / tau) sums to one.
    """
    if not tau > 0:
        raise ValueError(f"tau must be positive, got {tau}")
    logits = S / tau
    return direction(logits.log_softmax(dim=1), 1) + direction(logits.log_softmax(dim=0), 0)


def _against_plan(
    S: Tensor, plan: Tensor, tau: float, floor: float, divergence: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Sum `divergence(log p, log y)` over the entries, divide by the queries, and add up both directions."""
    if S.ndim != 2 or plan.shape != S.shape:
        raise ValueError(f"S and plan must be matrices of one shape, got {tuple(S.shape)} and {tuple(plan.shape)}")
    if not floor > 0:
        raise ValueError(f"floor must be positive, got {floor}")
    # Half precision cannot hold the floor.
    dtype = torch.promote_types(S.dtype, torch.float32)
    weights = plan.detach().to(device=S.device, dtype=dtype).clamp(min=floor)

    def direction(log_p: Tensor, dim: int) -> Tensor:
        log_y = (weights / weights.sum(dim, keepdim=True)).log()
        queries = S.shape[1 - dim]
        return divergence(log_p, log_y).sum() / queries

    return _sum_directions(S.to(dtype), tau, direction)


def _log_mean(log_p: Tensor, log_y: Tensor) -> Tensor:
    return torch.logaddexp(log_p, log_y) - math.log(2)


def _matched(S: Tensor) -> Tensor:
    """Return the similarities (B,) of the matched pairs."""
    if S.ndim != 2 or S.shape[0] != S.shape[1] or not len(S):
        raise ValueError(
            f"S must be a square, non-empty matrix with matched pairs on its diagonal, got {tuple(S.shape)}"
        )
    return S.diagonal()


def log_matching(S: Tensor, tau: float) -> Tensor:
    """Return log softmax(S / tau), (2, B, B): of the captions per image, and of the images per caption.

    Row i of both holds the candidates of pair i, with its own counterpart on the diagonal.
    """
    logits = S / tau
    return torch.stack([logits.log_softmax(1), logits.T.log_softmax(1)])
