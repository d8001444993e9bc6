"""Optimal-transport problems on a cost matrix, solved by POT."""

from __future__ import annotations

import warnings
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncbench.runtime.array_like import Numbers, as_booleans, as_floats
from ncbench.runtime.overhead import timed

Solver: TypeAlias = Literal["sinkhorn", "exact", "published"]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

# Up to this ratio of cost range to regularisation, the kernel exp(-cost / reg) and its scalings fit float64.
MAX_KERNEL_EXPONENT = 200

# Network simplex steps of the linear program, far more than a problem of several thousand rows needs.
SIMPLEX_ITERATIONS = 10_000_000

MASS_TOLERANCE = 1e-9

# From this ratio of cost range to regularisation on, rounding of potentials in float64 exceeds any useful tolerance.
MAX_RESOLVED_RATIO = 1e10


@timed("transport")
def partial_transport(
    cost: Numbers,
    mass: float,
    reg: float,
    forbidden: Numbers | None = None,
    *,
    solver: Solver = "sinkhorn",
    shrink: bool = False,
    tolerance: float = 1e-6,
    max_iterations: int = 10_000,
) -> Tensor:
    """Return the cheapest plan that moves `mass` between images and captions of limited capacity.

    `cost` is (..., n, m), floating point and finite; leading dimensions are separate problems, possibly none. It is a
    tensor of any type and device, an array or a list. Row sums of a plan are at most 1/n, column sums at most 1/m, and
    its entries sum to `mass` in (0, 1]. Mass 1 is full transport. `forbidden` is boolean and broadcasts to `cost`:
    where it is true, the plan is exactly zero. The plan has the shape, dtype and device of `cost` (float64 for lists),
    and no gradient. Computation is in float64 on the CPU, so a plan does not depend on the device.

    The surplus of rows and columns goes to one dummy column and one dummy row of cost zero (Chapel et al., NeurIPS
    2020, proposition 1; with entropy: L2RM, CVPR 2024, after KPG-RL, NeurIPS 2022). Solvers:

    * "sinkhorn": the entropic problem with regularisation `reg` (in units of cost; the entropy includes the dummies),
      to convergence: bounds and mass hold within `tolerance`, the L2 norm over columns of the marginal error. Where
      `reg` is less than 1e-10 of the range of the costs, its limit, which is "exact".
    * "exact": the linear program without entropy. Ignores `reg`.
    * "published": the iteration of L2RM's released code, to reproduce its numbers. It stops once the row potentials
      change by less than 1e-3 (L2 norm), so bounds do not hold, and a few per cent more than `mass` is moved. Ignores
      `tolerance` and `max_iterations`.

    Raises ValueError for arguments out of range, if `forbidden` leaves room for less than `mass`, and if "published"
    overflows. With `shrink`, as much as there is room for is moved instead, possibly nothing.
    Warns (RuntimeWarning) if "sinkhorn" has not converged after `max_iterations`; the plan is then the last iterate.

    >>> cost = torch.tensor([[0.0, 0.9], [0.8, 0.1]])
    >>> partial_transport(cost, mass=0.5, reg=0.1, solver="exact")
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    """
    given = cost if isinstance(cost, Tensor) else torch.from_numpy(as_floats("cost", cost))
    _check_arguments(given, mass, reg, solver, tolerance, max_iterations)
    costs = given.detach().to(device="cpu", dtype=torch.float64).numpy()
    if not np.isfinite(costs).all():
        raise ValueError("cost must be finite; use forbidden for entries that carry no mass")
    blocked = _broadcast_forbidden(forbidden, given.shape)

    plans = np.empty_like(costs)
    for problem in np.ndindex(costs.shape[:-2]):
        C, F = costs[problem], blocked[problem]
        moved = _possible_mass(F, mass, shrink)
        if moved == 0:
            plans[problem] = 0
        elif solver == "exact":
            plans[problem] = _exact(C, F, moved)
        elif solver == "published":
            plans[problem], _ = _published(C, F, moved, reg)
        else:
            plans[problem], error = _sinkhorn(C, F, moved, reg, tolerance, max_iterations)
            if not error < tolerance:
                message = (
                    f"Sinkhorn did not converge in {max_iterations} iterations at reg {reg:g}: error {error:.1e}; "
                    'raise reg or max_iterations, or use solver="exact"'
                )
                warnings.warn(message, RuntimeWarning, stacklevel=3)  # past `timed`
    return torch.from_numpy(plans).to(device=given.device, dtype=given.dtype)


def _sinkhorn(
    C: Floats, forbidden: Mask, mass: float, reg: float, tolerance: float, max_iterations: int
) -> tuple[Floats, float]:
    """Return the entropic plan and its marginal error."""
    if _range_in_halves(C) > MAX_RESOLVED_RATIO / 2 * reg:
        return _exact(C, forbidden, mass), 0.0
    from ot import sinkhorn  # here, since importing POT takes seconds

    # Costs start at zero: a constant on the real entries, whose total mass is fixed, does not change the plan.
    # No mass moves from dummy to dummy, so exactly `mass` is left for the real entries at any scale of the costs.
    C = C - C.min()
    extended, rows, columns = _extend(np.where(forbidden, np.inf, C), mass, dummy=0, corner=np.inf)
    # The plain iteration gives the same plan as the log-domain one, ten times faster.
    method = "sinkhorn" if C.max() <= MAX_KERNEL_EXPONENT * reg else "sinkhorn_log"
    options = {"method": method, "numItermax": max_iterations, "stopThr": tolerance, "log": True, "warn": False}
    with np.errstate(over="ignore"):  # POT's log holds exponentials of the potentials, even of the log-domain method
        plan, log = sinkhorn(rows, columns, extended, reg, **options)
    return _real_entries(plan, C), float(log["err"][-1])


def _exact(C: Floats, forbidden: Mask, mass: float) -> Floats:
    from ot import emd

    # Rerouting around a forbidden entry uses each row and column at most once, so it is always cheaper than this.
    C = _in_units(C)
    prohibitive = (sum(C.shape) + 2) * (C.max() or 1.0)
    extended, rows, columns = _extend(np.where(forbidden, prohibitive, C), mass, dummy=0, corner=prohibitive)
    plan = _real_entries(emd(rows, columns, extended, numItermax=SIMPLEX_ITERATIONS), C)
    return np.where(forbidden, 0.0, plan)


def _range_in_halves(C: Floats) -> float:
    """Return half the difference of the largest and the smallest cost, which cannot overflow."""
    return float(C.max() / 2 - C.min() / 2)


def _in_units(C: Floats) -> Floats:
    """Return costs that start at zero, scaled to a range between 0.5 and 1 unless they are equal.

    The linear program takes small costs for zero, and large ones overflow. Powers of two change no digit.
    """
    C = np.ldexp(C, -np.frexp(np.abs(C).max())[1])
    C = C - C.min()
    scaled: Floats = np.ldexp(C, -np.frexp(C.max())[1])
    return scaled


def _published(C: Floats, forbidden: Mask, mass: float, reg: float) -> tuple[Floats, int]:
    """Return the plan and the number of iterations of the Sinkhorn loop in L2RM's released code.

    POT's solvers have another stopping criterion. As this loop stops early, the criterion affects its result, and so
    does the dummies' cost, 100 max C, which would not affect a converged plan.
    """
    with np.errstate(all="ignore"):
        plan, iterations = _published_loop(C, forbidden, mass, reg)
    if not np.isfinite(plan).all():
        raise ValueError(f'solver "published" overflows at reg {reg:g} and costs up to {C.max():g}; use "sinkhorn"')
    return plan, iterations


def _published_loop(C: Floats, forbidden: Mask, mass: float, reg: float) -> tuple[Floats, int]:
    dummy = 100 * C.max()
    extended, rows, columns = _extend(np.where(forbidden, np.inf, C), mass, dummy=dummy, corner=2 * dummy + C.max())
    kernel = -extended / reg
    u, v = np.zeros_like(rows), np.zeros_like(columns)  # potentials in units of cost
    change, iterations = np.inf, 0
    while change >= 1e-3 and iterations < 1000:
        before = u
        u = reg * (np.log(rows) - _logsumexp(kernel + v / reg, axis=1))
        v = reg * (np.log(columns) - _logsumexp(kernel + u[:, None] / reg, axis=0))
        change = float(np.linalg.norm(u - before))
        iterations += 1
    return _real_entries(np.exp(kernel + (u[:, None] + v) / reg), C), iterations


def _logsumexp(x: Floats, axis: int) -> Floats:
    """Return log(sum(exp(x))) over `axis`; no slice may be all -inf. SciPy's is several times slower."""
    largest = x.max(axis=axis, keepdims=True)
    total: Floats = np.log(np.exp(x - largest).sum(axis=axis)) + largest.squeeze(axis)
    return total


def _extend(C: Floats, mass: float, dummy: float, corner: float) -> tuple[Floats, Floats, Floats]:
    """Return the cost with a dummy row and column for the surplus, and both marginals."""
    n, m = C.shape
    rows, columns = np.full(n, 1 / n), np.full(m, 1 / m)
    if mass == 1:
        return C, rows, columns
    extended = np.pad(C, (0, 1), constant_values=dummy)
    extended[-1, -1] = corner
    return extended, np.append(rows, 1 - mass), np.append(columns, 1 - mass)


def _real_entries(plan: Floats, C: Floats) -> Floats:
    return plan[: C.shape[0], : C.shape[1]]


def _check_arguments(cost: Tensor, mass: float, reg: float, solver: str, tolerance: float, max_iterations: int) -> None:
    if cost.ndim < 2 or 0 in cost.shape[-2:] or not cost.is_floating_point():
        raise ValueError(f"cost must be floating point (..., n, m), not empty; got {cost.dtype} {tuple(cost.shape)}")
    if not 0 < mass <= 1:
        raise ValueError(f"mass must be in (0, 1], got {mass}")
    if not 0 < reg < float("inf"):
        raise ValueError(f"reg must be positive, got {reg}")
    if not tolerance > 0 or max_iterations < 1:
        raise ValueError(f"tolerance and max_iterations must be positive, got {tolerance} and {max_iterations}")
    if solver not in get_args(Solver):
        raise ValueError(f"solver must be one of {', '.join(get_args(Solver))}; got {solver!r}")


def _broadcast_forbidden(forbidden: Numbers | None, shape: tuple[int, ...]) -> Mask:
    if forbidden is None:
        return np.zeros(shape, dtype=np.bool_)
    blocked = as_booleans("forbidden", forbidden)
    try:
        return np.broadcast_to(blocked, shape)
    except ValueError:
        raise ValueError(f"forbidden {blocked.shape} does not broadcast to cost {tuple(shape)}") from None


def _possible_mass(forbidden: Mask, mass: float, shrink: bool) -> float:
    """Return `mass`, or with `shrink` what a plan can move outside of the forbidden entries, if that is less.

    Without `shrink`, raises ValueError if it is less.
    """
    # The uniform plan without its forbidden entries is feasible. Usually that is enough and saves the linear program.
    if mass <= 1 - forbidden.mean():
        return mass
    from ot import emd2

    # The cost of a full plan that pays for forbidden entries only is the mass that fits nowhere else.
    charge, rows, columns = _extend(forbidden.astype(np.float64), 1, dummy=0, corner=0)
    room = 1 - float(emd2(rows, columns, charge, numItermax=SIMPLEX_ITERATIONS))
    if mass <= room + MASS_TOLERANCE:
        return mass
    if shrink:
        return room if room > MASS_TOLERANCE else 0.0
    raise ValueError(f"forbidden leaves room for a mass of at most {room:.6g}, got {mass:g}")
