"""Partial transport: worked examples, plans of the released L2RM code, a linear program by SciPy, and invariants."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import FIXTURES
from scipy.optimize import linprog
from similarities import uniform

from ncbench.method.transport import _published, _sinkhorn, partial_transport

GOLDEN = np.load(FIXTURES / "losses_golden.npz", allow_pickle=False)
SOLVERS = ["sinkhorn", "exact", "published"]

EXAMPLE = torch.tensor([[0.70, 0.38, 0.85], [0.45, 0.80, 0.65], [0.75, 0.60, 0.30]], dtype=torch.float64)
DIAGONAL = torch.eye(3, dtype=torch.bool)
NOTHING = torch.zeros(3, 3, dtype=torch.bool)


def assert_plan(plan, expected, atol=1e-6):
    torch.testing.assert_close(plan, torch.as_tensor(expected, dtype=plan.dtype), rtol=0, atol=atol)


def linear_program(cost, mass, forbidden):
    """The least cost of a partial plan, by SciPy."""
    n, m = cost.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    result = linprog(
        cost.ravel(),
        A_ub=np.vstack([rows, columns]),
        b_ub=np.r_[np.full(n, 1 / n), np.full(m, 1 / m)],
        A_eq=np.ones((1, n * m)),
        b_eq=[mass],
        bounds=[(0, 0 if entry else None) for entry in forbidden.ravel()],
    )
    return result.fun if result.success else None


@pytest.mark.parametrize(
    ("reg", "forbidden", "iterations", "mass", "plan"),
    [
        (0.01, DIAGONAL, 30, 0.138020, [[0, 0.137651, 0], [0.000369, 0, 0], [0, 0, 0]]),
        (0.01, NOTHING, 26, 0.140239, [[0, 0.000142, 0], [0, 0, 0], [0, 0, 0.140097]]),
        (0.07, DIAGONAL, 18, 0.105388, [[0, 0.067249, 0.000103], [0.031937, 0, 0.002019], [0.000484, 0.003597, 0]]),
        (
            0.07,
            NOTHING,
            16,
            0.105467,
            [[0.000296, 0.027151, 0.000029], [0.011084, 0.000071, 0.000529], [0.000127, 0.001022, 0.065157]],
        ),
    ],
)
def test_the_published_loop_on_a_worked_example(reg, forbidden, iterations, mass, plan):
    found, counted = _published(EXAMPLE.numpy(), forbidden.numpy(), 0.1, reg)
    assert counted == iterations
    assert found.sum().item() == pytest.approx(mass, abs=1e-6)
    assert_plan(partial_transport(EXAMPLE, 0.1, reg, forbidden, solver="published"), plan)


def test_converged_plans_of_a_worked_example():
    plan = partial_transport(EXAMPLE, 0.1, 0.07, DIAGONAL, tolerance=1e-10)
    assert_plan(plan, [[0, 0.064098, 0.000097], [0.030075, 0, 0.001890], [0.000453, 0.003387, 0]])
    plan = partial_transport(EXAMPLE, 0.1, 0.01, DIAGONAL, tolerance=1e-10)
    assert_plan(plan, [[0, 0.099815, 0], [0.000185, 0, 0], [0, 0, 0]])


def test_exact_plans_of_a_worked_example():
    assert_plan(partial_transport(EXAMPLE, 0.1, 0.07, DIAGONAL, solver="exact"), [[0, 0.1, 0], [0, 0, 0], [0, 0, 0]])
    assert_plan(partial_transport(EXAMPLE, 0.1, 0.07, solver="exact"), [[0, 0, 0], [0, 0, 0], [0, 0, 0.1]])


@pytest.mark.parametrize("network", ["sgr", "saf"])
@pytest.mark.parametrize(("name", "masked"), [("plan", True), ("plan_unmasked", False)])
def test_plans_of_the_released_code(network, name, masked):
    cost = torch.from_numpy(GOLDEN[f"{network}/cost"])
    expected = torch.from_numpy(GOLDEN[f"{network}/{name}"])
    forbidden = torch.eye(8, dtype=torch.bool) if masked else None
    published = partial_transport(cost, 0.1, 0.07, forbidden, solver="published")
    assert published.dtype == torch.float32
    torch.testing.assert_close(published, expected, rtol=1e-5, atol=1e-9)
    # The released solver stops early, with 3 to 4 % more than the mass asked for.
    converged = partial_transport(cost, 0.1, 0.07, forbidden)
    assert converged.sum().item() == pytest.approx(0.1, abs=1e-6)
    torch.testing.assert_close(converged, expected, rtol=0.05, atol=1e-9)


@settings(max_examples=40)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.floats(0.05, 1),
    st.sampled_from([0.0, 0.3, 0.6]),
    st.integers(0, 2**31),
)
def test_exact_agrees_with_a_linear_program(n, m, mass, density, seed):
    cost = 2 * uniform(n, m, seed=seed) - 1
    forbidden = uniform(n, m, seed=seed + 1) < density
    least = linear_program(cost.numpy(), mass, forbidden.numpy())
    if least is None:
        with pytest.raises(ValueError, match="room"):
            partial_transport(cost, mass, 0.1, forbidden, solver="exact")
        return
    plan = partial_transport(cost, mass, 0.1, forbidden, solver="exact")
    assert (plan * cost).sum().item() == pytest.approx(least, abs=1e-9)
    assert plan.sum().item() == pytest.approx(mass)
    assert not plan[forbidden].any()
    assert plan.sum(dim=1).max() <= 1 / n + 1e-9
    assert plan.sum(dim=0).max() <= 1 / m + 1e-9


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")  # mass 1 with little choice is slow to the last digit
@settings(max_examples=40)
@given(
    st.integers(3, 9),
    st.integers(3, 9),
    st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    st.sampled_from([0.1, 0.2, 1.0]),
    st.integers(0, 2**31),
)
def test_sinkhorn_keeps_mass_and_bounds_and_orders(n, m, mass, reg, seed):
    cost = uniform(n, m, seed=seed)
    forbidden = torch.zeros(n, m, dtype=torch.bool)
    forbidden[0, 0] = True
    plan = partial_transport(cost, mass, reg, forbidden)
    assert plan.min() >= 0
    assert plan[0, 0] == 0
    assert plan.sum().item() == pytest.approx(mass, abs=1e-5)
    assert plan.sum(dim=1).max() <= 1 / n + 1e-5
    assert plan.sum(dim=0).max() <= 1 / m + 1e-5

    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(n, generator=generator), torch.randperm(m, generator=generator)
    shuffled = partial_transport(cost[rows][:, columns], mass, reg, forbidden[rows][:, columns])
    assert_plan(shuffled, plan[rows][:, columns], atol=5e-5)


@pytest.mark.parametrize("mass", [0.1, 0.6, 1.0])
def test_sinkhorn_approaches_the_exact_plan_as_the_regularisation_falls(mass):
    cost = uniform(6, 5)
    forbidden = torch.eye(6, 5, dtype=torch.bool)
    exact = partial_transport(cost, mass, 1.0, forbidden, solver="exact")
    gaps = [
        (partial_transport(cost, mass, reg, forbidden, tolerance=1e-8) - exact).abs().max().item()
        for reg in (0.1, 0.01, 0.001)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-3


@pytest.mark.parametrize("mass", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("ratio", [10, 100, 199])
def test_the_log_domain_gives_the_same_plan(monkeypatch, mass, ratio):
    costs, forbidden = uniform(16, 12).numpy(), np.eye(16, 12, dtype=bool)
    plain, _ = _sinkhorn(costs, forbidden, mass, 1 / ratio, 1e-9, 100_000)
    monkeypatch.setattr("ncbench.method.transport.MAX_KERNEL_EXPONENT", 0)
    logarithmic, _ = _sinkhorn(costs, forbidden, mass, 1 / ratio, 1e-9, 100_000)
    np.testing.assert_allclose(plain, logarithmic, rtol=1e-6, atol=1e-12)


def test_the_scale_of_costs_and_regularisation_is_free():
    cost = uniform(5, 7)
    plan = partial_transport(cost, 0.3, 0.05)
    assert_plan(partial_transport(1e6 * cost - 3e6, 0.3, 0.05e6), plan, atol=1e-6)
    # Costs that do not differ: the plan is uniform, and its mass still right.
    assert_plan(partial_transport(torch.zeros(4, 5), 0.3, 0.05), torch.full((4, 5), 0.3 / 20))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_batch_equals_its_single_problems(solver):
    costs = uniform(2, 3, 4, 6)
    forbidden = torch.eye(4, 6, dtype=torch.bool)
    plans = partial_transport(costs, 0.3, 0.05, forbidden, solver=solver)
    for i in range(2):
        for j in range(3):
            assert_plan(plans[i, j], partial_transport(costs[i, j], 0.3, 0.05, forbidden, solver=solver), atol=0)
    assert not plans[..., forbidden].any()
    assert partial_transport(costs[:0], 0.3, 0.05, solver=solver).shape == (0, 3, 4, 6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 1, 4, 6), (3, 4, 6), (3, 1, 6), (2, 1, 4, 1), (1,)])
def test_forbidden_entries_broadcast_over_problems(solver, shape):
    costs, forbidden = uniform(2, 3, 4, 6), uniform(*shape, seed=2) < 0.2
    spread = forbidden.expand(2, 3, 4, 6)
    plans = partial_transport(costs, 0.3, 0.05, forbidden, solver=solver)
    for place in np.ndindex(2, 3):
        assert_plan(plans[place], partial_transport(costs[place], 0.3, 0.05, spread[place], solver=solver), atol=0)
    assert not plans[spread].any()
    assert not torch.equal(plans[0, 0], plans[1, 2])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_plans_have_the_dtype_of_the_cost_and_no_gradient(solver, dtype):
    cost = uniform(4, 3).to(dtype).T.requires_grad_()  # not contiguous either
    plan = partial_transport(cost, 0.5, 0.1, solver=solver)
    assert plan.dtype == dtype
    assert plan.shape == cost.shape
    assert not plan.requires_grad


@pytest.mark.parametrize("solver", SOLVERS)
def test_full_mass_meets_all_bounds(solver):
    plan = partial_transport(uniform(4, 6), 1.0, 0.2, solver=solver)
    assert_plan(plan.sum(dim=1), [1 / 4] * 4, atol=5e-3 if solver == "published" else 1e-6)
    assert_plan(plan.sum(dim=0), [1 / 6] * 6, atol=5e-3 if solver == "published" else 1e-6)


def test_what_does_not_converge_warns_and_returns_the_last_iterate():
    with pytest.warns(RuntimeWarning, match="did not converge in 20 iterations at reg 0.0001") as caught:
        plan = partial_transport(uniform(20, 20), 0.5, 1e-4, max_iterations=20)
    assert plan.isfinite().all()
    assert caught[0].filename == __file__


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 3, 4)])
def test_no_problems_give_no_plans(solver, shape):
    plan = partial_transport(torch.zeros(shape), mass=0.5, reg=0.1, solver=solver)
    assert plan.shape == shape


@pytest.mark.parametrize("scale", [1e-300, 1e100, 1e300])
@pytest.mark.parametrize("forbidden", [NOTHING, DIAGONAL])
def test_the_exact_plan_does_not_depend_on_the_scale(scale, forbidden):
    cost = uniform(3, 3) - 0.5
    plan = partial_transport(cost, 0.6, 1.0, forbidden, solver="exact")
    assert_plan(partial_transport(cost * scale, 0.6, 1.0, forbidden, solver="exact"), plan)


def test_costs_of_the_whole_range_of_floats():
    cost = (2 * uniform(3, 3) - 1) * 1.7e308
    assert torch.isfinite(cost).all()
    assert_plan(
        partial_transport(cost, 0.6, 1.0, solver="exact"),
        partial_transport(cost / 1.7e308, 0.6, 1.0, solver="exact"),
    )


@pytest.mark.parametrize(("scale", "reg"), [(1, 5e-324), (1, 1e-11), (1e100, 0.05), (1e-300, 5e-324), (1e300, 1e200)])
@pytest.mark.parametrize("mass", [0.6, 1.0])
def test_in_the_limit_of_no_regularisation_the_plan_is_exact(scale, reg, mass):
    cost = uniform(3, 3) * scale
    assert_plan(partial_transport(cost, mass, reg), partial_transport(cost, mass, 1.0, solver="exact"))


@pytest.mark.parametrize("cost", [uniform(3, 3) * 1e-300, torch.full((3, 3), 1e100, dtype=torch.float64)])
def test_costs_far_below_the_regularisation_and_equal_ones_are_spread_evenly(cost):
    assert_plan(partial_transport(cost, 0.6, 0.05), torch.full((3, 3), 0.6 / 9))


def test_the_published_loop_says_where_it_overflows():
    with pytest.raises(ValueError, match=r'solver "published" overflows at reg 4.94066e-324 and costs up to 0\.'):
        partial_transport(uniform(3, 3), 0.5, 5e-324, solver="published")


@pytest.mark.parametrize("form", [lambda cost: cost.tolist(), lambda cost: cost.numpy(), lambda cost: cost])
def test_costs_may_be_arrays_and_lists(form):
    plan = partial_transport(form(EXAMPLE), 0.5, 0.1, form(DIAGONAL))
    assert torch.equal(plan, partial_transport(EXAMPLE, 0.5, 0.1, DIAGONAL))


@pytest.mark.parametrize("solver", SOLVERS)
def test_forbidden_entries_that_leave_too_little_room_are_refused(solver):
    forbidden = torch.zeros(4, 4, dtype=torch.bool)
    forbidden[:3, :2] = True  # rows 0 to 2 share two columns
    cost = uniform(4, 4)
    assert partial_transport(cost, 0.7, 0.1, forbidden, solver=solver).isfinite().all()
    with pytest.raises(ValueError, match=re.escape("room for a mass of at most 0.75, got 0.76")):
        partial_transport(cost, 0.76, 0.1, forbidden, solver=solver)
    with pytest.raises(ValueError, match="room for a mass of at most 0,"):
        partial_transport(cost, 0.1, 0.1, torch.ones(4, 4, dtype=torch.bool), solver=solver)


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")  # a plan without choice is slow to the last digit
@pytest.mark.parametrize("solver", SOLVERS)
def test_on_request_as_much_is_moved_as_there_is_room_for(solver):
    forbidden = torch.zeros(4, 4, 4, dtype=torch.bool)
    forbidden[1, :3, :2] = True  # rows 0 to 2 share two columns
    forbidden[2, :, 1:] = True  # one column for all
    forbidden[3] = True
    plans = partial_transport(uniform(4, 4, 4), 0.9, 0.1, forbidden, solver=solver, shrink=True)
    assert not plans[forbidden].any()
    assert_plan(plans.sum((1, 2)), [0.9, 0.75, 0.25, 0], atol=0.02 if solver == "published" else 1e-4)
    assert_plan(plans[0], partial_transport(uniform(4, 4, 4)[0], 0.9, 0.1, solver=solver), atol=0)


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.2, 0.5, 0.8]), st.integers(0, 2**31))
def test_room_is_the_largest_mass_of_a_linear_program(n, m, density, seed):
    forbidden = uniform(n, m, seed=seed) < density
    largest = linprog(
        -np.ones(n * m),
        A_ub=np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))]),
        b_ub=np.r_[np.full(n, 1 / n), np.full(m, 1 / m)],
        bounds=[(0, 0 if entry else None) for entry in forbidden.numpy().ravel()],
    )
    plan = partial_transport(uniform(n, m), 1.0, 0.1, forbidden, solver="exact", shrink=True)
    assert plan.sum().item() == pytest.approx(-largest.fun, abs=1e-8)
    assert not plan[forbidden].any()


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("mass", {"mass": 0.0}),
        ("mass", {"mass": 1.01}),
        ("mass", {"mass": float("nan")}),
        ("reg", {"reg": 0.0}),
        ("reg", {"reg": float("nan")}),
        ("finite", {"cost": torch.tensor([[1.0, float("nan")]])}),
        ("finite", {"cost": torch.tensor([[1.0, float("inf")]])}),
        ("not empty", {"cost": torch.zeros(3)}),
        ("not empty", {"cost": torch.zeros(0, 3)}),
        ("floating point", {"cost": torch.zeros(3, 3, dtype=torch.int64)}),
        ("boolean", {"forbidden": torch.zeros(3, 3)}),
        ("broadcast", {"forbidden": torch.zeros(2, 3, dtype=torch.bool)}),
        ("solver must be one of sinkhorn, exact, published", {"solver": "simplex"}),
        ("tolerance", {"tolerance": 0.0}),
        ("max_iterations", {"max_iterations": 0}),
    ],
)
def test_arguments_out_of_range_are_refused(message, arguments):
    with pytest.raises(ValueError, match=message):
        partial_transport(**{"cost": EXAMPLE, "mass": 0.1, "reg": 0.1, **arguments})
