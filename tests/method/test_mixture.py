"""Mixtures: a worked example of L2RM's fit, a second implementation, recovery of known mixtures, degenerate data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ncbench.method.mixture import BetaMixture, clean_probability, fit_beta_mixture, gaussian_posterior, scale_to_unit

EXAMPLE = np.array([0, 0.03, 0.05, 0.08, 0.10, 0.12, 0.15, 0.20, 0.45, 0.55, 0.62, 0.70, 0.80, 1])
EXAMPLE_START = BetaMixture(
    a=np.array([1.938050, 3.986388]), b=np.array([19.271796, 1.820441]), weight=np.array([0.571429, 0.428571])
)


def sample_mixture(rng, n, a, b, weight):
    component = rng.choice(2, size=n, p=weight)
    return rng.beta(np.asarray(a)[component], np.asarray(b)[component]), component


def plain_em(x, a, b, weight, updates):
    """Expectation maximisation by loops over components and SciPy's densities."""
    for _ in range(updates):
        density = [weight[k] * stats.beta.pdf(x, a[k], b[k]) for k in range(2)]
        share = [density[k] / (density[0] + density[1]) for k in range(2)]
        a, b, weight = list(a), list(b), list(weight)
        for k in range(2):
            mean = np.average(x, weights=share[k])
            variance = np.average((x - mean) ** 2, weights=share[k])
            factor = mean * (1 - mean) / variance - 1
            a[k], b[k], weight[k] = mean * factor, (1 - mean) * factor, share[k].mean()
    log_likelihood = np.log(sum(weight[k] * stats.beta.pdf(x, a[k], b[k]) for k in range(2))).sum()
    return a, b, weight, log_likelihood


def test_a_worked_example():
    first = fit_beta_mixture(EXAMPLE, start=EXAMPLE_START, tolerance=1e-2)
    assert first.iterations == 7  # the eighth E-step finds nothing more to gain
    assert first.log_likelihood == pytest.approx(0.422339, abs=2e-6)
    np.testing.assert_allclose(first.a, [1.898453, 3.319654], atol=5e-6)
    np.testing.assert_allclose(first.b, [19.232405, 1.605232], atol=5e-6)
    np.testing.assert_allclose(first.weight, [0.560802, 0.439198], atol=1e-6)

    second = fit_beta_mixture(EXAMPLE, start=first)
    assert second.iterations == 1
    assert second.log_likelihood == pytest.approx(0.426576, abs=2e-6)
    np.testing.assert_allclose(second.a, [1.898420, 3.316122], atol=5e-6)
    np.testing.assert_allclose(second.b, [19.234499, 1.604097], atol=5e-6)
    np.testing.assert_allclose(second.mean, [0.089832, 0.673979], atol=1e-6)
    clean = second.posterior(np.array([0.001, 0.15, 0.20, 0.45]))[:, 0]
    np.testing.assert_allclose(clean, [0.999999, 0.973338, 0.892908, 0.003558], atol=1e-6)


def test_the_start_is_the_best_split():
    start = fit_beta_mixture(EXAMPLE, max_iterations=0)
    np.testing.assert_allclose(start.a, EXAMPLE_START.a, atol=1e-6)
    np.testing.assert_allclose(start.b, EXAMPLE_START.b, atol=1e-6)
    np.testing.assert_allclose(start.weight, EXAMPLE_START.weight, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_plain_implementation(seed):
    x, _ = sample_mixture(np.random.default_rng(seed), 300, [2, 5], [12, 3], [0.6, 0.4])
    x = np.clip(x, 0.001, 0.999)
    start = fit_beta_mixture(x, max_iterations=0)
    fitted = fit_beta_mixture(x, tolerance=1e-6)
    a, b, weight, log_likelihood = plain_em(x, start.a, start.b, start.weight, fitted.iterations)
    assert fitted.iterations > 1
    assert fitted.log_likelihood == pytest.approx(log_likelihood, rel=1e-9)
    np.testing.assert_allclose(fitted.a, a, rtol=1e-8)
    np.testing.assert_allclose(fitted.b, b, rtol=1e-8)
    np.testing.assert_allclose(fitted.weight, weight, rtol=1e-8)


@pytest.mark.parametrize(
    ("a", "b", "weight"),
    [([2, 8], [20, 4], [0.8, 0.2]), ([3, 10], [30, 3], [0.5, 0.5]), ([2, 6], [18, 2], [0.2, 0.8])],
)
def test_recovers_the_mixture_that_made_the_data(a, b, weight):
    x, component = sample_mixture(np.random.default_rng(0), 20_000, a, b, weight)
    fitted = fit_beta_mixture(x, tolerance=1e-3)
    np.testing.assert_allclose(fitted.weight, weight, atol=0.02)
    np.testing.assert_allclose(fitted.a, a, rtol=0.1)
    np.testing.assert_allclose(fitted.b, b, rtol=0.1)
    believed = fitted.posterior(x).argmax(axis=1)
    assert (believed == component).mean() > 0.95


def test_component_0_has_the_smaller_mean_whatever_the_start():
    swapped = BetaMixture(a=EXAMPLE_START.a[::-1], b=EXAMPLE_START.b[::-1], weight=EXAMPLE_START.weight[::-1])
    direct, other = fit_beta_mixture(EXAMPLE, start=EXAMPLE_START), fit_beta_mixture(EXAMPLE, start=swapped)
    np.testing.assert_allclose(other.a, direct.a)
    assert other.mean[0] < other.mean[1]


def test_clean_probability_does_not_depend_on_the_unit_of_the_losses_or_their_order():
    losses = np.random.default_rng(0).gamma(2, size=200)
    losses[::4] += 6
    clean = clean_probability(losses)
    assert clean[::4].max() < 0.5 < np.delete(clean, np.s_[::4]).mean()
    np.testing.assert_allclose(clean_probability(1e-3 * losses + 7), clean, atol=1e-9)
    order = np.random.default_rng(1).permutation(200)
    np.testing.assert_allclose(clean_probability(losses[order]), clean[order], atol=1e-9)


def test_the_clean_probability_may_rise_with_the_loss():
    # Documented, published behaviour: the wider component wins at both ends.
    mixture = BetaMixture(a=np.array([0.5, 30]), b=np.array([1.0, 20]), weight=np.array([0.5, 0.5]))
    clean = mixture.posterior(np.array([0.1, 0.6, 0.999]))[:, 0]
    assert clean[1] < clean[0]
    assert clean[1] < clean[2]


@pytest.mark.parametrize("losses", [[0.3], [1.5] * 10, [0.0] * 3, [-2.0] * 4])
def test_equal_losses_are_all_clean(losses):
    np.testing.assert_array_equal(clean_probability(np.array(losses)), 1.0)


def test_two_values_are_told_apart():
    np.testing.assert_allclose(clean_probability(np.array([0.1, 0.1, 0.1, 2.0])), [1, 1, 1, 0], atol=1e-9)


def test_one_outlier_among_equals():
    clean = clean_probability(np.array([0.2] * 99 + [5.0]))
    assert clean[:99].min() > 0.99
    assert clean[99] < 0.01


def test_a_component_that_dies_out_leaves_one():
    x = np.random.default_rng(0).beta(2, 8, size=500)
    hopeless = BetaMixture(a=np.array([2, 1e5]), b=np.array([8, 1.0]), weight=np.array([1 - 1e-9, 1e-9]))
    fitted = fit_beta_mixture(x, start=hopeless)
    np.testing.assert_array_equal(fitted.weight, [1, 0])
    np.testing.assert_array_equal(fitted.posterior(x), np.tile([1.0, 0.0], (500, 1)))
    assert fitted.a[0] == pytest.approx(2, rel=0.15)
    assert math.isfinite(fitted.log_likelihood)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)))
def test_posteriors_are_probabilities(x):
    fitted = fit_beta_mixture(x)
    posterior = fitted.posterior(x)
    assert np.isfinite([fitted.a, fitted.b, fitted.weight]).all()
    assert (fitted.a > 0).all()
    assert (fitted.b > 0).all()
    assert fitted.weight.sum() == pytest.approx(1)
    assert fitted.mean[0] <= fitted.mean[1]
    assert ((posterior >= 0) & (posterior <= 1)).all()
    np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-12)


@given(
    arrays(np.float64, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False))
    | arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 5e-324, 1.0, 1 + 1e-15, 3.0]))
)
def test_clean_probability_accepts_all_finite_losses(losses):
    clean = clean_probability(losses)
    assert clean.shape == losses.shape
    assert ((clean >= 0) & (clean <= 1)).all()


@pytest.mark.parametrize("losses", [[0.1, float("nan")], [0.1, float("inf")], [], [[0.1, 0.2]]])
def test_losses_that_are_no_vector_of_numbers_are_refused(losses):
    with pytest.raises(ValueError, match="finite"):
        clean_probability(np.array(losses))


@pytest.mark.parametrize("x", [[-0.1, 0.5], [0.5, 1.1], [0.5, float("nan")], []])
def test_values_outside_of_the_unit_interval_are_refused(x):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        fit_beta_mixture(np.array(x))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        EXAMPLE_START.posterior(np.array(x))


# Two Gaussians.


def test_a_worked_example_of_two_gaussians():
    posterior, means = gaussian_posterior(EXAMPLE, seed=0)
    np.testing.assert_allclose(means, [0.090765, 0.682710], atol=1e-6)
    of = dict(zip(EXAMPLE, posterior[:, 0], strict=True))
    np.testing.assert_allclose([of[0.15], of[0.20], of[0.45]], [0.993781, 0.965499, 0.000002], atol=1e-6)


def plain_gaussian_em(x, groups, updates=10, tolerance=1e-2, floor=5e-4):
    """Expectation maximisation by loops and SciPy's densities, from two groups of values.

    It ends with the update after which the mean log-likelihood, found before it, has changed by less than `tolerance`.
    """
    share, totals = [np.asarray(groups) == k for k in range(2)], [-np.inf]
    while True:
        weight = [share[k].mean() for k in range(2)]
        mean = [np.average(x, weights=share[k]) for k in range(2)]
        deviation = [math.sqrt(np.average((x - mean[k]) ** 2, weights=share[k]) + floor) for k in range(2)]
        density = [weight[k] * stats.norm.pdf(x, mean[k], deviation[k]) for k in range(2)]
        share = [density[k] / (density[0] + density[1]) for k in range(2)]
        made = len(totals) - 1
        if made == updates or (made and abs(totals[-1] - totals[-2]) < tolerance):
            return np.column_stack(share), np.array(mean), made
        totals.append(np.log(density[0] + density[1]).mean())


@pytest.mark.parametrize(
    ("means", "widths", "updates"),
    [
        ((0.1, 0.8), (0.05, 0.05), 2),
        ((0.1, 0.3), (0.02, 0.3), 8),  # 0.02 is below the floor of the deviation
        ((0.0, 100.0), (0.02, 300.0), 10),  # an eleventh would follow
    ],
)
def test_two_gaussians_agree_with_a_plain_implementation(means, widths, updates):
    rng = np.random.default_rng(0)
    upper = rng.random(400) < 0.3
    x = rng.normal(np.where(upper, means[1], means[0]), np.where(upper, widths[1], widths[0]))
    # k-means in one dimension: the cut at the midpoint of the two group means.
    cut = x.mean()
    for _ in range(100):
        cut = (x[x < cut].mean() + x[x >= cut].mean()) / 2
    expected, expected_means, made = plain_gaussian_em(x, x >= cut)
    order = np.argsort(expected_means)
    posterior, found = gaussian_posterior(x, seed=0)
    assert made == updates
    np.testing.assert_allclose(found, expected_means[order], rtol=1e-6)
    np.testing.assert_allclose(posterior, expected[:, order], atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_component_0_of_two_gaussians_has_the_smaller_mean_whatever_the_seed(seed):
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(5, 0.1, 30), rng.normal(-3, 0.1, 70)])
    posterior, means = gaussian_posterior(x, seed)
    np.testing.assert_allclose(means, [-3, 5], atol=0.1)
    np.testing.assert_allclose(posterior[:, 1], np.repeat([1.0, 0.0], [30, 70]), atol=1e-6)
    np.testing.assert_allclose(posterior.sum(1), 1)
    for again, first in zip(gaussian_posterior(x, seed), (posterior, means), strict=True):
        np.testing.assert_array_equal(again, first)


def test_two_gaussians_do_not_depend_on_the_order_of_the_values():
    x = np.concatenate([np.random.default_rng(0).normal(m, 0.1, 50) for m in (0.2, 0.9)])
    order = np.random.default_rng(1).permutation(100)
    posterior, means = gaussian_posterior(x, 0)
    shuffled, other_means = gaussian_posterior(x[order], 0)
    np.testing.assert_allclose(shuffled, posterior[order], atol=1e-6)
    np.testing.assert_allclose(other_means, means, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, -2.5, 1e300])
def test_equal_values_are_all_of_component_0(value):
    posterior, means = gaussian_posterior(np.full(5, value), 0)
    np.testing.assert_array_equal(posterior, [[1.0, 0.0]] * 5)
    np.testing.assert_array_equal(means, [value, value])


def test_two_values_are_two_gaussians():
    posterior, means = gaussian_posterior(np.array([1.0, 0.0]), 3)
    np.testing.assert_allclose(means, [0, 1], atol=1e-6)
    np.testing.assert_allclose(posterior, [[0, 1], [1, 0]], atol=1e-6)


@settings(max_examples=30)
@given(arrays(np.float64, st.integers(2, 30), elements=st.floats(0, 1)), st.integers(0, 2**32 - 1))
def test_posteriors_of_two_gaussians_are_probabilities(x, seed):
    posterior, means = gaussian_posterior(x, seed)
    assert posterior.shape == (len(x), 2)
    assert ((posterior >= 0) & (posterior <= 1)).all()
    np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-9)
    assert x.min() - 1e-9 <= means[0] <= means[1] <= x.max() + 1e-9


@pytest.mark.parametrize(
    ("x", "shape"),
    [([], "(0,)"), ([0.5], "(1,)"), ([[0.1, 0.2]], "(1, 2)"), ([0.1, math.nan], "(2,)"), ([0.1, math.inf], "(2,)")],
)
def test_values_that_two_gaussians_cannot_fit(x, shape):
    with pytest.raises(ValueError, match="vector") as caught:
        gaussian_posterior(np.array(x), 0)
    assert str(caught.value) == f"values must be a vector of at least two finite numbers, got shape {shape}"


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([2.0, 4.0, 3.0], [0, 1, 0.5]),
        ([-1.0, 0.0, 3.0], [0, 0.25, 1]),
        ([7.0], [0]),
        ([-3.0, -3.0], [0, 0]),
        ([-1.7e308, 1.7e308, 0.0], [0, 1, 0.5]),  # their difference is no finite number
    ],
)
def test_scaling_to_the_unit_interval(x, expected):
    given_values = np.array(x)
    np.testing.assert_allclose(scale_to_unit(given_values), expected, atol=1e-15)
    np.testing.assert_array_equal(given_values, x)
