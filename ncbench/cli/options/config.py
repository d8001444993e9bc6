"""Sweep files (`ncbench run --config sweep.toml`): defaults for the options of `ncbench run`.

Keys are the names of the options, such as `method`, `noise` and `data-root`. Older files have plurals, `ratios`,
`overrides` and underscores instead, which are accepted too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ncbench.errors import UserError, unknown_name

OPTION = "--config"
LIST_KEYS = ("methods", "datasets", "ratios", "protocols", "backbones", "budgets", "seeds")
CHANGE_KEYS = ("overrides", "variants")
SCALAR_KEYS = (
    *("evaluations", "precision", "data_root", "out", "device", "launcher", "jobs", "checkpoint_every", "max_memory"),
    *("dev_rule", "image_features", "captions", "text_features"),
)
MERGED_KEYS = ("overrides", "slurm")
"""Keys whose values are merged with those of the command line, instead of being replaced."""
PARAMETERS = (*LIST_KEYS, *CHANGE_KEYS, *SCALAR_KEYS, "slurm")
OTHER_NAMES = {"ratios": "noise", "overrides": "set"}
KEYS = {OTHER_NAMES.get(p, p.removesuffix("s") if p in (*LIST_KEYS, *CHANGE_KEYS) else p.replace("_", "-")): p
        for p in PARAMETERS}  # fmt: skip
"""The parameter of `ncbench run` that each key of a file sets."""


def load(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Use the values of a sweep file as defaults of the other options; a click callback.

    Raises UserError, with the file and the key, for unknown keys and invalid values.
    """
    if path is not None:
        from ncbench.runtime.files import read_toml

        content = read_toml(path, OPTION)
        options = {str(option.name): option for option in ctx.command.params}
        given: dict[str, Any] = {}
        for key, value in content.items():
            parameter = _parameter(path, key)
            if parameter in given:
                raise UserError(f"{OPTION} {path}: {key} is given twice, under two names")
            given[parameter] = _value(path, key, parameter, value, options, ctx)
        ctx.meta[OPTION] = {key: given.pop(key) for key in MERGED_KEYS if key in given}
        ctx.default_map = {**(ctx.default_map or {}), **given}
    return path


def merged(ctx: click.Context, key: str) -> Any:
    """Return the sweep file's value of a key in MERGED_KEYS, or an empty tuple."""
    return ctx.meta.get(OPTION, {}).get(key, ())


def sweep_file(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a sweep file that reproduces the options of `ncbench run`."""
    from ncbench.budget import Budget

    found: dict[str, Any] = {}
    for key, parameter in KEYS.items():
        value = params[parameter]
        if key == "budget":
            value = [budget.text if isinstance(budget, Budget) else str(budget) for budget in value]
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Path):
            value = str(value)
        if value is not None and value not in ([], {}):
            found[key] = value
    return found


def _parameter(path: Path, key: str) -> str:
    """Return the parameter that a key of the file sets, also one of an older file."""
    known = {**KEYS, **{parameter: parameter for parameter in PARAMETERS}}
    try:
        return known[key]
    except KeyError:
        raise UserError(f"{OPTION} {path}: {unknown_name('key', key, KEYS)}") from None


def _value(
    path: Path, key: str, parameter: str, value: Any, options: Mapping[str, click.Parameter], ctx: click.Context
) -> Any:
    """Return a value of the file in the form that its option accepts."""
    try:
        if parameter == "slurm":
            return _table(value)
        readers = {**dict.fromkeys(LIST_KEYS, _texts), **dict.fromkeys(CHANGE_KEYS, _changes)}
        text = readers.get(parameter, _text)(value)
        if parameter not in CHANGE_KEYS:  # the command parses these
            options[parameter].type_cast_value(ctx, text)
        return text
    except click.BadParameter as error:
        raise UserError(f"{OPTION} {path}: {key}: {error.message}") from error
    except (TypeError, UserError) as error:
        raise UserError(f"{OPTION} {path}: {key}: {error}") from error


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"expected a string or a number, found {value!r}")
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise TypeError("must not be empty; omit the key to use the default")
    return tuple(map(_text, values))


def _changes(value: Any) -> tuple[str, ...]:
    """Return `name.key=value` strings from a list of them, or from tables such as `[set.l2rm]`."""
    if isinstance(value, Mapping) and all(isinstance(table, Mapping) for table in value.values()):
        to_text: Callable[[Any], str] = lambda v: str(v).lower() if isinstance(v, bool) else _text(v)  # noqa: E731
        return tuple(f"{name}.{key}={to_text(v)}" for name, table in value.items() for key, v in table.items())
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise TypeError(f"expected a list of 'name.key=value' or tables by name, found {value!r}")


def _table(value: Any) -> dict[str, Any]:
    from ncbench.sweeps.launchers.slurm_options import flattened, submitit_parameters

    if not isinstance(value, Mapping):
        raise TypeError(f"expected a table, found {value!r}")
    options = flattened(value)
    submitit_parameters(options)
    return options
