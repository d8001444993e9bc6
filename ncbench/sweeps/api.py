"""The Python equivalent of `ncbench run`: run a sweep and return a table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from ncbench.backbones.precision import Precision
from ncbench.budget import Budget, Paper
from ncbench.errors import UserError
from ncbench.method.settings import parse_override
from ncbench.noise.ratio import Amount, amount_of
from ncbench.records.progress import Progress
from ncbench.records.store import Store
from ncbench.records.table import load_runs
from ncbench.runtime.device import choose_device
from ncbench.sweeps.execution import Outcome, run_sweep
from ncbench.sweeps.fresh_process import execute_apart
from ncbench.sweeps.grid import Grid, plan_sweep

if TYPE_CHECKING:
    import pandas as pd


def run(
    method: str | Sequence[str],
    noise: Amount | Sequence[Amount] = 0.4,
    *,
    dataset: str | Sequence[str] = "scenes",
    protocol: str | Sequence[str] = "shuffle-images",
    backbone: str | Sequence[str] = (),
    budget: float | str | Sequence[float | str] = (),
    seed: int | Sequence[int] = 0,
    set: Mapping[str, object] | None = None,
    variant: Sequence[tuple[str, object]] = (),
    evaluations: int | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    out: Path | str = "runs",
) -> pd.DataFrame:
    """Run every combination of the arguments, and return their rows of `ncbench.load_runs`.

    Each run is executed in a process of its own, a fork of this one.

    Arguments have the names of the options of `ncbench run` and accept the same values: `noise` takes ratios in [0, 1)
    or "natural"; `budget` takes numbers of baseline epochs or strings such as "10m"; backbone and budget default to
    those of the dataset; `set` maps "method.key" to values; each (key, value) pair of `variant` repeats all runs with
    this one change.

    Finished runs in `out` are not repeated. Failed runs are left out of the table with a RuntimeWarning; their
    traceback is in `error.txt` in the run folder. Raises UserError for invalid input before the first run starts, and
    if all runs fail.
    """
    grid = Grid(
        datasets=_at_least_one("dataset", dataset),
        protocols=_at_least_one("protocol", protocol),
        ratios=[amount_of(value) for value in _at_least_one("noise", noise)],
        methods=_at_least_one("method", method),
        backbones=_to_list(backbone),
        budgets=[_budget(value) for value in _to_list(budget)],
        seeds=[_seed(value) for value in _at_least_one("seed", seed)],
        evaluations=evaluations,
        overrides=[parse_override(f"{key}={_setting_text(value)}") for key, value in (set or {}).items()],
        variants=[parse_override(f"{key}={_setting_text(value)}", "--variant") for key, value in variant],
        data_root=None if data_root is None else Path(data_root),
        precision=precision,
    )
    planned = plan_sweep(grid)
    store = Store(Path(out))
    outcomes = list(run_sweep(planned, store, choose_device(device), _NullObserver(), executor=execute_apart))
    for outcome in outcomes:
        if outcome.result is None:
            warnings.warn(f"{outcome.folder}: {outcome.status} ({outcome.error!r})", RuntimeWarning, stacklevel=2)
    done = [outcome.spec.id for outcome in outcomes if outcome.result is not None]
    if not done:
        raise UserError(f"all runs failed; see error.txt in the run folders in {out}.")
    table = load_runs(out)
    return table[table["id"].isin(done)].reset_index(drop=True)


class _NullObserver:
    """A sweep observer that does nothing."""

    def started(self, index: int) -> None:
        pass

    def progressed(self, index: int, progress: Progress) -> None:
        pass

    def ended(self, index: int, outcome: Outcome) -> None:
        pass


def _at_least_one(name: str, value: Any) -> list[Any]:
    """Return the values of argument `name` as a list. Raises UserError if it is empty."""
    values = _to_list(value)
    if not values or None in values:
        raise UserError(f"{name} is {value!r}; expected at least one value")
    return values


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or index(value) < 0:
        raise UserError(f"seed {value!r} is not a non-negative integer")
    return index(value)


def _to_list(value: Any) -> list[Any]:
    """Return a single value, or the distinct values of a sequence in order, as a list."""
    single = isinstance(value, str) or not isinstance(value, Sequence)
    return [value] if single else list(dict.fromkeys(value))


def _budget(value: float | str) -> Budget | Paper:
    text = str(value)
    if text.lower() == "paper":
        return Paper()
    try:
        return Budget.parse(text)
    except ValueError as error:
        raise UserError(str(error)) from error


def _setting_text(value: Any) -> str:
    """Return a setting as written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
