"""The Python equivalent of `ncbench run`: run a sweep and return a table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncbench.backbones.precision import Precision
from ncbench.budget import Budget, Paper
from ncbench.data.api import requested
from ncbench.errors import ArgumentError, UserError
from ncbench.method.settings import parse_override
from ncbench.noise.drawing import checked_seed
from ncbench.noise.ratio import Amount, amount_of
from ncbench.records.store import Store
from ncbench.records.table import load_runs
from ncbench.sweeps.grid import Grid, plan_sweep
from ncbench.sweeps.launchers import make_launcher
from ncbench.sweeps.launchers.base import Sweep
from ncbench.sweeps.observers import RunProgress, observing
from ncbench.sweeps.record import record_for

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
    dev_rule: str = "standard",
    image_features: str | None = None,
    captions: str | None = None,
    text_features: str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    launcher: str | None = None,
    jobs: int | None = None,
    progress: bool | Callable[[RunProgress], object] | None = None,
    out: Path | str = "runs",
) -> pd.DataFrame:
    """Run every combination of the arguments, and return their rows of `ncbench.load_runs`.

    Each run is executed in a process of its own, a fork of this one. With `jobs` above 1, or the launcher "processes",
    several run at a time: a script then needs `if __name__ == "__main__":`, as its processes import it. `progress`
    shows bars; by default on a terminal and in a notebook. It may also be a function, which is called with a
    RunProgress.

    Arguments have the names of the options of `ncbench run` and accept the same values: `noise` takes ratios in [0, 1)
    or "natural"; `budget` takes numbers of baseline epochs or strings such as "10m"; backbone and budget default to
    those of the dataset; `set` maps "method.key" to values; each (key, value) pair of `variant` repeats all runs with
    this one change.

    Finished runs in `out` are not repeated. Failed runs are left out of the table with a RuntimeWarning; their
    traceback is in `error.txt` in the run folder. Raises UserError for invalid input before the first run starts, and
    if all runs fail.
    """
    names = requested(_at_least_one("dataset", dataset), dev_rule, image_features, captions, text_features)
    chosen = make_launcher(_launcher(launcher, jobs))
    grid = Grid(
        datasets=names,
        protocols=_at_least_one("protocol", protocol),
        ratios=[amount_of(value) for value in _at_least_one("noise", noise)],
        methods=_at_least_one("method", method),
        backbones=_to_list(backbone),
        budgets=[_budget(value) for value in _to_list(budget)],
        seeds=[checked_seed(value) for value in _at_least_one("seed", seed)],
        evaluations=evaluations,
        overrides=[parse_override(f"{key}={_setting_text(value)}") for key, value in (set or {}).items()],
        variants=[parse_override(f"{key}={_setting_text(value)}", "--variant") for key, value in variant],
        data_root=None if data_root is None else Path(data_root),
        precision=precision,
    )
    chosen.check(device)
    planned, store = plan_sweep(grid), Store(Path(out))
    specs = [run.spec for run in planned]
    sweep = Sweep(grid, planned, store, record_for(store.root, specs), device, jobs)
    with observing(specs, progress) as observer:
        outcomes = list(chosen.launch(sweep, observer))
    for outcome in outcomes:
        if outcome.result is None:
            warnings.warn(f"{outcome.folder}: {outcome.status} ({outcome.message})", RuntimeWarning, stacklevel=2)
    done = [outcome.spec.id for outcome in outcomes if outcome.result is not None]
    if not done:
        raise UserError(f"all runs failed; see error.txt in the run folders in {out}.")
    table = load_runs(out)
    return table[table["id"].isin(done)].reset_index(drop=True)


def _at_least_one(name: str, value: Any) -> list[Any]:
    """Return the values of argument `name` as a list. Raises UserError if it is empty."""
    values = _to_list(value)
    if not values or None in values:
        raise UserError(f"{name} is {value!r}; expected at least one value")
    return values


def _launcher(name: str | None, jobs: int | None) -> str:
    """Return the name of the launcher. Raises ArgumentError for one that does not work from Python."""
    if jobs is not None and (not isinstance(jobs, int) or jobs < 1):
        raise ArgumentError(f"jobs: expected a number of runs of at least 1, found {jobs!r}")
    if name == "slurm":
        raise ArgumentError('launcher: "slurm" needs the command line; use: ncbench run --launcher slurm')
    if name == "here" and (jobs or 1) > 1:
        raise ArgumentError(f'launcher: "here" executes one run at a time, found jobs={jobs}; use "processes"')
    return name or ("here" if jobs in (None, 1) else "processes")


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
