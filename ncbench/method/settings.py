"""Settings of methods, and how the command line overrides them: `method.key=value` and `backbone.key=value`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from ncbench.errors import UserError, unknown_name

if TYPE_CHECKING:
    from ncbench.method.base import Method

BACKBONE = "backbone"
# `Sizes.head` is missing: the method chooses it, not the user.
SIZES = {"embed": int, "similarity": int, "word": int, "dropout": float, "lse": float}


@dataclass(frozen=True)
class Override:
    """A `target.key=value` given to `option`; the target is a method or `backbone`."""

    target: str
    key: str
    value: str
    option: str = "--set"


def parse_override(text: str, option: str = "--set", methods: Sequence[str] = ()) -> Override:
    """Return the override in `text`. Raises UserError unless it has the form `target.key=value`.

    `methods` are those that will run, for the hint at a target that is missing.
    """
    name, equals, value = text.partition("=")
    target, dot, key = name.partition(".")
    if not (equals and dot and target and key and value):
        hint = "for example l2rm.reg=0.05"
        if equals and value and not dot and (methods or name in SIZES):
            hint = f"did you mean {BACKBONE if name in SIZES else methods[0]}.{text}?"
        raise UserError(f"{option} {text!r} is not of the form method.key=value, {hint}")
    return Override(target, key, value, option)


def apply_overrides(
    method: type[Method], settings: Mapping[str, object], overrides: Iterable[Override]
) -> dict[str, object]:
    """Return `settings` with the overrides of this method applied. Raises UserError for unknown keys and bad values."""
    return {**settings, **_parsed(method.name, get_type_hints(method.Config), overrides)}


def apply_sizes(scale: Mapping[str, float], overrides: Iterable[Override]) -> dict[str, float]:
    """Return the sizes of a backbone with the overrides of `backbone` applied; errors as for `apply_overrides`."""
    sizes = {**scale, **_parsed(BACKBONE, SIZES, overrides)}
    for key, value in sizes.items():
        if key == "dropout" and not 0 <= value < 1:
            raise UserError(f"--set backbone.dropout={value}: must be at least 0 and below 1")
        if key != "dropout" and value <= 0:
            raise UserError(f"--set backbone.{key}={value}: must be above 0")
    return sizes


def _parsed(target: str, types: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    result = {}
    for override in overrides:
        if override.target == target:
            if override.key not in types:
                raise unknown_name(f"setting of {target}", override.key, types)
            result[override.key] = _parse(types[override.key], override)
    return result


def _parse(wanted: Any, override: Override) -> object:
    where = f"{override.option} {override.target}.{override.key}={override.value}"
    if get_origin(wanted) is Literal:
        choices = get_args(wanted)
        if override.value not in choices:
            raise UserError(f"{where}: must be one of {', '.join(map(str, choices))}")
        return override.value
    if wanted is bool:
        if override.value not in ("true", "false"):
            raise UserError(f"{where}: must be true or false")
        return override.value == "true"
    try:
        value = wanted(override.value)
    except ValueError:
        raise UserError(f"{where}: must be of type {wanted.__name__}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: must be finite")
    result: object = value
    return result


BOUNDS: Mapping[str, Callable[[Any, float], bool]] = {
    "above": operator.gt,
    "at least": operator.ge,
    "at most": operator.le,
}


def setting(
    default: Any,
    meaning: str,
    source: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Declare a hyper-parameter: its default, its meaning (with the unit), and the source of the default.

    Other values must be `above`, `at_least` or `at_most` the given bounds.
    """
    bounds = {"above": above, "at least": at_least, "at most": at_most}
    given = {words: bound for words, bound in bounds.items() if bound is not None}
    return field(default=default, metadata={"meaning": meaning, "source": source, **given})


@dataclass(frozen=True)
class Settings:
    """Base class of a method's Config. Checks types and bounds of the settings; raises ValueError."""

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for entry in fields(self):
            value = getattr(self, entry.name)
            try:
                msgspec.convert(value, types[entry.name])
            except msgspec.ValidationError as error:
                problem = str(error)
                raise ValueError(f"{entry.name}: {problem[0].lower()}{problem[1:]}, found {value!r}") from error
            for words, kept in BOUNDS.items():
                bound = entry.metadata.get(words)
                if bound is not None and not kept(value, bound):
                    raise ValueError(f"{entry.name} must be {words} {bound:g}, found {value}")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """Settings that nearly all published methods have. The defaults are those for Flickr30K."""

    batch_size: int = setting(128, "pairs per update", "SGRAF", at_least=2)
    lr: float = setting(2e-4, "learning rate of Adam", "SGRAF", above=0)
    decay_every: float = setting(
        0.375, "share of the budget between tenfold cuts of lr", "L2RM: 15 of 40 epochs", above=0
    )
    clip: float = setting(2.0, "largest norm of a gradient", "VSE++", above=0)
