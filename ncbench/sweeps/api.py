"""Sweeps from Python: what `ncbench run` does, in this process, with a table instead of words."""

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
from ncbench.sweeps.grid import Grid, plan_sweep

if TYPE_CHECKING:
    import pandas as pd


def run(
    method: str | Sequence[str],
    noise: Amount | Sequence[Amount] = 0.4,
    *,
    dataset: str | Sequence[str] = "scenes",
    protocol: str | Sequence[str] = "shuffle-images",
    backbone: str | Sequence[str] = "sgr",
    budget: float | str | Sequence[float | str] = (),
    seed: int | Sequence[int] = 0,
    settings: Mapping[str, object] | None = None,
    variants: Sequence[tuple[str, object]] = (),
    evaluations: int | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    out: Path | str = "runs",
) -> pd.DataFrame:
    """Run every combination of what is given, one after another in this process, and return their rows of `load_runs`.

    Values are those of the options of `ncbench run`: `noise` are ratios in [0, 1) or "natural", `budget` numbers of
    baseline epochs or texts as "10m" (none: the dataset's own), `settings` maps "method.key" to a value, and each of
    `variants`, such a key and a value, makes every run once more with it. Runs that have a record below `out` are not
    run again.
    A run that fails is left out, with a warning; its traceback is kept in `error.txt` of its folder.
    Raises UserError for bad input, before anything is run, and where every run failed.
    """
    grid = Grid(
        datasets=_several("dataset", dataset),
        protocols=_several("protocol", protocol),
        ratios=[amount_of(value) for value in _several("noise", noise)],
        methods=_several("method", method),
        backbones=_several("backbone", backbone),
        budgets=[_budget(value) for value in _values(budget)],
        seeds=[_seed(value) for value in _several("seed", seed)],
        evaluations=evaluations,
        overrides=[parse_override(f"{key}={_text(value)}") for key, value in (settings or {}).items()],
        variants=[parse_override(f"{key}={_text(value)}", "--variant") for key, value in variants],
        data_root=None if data_root is None else Path(data_root),
        precision=precision,
    )
    planned = plan_sweep(grid)
    outcomes = list(run_sweep(planned, Store(Path(out)), choose_device(device), _Silent()))
    for outcome in outcomes:
        if outcome.result is None:
            warnings.warn(f"{outcome.folder}: {outcome.status} ({outcome.error!r})", RuntimeWarning, stacklevel=2)
    done = [outcome.spec.id for outcome in outcomes if outcome.result is not None]
    if not done:
        raise UserError(f"no run is done; see error.txt in the folders below {out}.")
    table = load_runs(out)
    return table[table["id"].isin(done)].reset_index(drop=True)


class _Silent:
    """Watches a sweep and says nothing."""

    def started(self, index: int) -> None:
        pass

    def progressed(self, index: int, progress: Progress) -> None:
        pass

    def ended(self, index: int, outcome: Outcome) -> None:
        pass


def _several(name: str, value: Any) -> list[Any]:
    """Return the values that were given as `name`, see `_values`. Raises UserError for none."""
    values = _values(value)
    if not values or None in values:
        raise UserError(f"{name} is {value!r}; give at least one value.")
    return values


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or index(value) < 0:
        raise UserError(f"seed {value!r} is not a whole number of at least 0.")
    return index(value)


def _values(value: Any) -> list[Any]:
    """Return one value, or the values of a sequence, each once, in their order."""
    one = isinstance(value, str) or not isinstance(value, Sequence)
    return [value] if one else list(dict.fromkeys(value))


def _budget(value: float | str) -> Budget | Paper:
    text = str(value)
    if text.lower() == "paper":
        return Paper()
    try:
        return Budget.parse(text)
    except ValueError as error:
        raise UserError(f"{error}.") from error


def _text(value: Any) -> str:
    """Return a setting as the command line writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
