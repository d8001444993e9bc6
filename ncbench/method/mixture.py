"""Two-component mixtures over per-pair losses, to tell clean pairs from noisy ones."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, expit

from ncbench.runtime.array_like import Numbers, as_floats
from ncbench.runtime.overhead import timed

Floats: TypeAlias = NDArray[np.float64]

# A beta density may be 0 or infinite at 0 and 1, so values are clipped this far away from them, as in L2RM.
EDGE = 0.001

# A component with a smaller variance would become a spike of unbounded likelihood on a few values.
MIN_VARIANCE = EDGE**2

# A component with a smaller share of all values has died out.
MIN_WEIGHT = 1e-12


@dataclass(frozen=True)
class BetaMixture:
    """A mixture of two beta distributions on [0, 1]. After a fit, component 0 is the one with the smaller mean.

    `a`, `b` and `weight` are (2,) float64: shape parameters and shares. A weight of 0 means that the data have only one
    component. `log_likelihood` is the total over the fitted data in nats, `iterations` the number of EM updates.
    """

    a: Floats
    b: Floats
    weight: Floats
    log_likelihood: float = float("nan")
    iterations: int = 0

    @property
    def mean(self) -> Floats:
        """The mean (2,) of each component."""
        return self.a / (self.a + self.b)

    def posterior(self, x: Floats) -> Floats:
        """Return (n, 2): the probability of each component given values `x` (n,) in [0, 1], NaN not allowed."""
        return _posterior(_joint_log_density(self, _inner_values(x)))


@timed("mixture")
def fit_beta_mixture(
    x: Floats, *, start: BetaMixture | None = None, tolerance: float = 0.1, max_iterations: int = 10_000
) -> BetaMixture:
    """Fit two beta distributions to values `x` (n,) in [0, 1] by expectation maximisation.

    The M-step matches the weighted mean and variance of each component instead of maximising the likelihood, so the
    likelihood may decrease slightly. EM stops when the total log-likelihood gains at most `tolerance` nats, or after
    `max_iterations` updates. Values are clipped to [0.001, 0.999] first. Without `start`, EM starts from the best split
    of the sorted values into two groups (least squares), so the result is deterministic. If all values are equal, or
    one component dies out, the result is a single beta distribution: component 0, with weight 1.

    Raises ValueError if `x` is not a non-empty vector of numbers in [0, 1].
    Source: Arazo et al. (ICML 2019); stopping rule and clipping as in the code of L2RM (CVPR 2024).
    """
    x = _inner_values(x)
    mixture = _first_split(x) if start is None else start
    before = -np.inf
    for iteration in range(max_iterations + 1):
        joint = _joint_log_density(mixture, x)
        total = float(np.logaddexp(joint[:, 0], joint[:, 1]).sum())
        mixture = replace(mixture, log_likelihood=total, iterations=iteration)
        if mixture.weight.min() == 0 or total - before <= tolerance or iteration == max_iterations:
            break
        before = total
        mixture = _match_moments(x, _posterior(joint))
    return _smaller_mean_first(mixture)


def beta_mixture_of(x: Floats, upper: NDArray[np.bool_]) -> BetaMixture:
    """Return the mixture of two groups of values `x` (n,) in [0, 1]; component 1 has the moments of the `upper` group.

    Weights are the shares of the groups. `upper` (n,) is bool. If one group is empty, there is a single component.
    Clips values and raises ValueError like `fit_beta_mixture`.
    """
    return _match_moments(_inner_values(x), np.column_stack([~upper, upper]).astype(np.float64))


@timed("mixture")
def clean_probability(losses: Numbers) -> Floats:
    """Return (n,): the probability that each pair is clean, from its loss under a network that prefers clean pairs.

    `losses` (n,) is an array, a tensor on any device or a list.
    Losses are scaled to [0, 1] by their minimum and maximum, and a beta mixture is fitted. The clean component is the
    one with the smaller mean. If there is only one group (equal losses, one pair, a component that dies out), every
    pair gets 1.0. Source: L2RM (CVPR 2024), with the clean component chosen by mean instead of by posterior at 0.001.

    The result need not decrease with the loss: of two overlapping beta distributions the wider one wins at both ends,
    so the largest losses can look clean again, or the smallest ones noisy. This is the published behaviour.
    Raises ValueError if `losses` is not a non-empty vector of finite numbers.

    >>> clean_probability(np.array([0.1, 0.12, 0.15, 0.2, 1.8, 1.9, 2.0])).round(2)
    array([1., 1., 1., 1., 0., 0., 0.])
    """
    found = as_floats("losses", losses).astype(np.float64)
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"losses must be a non-empty vector of finite numbers, got shape {found.shape}")
    x = scale_to_unit(found)
    if not x.max() > 0:
        return np.ones_like(found)
    return fit_beta_mixture(x).posterior(x)[:, 0]


@timed("mixture")
def gaussian_posterior(x: Floats, seed: int) -> tuple[Floats, Floats]:
    """Return the probability (n, 2) of each of two Gaussians given values `x` (n,), and their means (2,), ascending.

    Fitted by scikit-learn's GaussianMixture with the constants of NCR (NeurIPS 2021) and GSC (CVPR 2024): at most 10
    iterations, tolerance 1e-2, covariances regularised by 5e-4, initialised by k-means with `seed`. If all values are
    equal, all belong to component 0. Raises ValueError if `x` is not a vector of at least two finite numbers.
    """
    from sklearn.mixture import GaussianMixture  # here, as it loads slowly and few methods need it

    x = as_floats("x", x).astype(np.float64)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"values must be a vector of at least two finite numbers, got shape {x.shape}")
    if x.min() == x.max():
        return np.tile([1.0, 0.0], (len(x), 1)), np.array([x[0], x[0]])
    fitted = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ten iterations, as published, seldom converge
        fitted.fit(x[:, None])
    order = np.argsort(fitted.means_[:, 0], kind="stable")
    return fitted.predict_proba(x[:, None])[:, order], fitted.means_[order, 0]


def scale_to_unit(x: Floats) -> Floats:
    """Return `x` (n,) shifted and scaled to [0, 1] by its minimum and maximum; zeros if all values are equal."""
    shifted = x / 2 - x.min() / 2  # halved first, as the difference of two finite numbers may overflow
    return shifted / shifted.max() if shifted.max() > 0 else np.zeros_like(x)


def _inner_values(x: Floats) -> Floats:
    x = as_floats("x", x).astype(np.float64)
    if x.ndim != 1 or not x.size or not ((x >= 0) & (x <= 1)).all():
        raise ValueError(f"values must be a non-empty vector of numbers in [0, 1], got shape {x.shape}")
    return np.clip(x, EDGE, 1 - EDGE)


def _joint_log_density(mixture: BetaMixture, x: Floats) -> Floats:
    """Return (n, 2): log(weight * density) of each component at `x`."""
    with np.errstate(divide="ignore"):
        log_weight = np.log(mixture.weight)
    a, b = mixture.a, mixture.b
    joint: Floats = log_weight - betaln(a, b) + (a - 1) * np.log(x)[:, None] + (b - 1) * np.log1p(-x)[:, None]
    return joint


def _posterior(joint: Floats) -> Floats:
    log_odds = joint[:, 0] - joint[:, 1]
    return np.column_stack([expit(log_odds), expit(-log_odds)])


def _match_moments(x: Floats, responsibility: Floats) -> BetaMixture:
    """Return the mixture whose components have the mean and variance of `x` under `responsibility` (n, 2)."""
    total = responsibility.sum(axis=0)
    if total.min() < MIN_WEIGHT * len(x):
        return _single_component(x)
    mean = x @ responsibility / total
    variance = np.maximum((x**2) @ responsibility / total - mean**2, MIN_VARIANCE)
    # Positive, as values inside (0, 1) have a variance below mean * (1 - mean).
    concentration = mean * (1 - mean) / variance - 1
    return BetaMixture(a=mean * concentration, b=(1 - mean) * concentration, weight=total / len(x))


def _single_component(x: Floats) -> BetaMixture:
    both = np.full((len(x), 2), 0.5)
    return replace(_match_moments(x, both), weight=np.array([1.0, 0.0]))


def _first_split(x: Floats) -> BetaMixture:
    """Return the mixture of the two groups of values with the least squared distance to their means."""
    values = np.sort(x)
    cuts = np.flatnonzero(np.diff(values)) + 1  # sizes of the lower group; equal values stay together
    if not cuts.size:
        return _single_component(x)
    sums = np.cumsum(values)
    lower, upper = sums[cuts - 1], sums[-1] - sums[cuts - 1]
    # The squared distances are smallest where the squared group sums over the group sizes are largest.
    best = np.argmax(lower**2 / cuts + upper**2 / (len(x) - cuts))
    return beta_mixture_of(x, x >= values[cuts[best]])


def _smaller_mean_first(mixture: BetaMixture) -> BetaMixture:
    order = np.argsort(mixture.mean, kind="stable")
    return replace(mixture, a=mixture.a[order], b=mixture.b[order], weight=mixture.weight[order])
