"""Sweep files: `ncbench run --config sweep.toml`, whose keys stand for options that are not given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ncbench.errors import UserError, unknown_name

WHAT = "--config"
LISTS = ("methods", "datasets", "ratios", "protocols", "backbones", "budgets", "seeds")
CHANGES = ("overrides", "variants")
SINGLE = (
    *("evaluations", "precision", "data_root", "out", "device", "launcher", "jobs", "checkpoint_every", "max_memory"),
    *("dev_rule", "image_features", "captions", "text_features"),
)
ADDED = ("overrides", "slurm")
"""What options on the command line are added to, key by key, instead of replacing it whole."""
KEYS = (*LISTS, *CHANGES, *SINGLE, "slurm")


def load(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Take the values of a sweep file as the defaults of the other options; a callback of click.

    Raises UserError, naming the file and the key, for what no option could be given.
    """
    if path is not None:
        from ncbench.runtime.files import read_toml

        content = read_toml(path, WHAT)
        options = {str(option.name): option for option in ctx.command.params}
        given = {key: _value(path, key, value, options, ctx) for key, value in content.items()}
        ctx.meta[WHAT] = {key: given.pop(key) for key in ADDED if key in given}
        ctx.default_map = {**(ctx.default_map or {}), **given}
    return path


def added(ctx: click.Context, key: str) -> Any:
    """Return what the sweep file says of a key in ADDED; an empty tuple where it says nothing."""
    return ctx.meta.get(WHAT, {}).get(key, ())


def resolved(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `ncbench run` as the content of a sweep file that stands for the same sweep."""
    from ncbench.budget import Budget

    found: dict[str, Any] = {}
    for key in KEYS:
        value = params[key]
        if key == "budgets":
            value = [budget.text if isinstance(budget, Budget) else str(budget) for budget in value]
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Path):
            value = str(value)
        if value is not None and value not in ([], {}):
            found[key] = value
    return found


def _value(path: Path, key: str, value: Any, options: Mapping[str, click.Parameter], ctx: click.Context) -> Any:
    """Return a value of the file as its option takes it."""
    if key not in KEYS:
        error = unknown_name("key", key, KEYS)
        raise UserError(f"{WHAT} {path}: {error}")
    try:
        if key == "slurm":
            return _table(value)
        text = {**dict.fromkeys(LISTS, _texts), **dict.fromkeys(CHANGES, _changes)}.get(key, _text)(value)
        if key not in CHANGES:  # these are parsed by the command
            options[key].type_cast_value(ctx, text)
        return text
    except click.BadParameter as error:
        raise UserError(f"{WHAT} {path}: {key}: {error.message}") from error
    except (TypeError, UserError) as error:
        raise UserError(f"{WHAT} {path}: {key}: {error}") from error


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"must be text or a number, found {value!r}.")
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise TypeError("must not be empty; leave it out for the default.")
    return tuple(map(_text, values))


def _changes(value: Any) -> tuple[str, ...]:
    """Return `name.key=value` texts, from a list of such, or from tables of names: `[overrides.l2rm]`."""
    if isinstance(value, Mapping) and all(isinstance(table, Mapping) for table in value.values()):
        said: Callable[[Any], str] = lambda v: str(v).lower() if isinstance(v, bool) else _text(v)  # noqa: E731
        return tuple(f"{name}.{key}={said(v)}" for name, table in value.items() for key, v in table.items())
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise TypeError(f"must be a list of 'name.key=value', or tables of names, found {value!r}.")


def _table(value: Any) -> dict[str, Any]:
    from ncbench.sweeps.launchers.slurm_options import flattened, submitit_parameters

    if not isinstance(value, Mapping):
        raise TypeError(f"must be a table, found {value!r}.")
    options = flattened(value)
    submitit_parameters(options)
    return options
