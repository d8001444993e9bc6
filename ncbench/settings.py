"""Hyper-parameters from the command line: `method.key=value`, checked against the method's Config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from ncbench.errors import UserError, unknown_name

if TYPE_CHECKING:
    from ncbench.methods import Method


@dataclass(frozen=True)
class Override:
    """One `method.key=value` as given."""

    method: str
    key: str
    value: str


def parse_override(text: str) -> Override:
    """Return the override that `text` states. Raises UserError where it is not `method.key=value`."""
    target, equals, value = text.partition("=")
    method, dot, key = target.partition(".")
    if not (equals and dot and method and key and value):
        raise UserError(f"--set {text!r} is not of the form method.key=value, for example l2rm.reg=0.05.")
    return Override(method, key, value)


def apply_overrides(
    method: type[Method], settings: Mapping[str, object], overrides: Iterable[Override]
) -> dict[str, object]:
    """Return `settings` with the overrides of this method applied. Raises UserError for unknown keys and bad values."""
    types = get_type_hints(method.Config)
    known = [entry.name for entry in fields(method.Config)]
    result = dict(settings)
    for override in overrides:
        if override.method != method.name:
            continue
        if override.key not in known:
            raise unknown_name(f"setting of {method.name}", override.key, known)
        result[override.key] = _parse(types[override.key], override)
    return result


def _parse(wanted: Any, override: Override) -> object:
    where = f"--set {override.method}.{override.key}={override.value}"
    if get_origin(wanted) is Literal:
        choices = get_args(wanted)
        if override.value not in choices:
            raise UserError(f"{where}: must be one of {', '.join(map(str, choices))}.")
        return override.value
    if wanted is bool:
        if override.value not in ("true", "false"):
            raise UserError(f"{where}: must be true or false.")
        return override.value == "true"
    try:
        return wanted(override.value)
    except ValueError:
        raise UserError(f"{where}: must be of type {wanted.__name__}.") from None
